// Places on the host where steps' recordings arrive: pinned, few, handed out and given back.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "gpu/llm/device.h"

namespace stoat::gpu {

class RecordSlots : public std::enable_shared_from_this<RecordSlots> {
 public:
  RecordSlots(std::uint32_t count, std::size_t bytes) : events_(count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      memory_.emplace_back(bytes);
      free_.push_back(i);
    }
  }

  std::uint32_t count() const { return static_cast<std::uint32_t>(memory_.size()); }
  const PinnedMemory& memory(std::uint32_t slot) const { return memory_[slot]; }
  const DeviceEvent& copied(std::uint32_t slot) const { return events_[slot]; }

  // Waits until one is free.
  std::uint32_t acquire() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !free_.empty(); });
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  // The slot's bytes; it is free again when the last copy of the pointer is gone.
  std::shared_ptr<const std::byte> hand_out(std::uint32_t slot) {
    return {memory_[slot].as<std::byte>(),
            [self = shared_from_this(), slot](const std::byte*) { self->release(slot); }};
  }

 private:
  void release(std::uint32_t slot) {
    {
      const std::lock_guard lock(mutex_);
      free_.push_back(slot);
    }
    changed_.notify_one();
  }

  std::vector<PinnedMemory> memory_;
  std::vector<DeviceEvent> events_;  // of the copy into each
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint32_t> free_;
};

}  // namespace stoat::gpu
