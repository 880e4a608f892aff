// From the engines' b_transport to a memory that speaks TLM-2.0's four-phase protocol
// (nb_transport, approximately timed), such as DRAMSys.
//
// Cuts a transaction into bursts, keeps at most `window` of them under way, one request phase at a
// time, and returns when the last response has come. Several callers may be inside at once.
#pragma once

#include <tlm.h>
#include <tlm_utils/simple_initiator_socket.h>
#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <systemc>
#include <vector>

#include "models/units.h"

namespace stoat::sim {

class AtBridge final : public sc_core::sc_module, public tlm::tlm_mm_interface {
 public:
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
  void transport(tlm::tlm_generic_payload& payload, sc_core::sc_time& delay);
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
  sc_core::sc_event room_, request_done_;
  std::vector<unsigned char> data_;  // nobody looks at what is in it
  std::vector<std::unique_ptr<Burst>> spare_;
  std::uint64_t read_bursts_ = 0, write_bursts_ = 0;
};

}  // namespace stoat::sim
