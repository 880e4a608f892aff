// The boundary between engines and a memory: TLM-2.0 target sockets, one a pseudo-channel, and what
// was counted. Own channel model and external ones implement it.
//
// An initiator calls b_transport with address, length (whole bursts), direction and a
// MemoryExtension. A model may answer at once with the completion in the delay (loosely timed), or
// block the caller until it is done; then several calls of one socket are under way at the same
// time.
#pragma once

#include <tlm.h>

#include <cstdint>
#include <memory>
#include <string>

#include "models/dram/standard.h"
#include "models/units.h"
#include "sim/memory/channel.h"

namespace stoat::sim {

class MemoryModel {
 public:
  virtual ~MemoryModel() = default;
  virtual tlm::tlm_target_socket<32>& target(std::uint32_t pseudo_channel) = 0;
  virtual bool blocks() const = 0;  // b_transport waits
  virtual void observe(ChannelObserver&) {}
  // Called once, at the end. Models that know no rows count bursts as row hits.
  virtual ChannelCounts finish(Picoseconds end) = 0;
};

// One channel. `name` is free for modules; `index` of all channels.
std::unique_ptr<MemoryModel> make_channel_memory(const std::string& name,
                                                 const DramStandard& standard, std::uint32_t index,
                                                 std::uint32_t outstanding_bursts);

}  // namespace stoat::sim
