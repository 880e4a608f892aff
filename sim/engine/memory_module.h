// A DRAM channel behind TLM-2.0 target sockets, one a pseudo-channel: the boundary at which another
// memory model plugs in.
//
// One transaction is a row, a tile or a run of features. It carries no data: only address, length,
// direction and, as an extension, its first-data time back. b_transport annotates the completion in
// the delay and never waits, so requests reach the channel model in the order of simulated time.
#pragma once

#include <tlm.h>
#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <memory>
#include <systemc>
#include <vector>

#include "models/dram/standard.h"
#include "models/units.h"
#include "sim/memory/channel.h"

namespace stoat::sim {

// Rides on a payload: what the engine needs besides the completion time.
class MemoryExtension final : public tlm::tlm_extension<MemoryExtension> {
 public:
  Picoseconds first_data{0};         // absolute time
  std::uint64_t activates = 0;       // row activations this transaction caused
  std::uint64_t changed_bursts = 0;  // bursts read before they were partly overwritten
  bool partial = false;              // in: a write of less than its bursts

  tlm::tlm_extension_base* clone() const override { return new MemoryExtension(*this); }
  void copy_from(const tlm::tlm_extension_base& other) override {
    *this = static_cast<const MemoryExtension&>(other);
  }
};

inline Picoseconds now_ps() { return Picoseconds(sc_core::sc_time_stamp().value()); }
inline sc_core::sc_time sc_from(Picoseconds t) { return sc_core::sc_time::from_value(t.count()); }

class MemoryModule final : public sc_core::sc_module {
 public:
  MemoryModule(sc_core::sc_module_name name, const DramStandard& standard,
               std::uint32_t outstanding_bursts);

  using Socket = tlm_utils::simple_target_socket_tagged<MemoryModule>;
  Socket& socket(std::uint32_t pseudo_channel) { return *sockets_.at(pseudo_channel); }
  DramChannel& channel() { return channel_; }

 private:
  void transport(int pseudo_channel, tlm::tlm_generic_payload& payload, sc_core::sc_time& delay);

  DramChannel channel_;
  std::vector<std::unique_ptr<Socket>> sockets_;  // [pseudo_channels]
};

}  // namespace stoat::sim
