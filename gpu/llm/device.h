// Memory, streams and events of the current CUDA device that free themselves, and CUDA's failures
// as stoat::Error. No CUDA header is needed to include it; a stream is an opaque pointer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "gpu/attention/decode_launch.h"

namespace stoat::gpu {

// Throws Error (resource) with CUDA's words unless `status` (a cudaError_t) is success.
void check_cuda(int status, const char* what);

struct MemoryState {
  std::size_t free = 0, total = 0;  // bytes
};
MemoryState device_memory();
std::string device_name();

// Throws Error (resource) that names the missing bytes when `bytes` are not free. `what` says for
// what.
void ensure_device_memory(std::size_t bytes, const std::string& what);

// Device memory, aligned to 256 bytes.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  explicit DeviceMemory(std::size_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;

  std::size_t size() const { return size_; }
  template <class T = void>
  T* as(std::size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(data_) + byte_offset);
  }
  void clear(Stream stream) const;  // zeros, queued

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

// Host memory that the device copies to and from without waiting.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  explicit PinnedMemory(std::size_t bytes);
  ~PinnedMemory();
  PinnedMemory(PinnedMemory&& other) noexcept;
  PinnedMemory& operator=(PinnedMemory&& other) noexcept;

  std::size_t size() const { return size_; }
  template <class T>
  T* as(std::size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(data_) + byte_offset);
  }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

class DeviceStream {
 public:
  DeviceStream();
  ~DeviceStream();
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;
  Stream get() const { return stream_; }
  void wait() const;  // until all that was queued is done

 private:
  Stream stream_ = nullptr;
};

class DeviceEvent {
 public:
  DeviceEvent();
  ~DeviceEvent();
  DeviceEvent(DeviceEvent&& other) noexcept;
  DeviceEvent& operator=(DeviceEvent&&) = delete;
  void record(Stream stream) const;
  void wait() const;                    // on the host
  void make_wait(Stream stream) const;  // `stream` waits for it
  double milliseconds_since(const DeviceEvent& begin) const;

 private:
  void* event_ = nullptr;
};

// What was queued between begin() and end(), launched again and again.
class DeviceGraph {
 public:
  DeviceGraph() = default;
  ~DeviceGraph();
  DeviceGraph(DeviceGraph&& other) noexcept;
  DeviceGraph& operator=(DeviceGraph&& other) noexcept;
  void begin(Stream stream);
  void end(Stream stream);
  void launch(Stream stream) const;
  bool ready() const { return exec_ != nullptr; }

 private:
  void* exec_ = nullptr;
};

void copy_to_device(void* to, const void* from, std::size_t bytes, Stream stream);
void copy_to_host(void* to, const void* from, std::size_t bytes, Stream stream);
void copy_on_device(void* to, const void* from, std::size_t bytes, Stream stream);

}  // namespace stoat::gpu
