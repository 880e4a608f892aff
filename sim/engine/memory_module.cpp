// TLM payloads to requests of the channel models and back.
#include "sim/engine/memory_module.h"

#include <algorithm>
#include <string>

#include "models/error.h"
#include "sim/memory/tick_timing.h"

namespace stoat::sim {

ChannelModule::ChannelModule(sc_core::sc_module_name name, const DramStandard& standard)
    : sc_module(name) {
  for (std::uint32_t i = 0; i < standard.pseudo_channels; ++i) {
    sockets_.push_back(std::make_unique<Socket>(("pseudo_channel" + std::to_string(i)).c_str()));
    sockets_.back()->register_nb_transport_fw(this, &ChannelModule::forward, static_cast<int>(i));
  }
}

tlm::tlm_sync_enum ChannelModule::forward(int pseudo_channel, tlm::tlm_generic_payload& payload,
                                          tlm::tlm_phase& phase, sc_core::sc_time& delay) {
  if (phase != tlm::BEGIN_REQ) return tlm::TLM_COMPLETED;  // END_RESP
  auto* extension = payload.get_extension<MemoryExtension>();
  STOAT_ENSURE(extension != nullptr, "a memory transaction lacks its extension");
  STOAT_ENSURE(delay == sc_core::SC_ZERO_TIME, "requests come in the order of simulated time");
  payload.set_response_status(tlm::TLM_OK_RESPONSE);
  const auto answer = begin(static_cast<std::uint32_t>(pseudo_channel), payload, *extension, delay);
  if (answer == tlm::TLM_UPDATED) phase = tlm::END_REQ;
  return answer;
}

MemoryRequest ChannelModule::request_of(std::uint32_t pseudo_channel,
                                        const tlm::tlm_generic_payload& payload,
                                        const MemoryExtension& extension) const {
  MemoryRequest request;
  request.pseudo_channel = pseudo_channel;
  request.address = payload.get_address();
  request.size = Bytes(payload.get_data_length());
  request.write = payload.is_write();
  request.partial = request.write && extension.partial;
  request.arrival = now_ps();
  return request;
}

// ---- DramChannel

ReservedMemory::ReservedMemory(sc_core::sc_module_name name, const DramStandard& standard,
                               std::uint32_t outstanding_bursts)
    : ChannelModule(name, standard), channel_(standard, ChannelOptions{outstanding_bursts}) {}

tlm::tlm_sync_enum ReservedMemory::begin(std::uint32_t p, tlm::tlm_generic_payload& payload,
                                         MemoryExtension& extension, sc_core::sc_time& delay) {
  const MemoryRequest request = request_of(p, payload, extension);
  const std::uint64_t before = channel_.counts(p).activates;
  const std::uint64_t reads = channel_.counts(p).read_bursts;
  const MemoryReply reply = channel_.access(request);
  extension.activates = channel_.counts(p).activates - before;
  extension.changed_bursts = request.write ? channel_.counts(p).read_bursts - reads : 0;
  extension.first_data = reply.first_data;
  delay = sc_from(reply.done - now_ps());
  return tlm::TLM_COMPLETED;
}

ChannelCounts ReservedMemory::finish(Picoseconds end) {
  channel_.finish(end);
  return channel_.counts();
}

// ---- DramController

FirstReadyMemory::FirstReadyMemory(sc_core::sc_module_name name, const DramStandard& standard,
                                   const ControllerOptions& options)
    : ChannelModule(name, standard), controller_(standard, options) {
  const TickTiming timing(standard);
  const Hertz ticks(2 * standard.command_clock.count());
  read_latency_ = time_of_cycles(timing.to_data[0], ticks);
  write_latency_ = std::min(read_latency_, time_of_cycles(timing.to_data[1], ticks));
  SC_METHOD(look);
  sensitive << look_;
  dont_initialize();
}

tlm::tlm_sync_enum FirstReadyMemory::begin(std::uint32_t p, tlm::tlm_generic_payload& payload,
                                           MemoryExtension& extension, sc_core::sc_time&) {
  const std::uint64_t id = controller_.submit(request_of(p, payload, extension));
  STOAT_ENSURE(id == first_id_ + open_.size(), "requests are numbered in order");
  payload.acquire();
  open_.push_back({&payload, p});
  ++waiting_;
  writes_ += payload.is_write() ? 1 : 0;
  // The next look may already be planned later than a write can take; an earlier time replaces it.
  look_.notify(sc_from(writes_ > 0 ? write_latency_ : read_latency_));
  return tlm::TLM_UPDATED;
}

void FirstReadyMemory::look() {
  const Picoseconds now = now_ps();
  controller_.advance(now);
  controller_.take_completions(completions_);
  for (const Completion& done : completions_) {
    Open& entry = open_[done.id - first_id_];
    tlm::tlm_generic_payload& payload = *entry.payload;
    auto* extension = payload.get_extension<MemoryExtension>();
    extension->first_data = done.first_data;
    extension->activates = done.activates;
    extension->changed_bursts = done.changed_bursts;
    writes_ -= payload.is_write() ? 1 : 0;
    --waiting_;
    entry.payload = nullptr;
    STOAT_ENSURE(done.done >= now, "a completion is known before its data come");
    tlm::tlm_phase phase = tlm::BEGIN_RESP;
    sc_core::sc_time delay = sc_from(done.done - now);
    (*sockets_[entry.pseudo_channel])->nb_transport_bw(payload, phase, delay);
    payload.release();
  }
  while (!open_.empty() && open_.front().payload == nullptr) {
    open_.pop_front();
    ++first_id_;
  }
  if (waiting_ > 0) look_.notify(sc_from(writes_ > 0 ? write_latency_ : read_latency_));
}

ChannelCounts FirstReadyMemory::finish(Picoseconds end) {
  controller_.finish(end);
  return controller_.counts();
}

// ---- by name

ControllerOptions controller_options(const DesignPoint& point, const DramStandard& standard) {
  ControllerOptions options;
  options.queue_bursts = point.queue_bursts;
  options.shared_queue = point.shared_queue;
  options.row_hit_cap = point.row_hit_cap;
  options.page_policy = point.page_rule == PageRule::kOpen     ? PagePolicy::kOpen
                        : point.page_rule == PageRule::kClosed ? PagePolicy::kClosed
                                                               : PagePolicy::kTimeout;
  options.stagger_refresh = point.refresh_staggered;
  options.refresh = point.refresh_per_bank ? RefreshMode::kPerBank : RefreshMode::kAllBank;
  options.write_high = std::min(point.write_high, point.queue_bursts);
  options.write_low = std::min(point.write_low, options.write_high - 1);
  const auto cycles = [&](Picoseconds t) {
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(cycles_until(t, standard.command_clock), ~std::uint32_t{0}));
  };
  options.page_timeout = cycles(point.page_timeout);
  options.power_down_after = cycles(point.power_down_after);
  if (!point.refresh) options.refresh = RefreshMode::kNone;
  check_controller_options(options, standard);
  return options;
}

std::unique_ptr<MemoryModel> make_channel_memory(const std::string& name,
                                                 const DramStandard& standard, std::uint32_t,
                                                 const DesignPoint& point) {
  if (point.memory == MemoryKind::kReserved) {
    return std::make_unique<ReservedMemory>(name.c_str(), standard, point.outstanding_bursts);
  }
  return std::make_unique<FirstReadyMemory>(name.c_str(), standard,
                                            controller_options(point, standard));
}

}  // namespace stoat::sim
