// See blocking_memory.h.
#ifndef SC_INCLUDE_DYNAMIC_PROCESSES
#define SC_INCLUDE_DYNAMIC_PROCESSES  // before the first SystemC header: the socket's adapter
                                      // spawns
#endif
#include "tests/sim/engine/blocking_memory.h"

#include <tlm_utils/simple_target_socket.h>

#include <systemc>
#include <vector>

namespace stoat::sim {
namespace {

class Blocking final : public sc_core::sc_module, public MemoryModel {
 public:
  Blocking(sc_core::sc_module_name name, const DramStandard& standard) : sc_module(name) {
    for (std::uint32_t i = 0; i < standard.pseudo_channels; ++i) {
      sockets_.push_back(std::make_unique<Socket>(("socket" + std::to_string(i)).c_str()));
      sockets_.back()->register_b_transport(this, &Blocking::transport);
    }
    access_ = standard.access_size.count();
  }
  tlm::tlm_target_socket<32>& target(std::uint32_t i) override { return *sockets_.at(i); }
  ChannelCounts finish(Picoseconds) override {
    counts_.row_hits = counts_.read_bursts + counts_.write_bursts;
    return counts_;
  }

 private:
  using Socket = tlm_utils::simple_target_socket<Blocking>;
  void transport(tlm::tlm_generic_payload& payload, sc_core::sc_time& delay) {
    const std::uint64_t bursts = payload.get_data_length() / access_;
    (payload.is_write() ? counts_.write_bursts : counts_.read_bursts) += bursts;
    delay += sc_core::sc_time::from_value(bursts * 10000);
    sc_core::wait(delay);
    delay = sc_core::SC_ZERO_TIME;
    payload.set_response_status(tlm::TLM_OK_RESPONSE);
  }
  std::vector<std::unique_ptr<Socket>> sockets_;
  std::uint64_t access_ = 1;
  ChannelCounts counts_;
};

}  // namespace

std::unique_ptr<MemoryModel> make_blocking_memory(const std::string& name,
                                                  const DramStandard& standard, std::uint32_t,
                                                  const DesignPoint&) {
  return std::make_unique<Blocking>(name.c_str(), standard);
}

}  // namespace stoat::sim
