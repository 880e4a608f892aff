// See at_bridge.h.
#include "sim/engine/at_bridge.h"

#include <algorithm>
#include <utility>

#include "models/error.h"
#include "sim/engine/memory_module.h"

namespace stoat::sim {

// A transaction whose bursts are on their way.
struct AtBridge::Call {
  tlm::tlm_generic_payload* payload = nullptr;
  std::uint64_t left = 0;
  Picoseconds first{~std::uint64_t{0}}, last{0};
};

struct AtBridge::Burst final : tlm::tlm_extension<AtBridge::Burst> {
  tlm::tlm_generic_payload payload;
  Call* call = nullptr;
  tlm::tlm_extension_base* clone() const override { return nullptr; }
  void copy_from(const tlm::tlm_extension_base&) override {}
  void free() override {}  // lives as long as its payload
};

AtBridge::AtBridge(sc_core::sc_module_name name, Bytes burst, std::uint32_t window,
                   std::function<std::uint64_t(std::uint64_t)> address)
    : sc_module(name),
      target("target"),
      initiator("initiator"),
      burst_(burst.count()),
      window_(window),
      address_(std::move(address)),
      data_(burst.count()) {
  target.register_nb_transport_fw(this, &AtBridge::forward);
  initiator.register_nb_transport_bw(this, &AtBridge::back);
  SC_THREAD(run);
}

AtBridge::~AtBridge() {
  for (const auto& burst : spare_) burst->payload.clear_extension(burst.get());
}

tlm::tlm_sync_enum AtBridge::forward(tlm::tlm_generic_payload& payload, tlm::tlm_phase& phase,
                                     sc_core::sc_time&) {
  if (phase != tlm::BEGIN_REQ) return tlm::TLM_COMPLETED;  // END_RESP
  payload.acquire();
  calls_.push_back(std::make_unique<Call>());
  calls_.back()->payload = &payload;
  calls_.back()->left = payload.get_data_length() / burst_;
  ++uncut_;
  asked_.notify();
  phase = tlm::END_REQ;
  return tlm::TLM_UPDATED;
}

void AtBridge::run() {
  for (;;) {
    while (uncut_ == 0) sc_core::wait(asked_);
    cut(*calls_[calls_.size() - uncut_--]);
  }
}

void AtBridge::cut(Call& call) {
  const tlm::tlm_generic_payload& payload = *call.payload;
  const std::uint64_t length = payload.get_data_length();  // the call may end with its last burst
  for (std::uint64_t from = 0; from < length; from += burst_) {
    while (under_way_ >= window_) sc_core::wait(room_);
    while (requesting_ != nullptr) sc_core::wait(request_done_);
    if (spare_.empty()) {
      spare_.push_back(std::make_unique<Burst>());
      spare_.back()->payload.set_extension(spare_.back().get());
      spare_.back()->payload.set_mm(this);
    }
    Burst* burst = spare_.back().release();
    spare_.pop_back();
    burst->call = &call;
    burst->payload.acquire();
    burst->payload.set_command(payload.get_command());
    burst->payload.set_address(address_(payload.get_address() + from));
    burst->payload.set_data_ptr(data_.data());
    burst->payload.set_data_length(static_cast<unsigned>(burst_));
    burst->payload.set_streaming_width(static_cast<unsigned>(burst_));
    burst->payload.set_byte_enable_ptr(nullptr);
    burst->payload.set_response_status(tlm::TLM_INCOMPLETE_RESPONSE);
    ++(payload.is_write() ? write_bursts_ : read_bursts_);
    send(*burst);
  }
}

void AtBridge::respond(Call& call) {
  tlm::tlm_generic_payload& payload = *call.payload;
  if (auto* extension = payload.get_extension<MemoryExtension>()) {
    extension->first_data = call.first;
    extension->activates = extension->changed_bursts = 0;  // not told
  }
  payload.set_response_status(tlm::TLM_OK_RESPONSE);
  tlm::tlm_phase phase = tlm::BEGIN_RESP;
  sc_core::sc_time delay = sc_from(call.last - now_ps());
  target->nb_transport_bw(payload, phase, delay);
  payload.release();
  calls_.erase(std::find_if(calls_.begin(), calls_.end(),
                            [&](const auto& each) { return each.get() == &call; }));
}

void AtBridge::send(Burst& burst) {
  ++under_way_;
  requesting_ = &burst.payload;
  tlm::tlm_phase phase = tlm::BEGIN_REQ;
  sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
  const tlm::tlm_sync_enum answer = initiator->nb_transport_fw(burst.payload, phase, delay);
  if (answer == tlm::TLM_COMPLETED || (answer == tlm::TLM_UPDATED && phase == tlm::BEGIN_RESP)) {
    requesting_ = nullptr;
    finished(burst, delay);
  } else if (answer == tlm::TLM_UPDATED && phase == tlm::END_REQ) {
    if (delay != sc_core::SC_ZERO_TIME) sc_core::wait(delay);
    if (requesting_ == &burst.payload) requesting_ = nullptr;
  }
}

tlm::tlm_sync_enum AtBridge::back(tlm::tlm_generic_payload& payload, tlm::tlm_phase& phase,
                                  sc_core::sc_time& delay) {
  if (requesting_ == &payload && (phase == tlm::END_REQ || phase == tlm::BEGIN_RESP)) {
    requesting_ = nullptr;
    request_done_.notify(delay);
  }
  if (phase != tlm::BEGIN_RESP) return tlm::TLM_ACCEPTED;
  STOAT_ENSURE(payload.is_response_ok(), "the external memory refused a burst");
  auto* burst = payload.get_extension<Burst>();
  finished(*burst, delay);
  phase = tlm::END_RESP;
  return tlm::TLM_COMPLETED;
}

void AtBridge::finished(Burst& burst, sc_core::sc_time delay) {
  Call& call = *burst.call;
  const Picoseconds at = now_ps() + Picoseconds(delay.value());
  call.first = std::min(call.first, at);
  call.last = std::max(call.last, at);
  --under_way_;
  room_.notify(delay);
  burst.payload.release();
  if (--call.left == 0) respond(call);
}

void AtBridge::free(tlm::tlm_generic_payload* payload) {
  spare_.emplace_back(payload->get_extension<Burst>());
}

}  // namespace stoat::sim
