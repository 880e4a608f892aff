// From the engines' transactions of many bursts to a memory that takes bursts by TLM-2.0's
// four-phase protocol (nb_transport, approximately timed), such as DRAMSys.
//
// Takes transactions as they come, cuts them into bursts, keeps at most `window` of these under
// way, one request phase at a time, and responds when a transaction's last burst has come.
#pragma once

#ifndef SC_INCLUDE_DYNAMIC_PROCESSES
#define SC_INCLUDE_DYNAMIC_PROCESSES
#endif
#include <tlm.h>
#include <tlm_utils/simple_initiator_socket.h>
#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <systemc>
#include <vector>

#include "models/units.h"

namespace stoat::sim {

class AtBridge final : public sc_core::sc_module, public tlm::tlm_mm_interface {
 public:
  SC_HAS_PROCESS(AtBridge);
  // address: from a byte of the pseudo-channel to one of the bound memory.
  AtBridge(sc_core::sc_module_name name, Bytes burst, std::uint32_t window,
           std::function<std::uint64_t(std::uint64_t)> address);
  ~AtBridge() override;

  tlm_utils::simple_target_socket<AtBridge> target;        // engines
  tlm_utils::simple_initiator_socket<AtBridge> initiator;  // the memory
  std::uint64_t read_bursts() const { return read_bursts_; }
  std::uint64_t write_bursts() const { return write_bursts_; }

 private:
  struct Call;
  struct Burst;
  tlm::tlm_sync_enum forward(tlm::tlm_generic_payload& payload, tlm::tlm_phase& phase,
                             sc_core::sc_time& delay);
  void run();
  void cut(Call& call);
  void respond(Call& call);
  void send(Burst& burst);
  tlm::tlm_sync_enum back(tlm::tlm_generic_payload& payload, tlm::tlm_phase& phase,
                          sc_core::sc_time& delay);
  void finished(Burst& burst, sc_core::sc_time delay);
  void free(tlm::tlm_generic_payload* payload) override;

  std::uint64_t burst_;
  std::uint32_t window_;
  std::function<std::uint64_t(std::uint64_t)> address_;
  std::uint32_t under_way_ = 0;
  tlm::tlm_generic_payload* requesting_ = nullptr;  // its request phase has not ended
  sc_core::sc_event room_, request_done_, asked_;
  std::deque<std::unique_ptr<Call>> calls_;  // those not yet responded to, in order of asking
  std::size_t uncut_ = 0;                    // the last of them
  std::vector<unsigned char> data_;          // nobody looks at what is in it
  std::vector<std::unique_ptr<Burst>> spare_;
  std::uint64_t read_bursts_ = 0, write_bursts_ = 0;
};

}  // namespace stoat::sim
