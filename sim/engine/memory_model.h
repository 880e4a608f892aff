// The boundary between engines and a memory: TLM-2.0 target sockets, one a pseudo-channel, and what
// was counted. Own channel models and external ones implement it.
//
// An initiator sends BEGIN_REQ by nb_transport_fw with address, length (whole bursts), direction
// and a MemoryExtension; many transactions of a socket may be under way, one request phase at a
// time. A model may answer at once (TLM_COMPLETED, the completion in the delay) or later, with
// BEGIN_RESP by nb_transport_bw, whose delay may lie in the future; the initiator completes the
// call. Responses come in any order. A model with b_transport only works through the adapter of
// tlm_utils::simple_target_socket, one transaction at a time.
#pragma once

#include <tlm.h>

#include <cstdint>
#include <memory>
#include <string>

#include "models/dram/standard.h"
#include "models/units.h"
#include "sim/design_point.h"
#include "sim/memory/channel.h"
#include "sim/memory/controller.h"

namespace stoat::sim {

class MemoryModel {
 public:
  virtual ~MemoryModel() = default;
  virtual tlm::tlm_target_socket<32>& target(std::uint32_t pseudo_channel) = 0;
  virtual void observe(ChannelObserver&) {}
  // Called once, at the end. Models that know no rows count bursts as row hits.
  virtual ChannelCounts finish(Picoseconds end) = 0;
};

// One channel: the model that memory.model names. `name` is free for modules; `index` of all
// channels.
std::unique_ptr<MemoryModel> make_channel_memory(const std::string& name,
                                                 const DramStandard& standard, std::uint32_t index,
                                                 const DesignPoint& point);

// memory.controller.* for this standard. Throws Error (usage).
ControllerOptions controller_options(const DesignPoint& point, const DramStandard& standard);

}  // namespace stoat::sim
