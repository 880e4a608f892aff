// TLM payloads to requests of the channel model and back.
#include "sim/engine/memory_module.h"

#include <string>

#include "models/error.h"

namespace stoat::sim {

MemoryModule::MemoryModule(sc_core::sc_module_name name, const DramStandard& standard,
                           std::uint32_t outstanding_bursts)
    : sc_module(name), channel_(standard, ChannelOptions{outstanding_bursts}) {
  for (std::uint32_t i = 0; i < standard.pseudo_channels; ++i) {
    sockets_.push_back(std::make_unique<Socket>(("pseudo_channel" + std::to_string(i)).c_str()));
    sockets_.back()->register_b_transport(this, &MemoryModule::transport, static_cast<int>(i));
  }
}

void MemoryModule::transport(int pseudo_channel, tlm::tlm_generic_payload& payload,
                             sc_core::sc_time& delay) {
  auto* extension = payload.get_extension<MemoryExtension>();
  STOAT_ENSURE(extension != nullptr, "a memory transaction lacks its extension");
  MemoryRequest request;
  request.pseudo_channel = static_cast<std::uint32_t>(pseudo_channel);
  request.address = payload.get_address();
  request.size = Bytes(payload.get_data_length());
  request.write = payload.is_write();
  request.partial = request.write && extension->partial;
  request.arrival = now_ps() + Picoseconds(delay.value());
  const std::uint64_t before = channel_.counts(request.pseudo_channel).activates;
  const std::uint64_t reads = channel_.counts(request.pseudo_channel).read_bursts;
  const MemoryReply reply = channel_.access(request);
  extension->activates = channel_.counts(request.pseudo_channel).activates - before;
  extension->changed_bursts =
      request.write ? channel_.counts(request.pseudo_channel).read_bursts - reads : 0;
  extension->first_data = reply.first_data;
  delay = sc_from(reply.done - now_ps());
  payload.set_response_status(tlm::TLM_OK_RESPONSE);
}

}  // namespace stoat::sim
