// See example_memory.h.
#include "sim/engine/external_example/example_memory.h"

#include <tlm_utils/peq_with_cb_and_phase.h>
#include <tlm_utils/simple_target_socket.h>

#include <algorithm>
#include <systemc>
#include <vector>

#include "sim/engine/at_bridge.h"
#include "sim/engine/memory_module.h"

namespace stoat::sim {
namespace {

// Accepts a request at once and responds when its turn and the latency are over.
class Pipe final : public sc_core::sc_module {
 public:
  Pipe(sc_core::sc_module_name name, Picoseconds interval)
      : sc_module(name), socket("socket"), responses_(this, &Pipe::respond), interval_(interval) {
    socket.register_nb_transport_fw(this, &Pipe::forward);
  }
  tlm_utils::simple_target_socket<Pipe> socket;

 private:
  tlm::tlm_sync_enum forward(tlm::tlm_generic_payload& payload, tlm::tlm_phase& phase,
                             sc_core::sc_time& delay) {
    if (phase != tlm::BEGIN_REQ) return tlm::TLM_COMPLETED;  // END_RESP
    payload.acquire();
    const Picoseconds now = now_ps() + Picoseconds(delay.value());
    free_ = std::max(free_, now) + interval_;
    responses_.notify(payload, tlm::BEGIN_RESP, sc_from(free_ + kExampleLatency - now_ps()));
    phase = tlm::END_REQ;
    return tlm::TLM_UPDATED;
  }
  void respond(tlm::tlm_generic_payload& payload, const tlm::tlm_phase&) {
    payload.set_response_status(tlm::TLM_OK_RESPONSE);
    tlm::tlm_phase phase = tlm::BEGIN_RESP;
    sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
    socket->nb_transport_bw(payload, phase, delay);
    payload.release();
  }

  tlm_utils::peq_with_cb_and_phase<Pipe> responses_;
  Picoseconds interval_;
  Picoseconds free_{0};
};

class ExampleMemory final : public MemoryModel {
 public:
  ExampleMemory(const std::string& name, const DramStandard& standard, std::uint32_t window)
      : standard_(standard) {
    const Picoseconds interval = time_of_cycles(standard.burst_cycles, standard.command_clock);
    for (std::uint32_t i = 0; i < standard.pseudo_channels; ++i) {
      const std::string number = name + "_" + std::to_string(i);
      pipes_.push_back(std::make_unique<Pipe>((number + "_pipe").c_str(), interval));
      bridges_.push_back(std::make_unique<AtBridge>((number + "_bridge").c_str(),
                                                    standard.access_size, window,
                                                    [](std::uint64_t address) { return address; }));
      bridges_.back()->initiator.bind(pipes_.back()->socket);
    }
  }
  tlm::tlm_target_socket<32>& target(std::uint32_t i) override { return bridges_.at(i)->target; }
  ChannelCounts finish(Picoseconds) override {
    ChannelCounts counts;
    for (const auto& bridge : bridges_) {
      counts.read_bursts += bridge->read_bursts();
      counts.write_bursts += bridge->write_bursts();
    }
    counts.row_hits = counts.read_bursts + counts.write_bursts;
    counts.bytes_moved = standard_.access_size * counts.row_hits;
    counts.data_bus_busy =
        time_of_cycles(counts.row_hits * standard_.burst_cycles, standard_.command_clock);
    return counts;
  }

 private:
  DramStandard standard_;
  std::vector<std::unique_ptr<Pipe>> pipes_;
  std::vector<std::unique_ptr<AtBridge>> bridges_;
};

}  // namespace

std::unique_ptr<MemoryModel> make_external_memory(const std::string& name,
                                                  const DramStandard& standard, std::uint32_t,
                                                  const DesignPoint& point) {
  return std::make_unique<ExampleMemory>(name, standard, point.outstanding_bursts);
}

}  // namespace stoat::sim
