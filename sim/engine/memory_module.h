// A DRAM channel behind TLM-2.0 target sockets, one a pseudo-channel: the boundary at which another
// memory model plugs in (memory_model.h).
//
// One transaction is a row, or a run of rows or features of a tile. It carries no data: only
// address, length, direction and, as an extension, what the engine wants to know back.
#pragma once

#ifndef SC_INCLUDE_DYNAMIC_PROCESSES
#define SC_INCLUDE_DYNAMIC_PROCESSES
#endif
#include <tlm.h>
#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <systemc>
#include <vector>

#include "models/dram/standard.h"
#include "models/units.h"
#include "sim/engine/memory_model.h"

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

// What both own models share: sockets, and payloads turned into requests.
class ChannelModule : public sc_core::sc_module, public MemoryModel {
 public:
  ChannelModule(sc_core::sc_module_name name, const DramStandard& standard);
  tlm::tlm_target_socket<32>& target(std::uint32_t pseudo_channel) override {
    return *sockets_.at(pseudo_channel);
  }

 protected:
  // Returns TLM_COMPLETED with the delay set, or TLM_UPDATED (request taken).
  virtual tlm::tlm_sync_enum begin(std::uint32_t pseudo_channel, tlm::tlm_generic_payload& payload,
                                   MemoryExtension& extension, sc_core::sc_time& delay) = 0;
  MemoryRequest request_of(std::uint32_t pseudo_channel, const tlm::tlm_generic_payload& payload,
                           const MemoryExtension& extension) const;
  using Socket = tlm_utils::simple_target_socket_tagged<ChannelModule>;
  std::vector<std::unique_ptr<Socket>> sockets_;  // [pseudo_channels]

 private:
  tlm::tlm_sync_enum forward(int pseudo_channel, tlm::tlm_generic_payload& payload,
                             tlm::tlm_phase& phase, sc_core::sc_time& delay);
};

// DramChannel: every answer is final at once.
class ReservedMemory final : public ChannelModule {
 public:
  ReservedMemory(sc_core::sc_module_name name, const DramStandard& standard,
                 std::uint32_t outstanding_bursts);
  void observe(ChannelObserver& observer) override { channel_.observe(observer); }
  ChannelCounts finish(Picoseconds end) override;

 private:
  tlm::tlm_sync_enum begin(std::uint32_t pseudo_channel, tlm::tlm_generic_payload& payload,
                           MemoryExtension& extension, sc_core::sc_time& delay) override;
  DramChannel channel_;
};

// DramController: answers when the last column command is placed. Data come at least a read (write)
// latency after their command, so looking once in that time misses no completion.
class FirstReadyMemory final : public ChannelModule {
 public:
  SC_HAS_PROCESS(FirstReadyMemory);
  FirstReadyMemory(sc_core::sc_module_name name, const DramStandard& standard,
                   const ControllerOptions& options);
  void observe(ChannelObserver& observer) override { controller_.observe(observer); }
  ChannelCounts finish(Picoseconds end) override;

 private:
  tlm::tlm_sync_enum begin(std::uint32_t pseudo_channel, tlm::tlm_generic_payload& payload,
                           MemoryExtension& extension, sc_core::sc_time& delay) override;
  void look();

  struct Open {
    tlm::tlm_generic_payload* payload = nullptr;  // null: answered
    std::uint32_t pseudo_channel = 0;
  };
  DramController controller_;
  Picoseconds read_latency_, write_latency_;
  std::deque<Open> open_;  // by id, from first_id_ on
  std::uint64_t first_id_ = 0, waiting_ = 0, writes_ = 0;
  sc_core::sc_event look_;
  std::vector<Completion> completions_;
};

}  // namespace stoat::sim
