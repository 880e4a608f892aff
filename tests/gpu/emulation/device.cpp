// gpu/llm/device.h and what else the tests of kernels ask a device for, where the CPU is one.
#include "gpu/llm/device.h"

#include <cstring>
#include <new>
#include <utility>

#include "gpu/attention/select_check.h"

namespace stoat::gpu {

void check_cuda(int, const char*) {}

std::string device_obstacle() { return ""; }
std::uint32_t device_multiprocessors() { return 3; }

DeviceMemory::DeviceMemory(std::size_t bytes)
    : data_(::operator new (bytes, std::align_val_t{256})), size_(bytes) {}
DeviceMemory::~DeviceMemory() { ::operator delete (data_, std::align_val_t{256}); }
DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

DeviceStream::DeviceStream() = default;
DeviceStream::~DeviceStream() = default;
void DeviceStream::wait() const {}

void copy_to_device(void* to, const void* from, std::size_t bytes, Stream) {
  std::memcpy(to, from, bytes);
}
void copy_to_host(void* to, const void* from, std::size_t bytes, Stream) {
  std::memcpy(to, from, bytes);
}

}  // namespace stoat::gpu
