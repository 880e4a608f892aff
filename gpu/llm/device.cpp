// The CUDA runtime behind device.h.
#include "gpu/llm/device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include "models/error.h"

namespace stoat::gpu {
namespace {

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }

}  // namespace

void check_cuda(int status, const char* what) {
  const auto code = static_cast<cudaError_t>(status);
  if (code == cudaSuccess) return;
  const bool memory = code == cudaErrorMemoryAllocation;
  throw resource_error({"CUDA"}, std::string(what) + ": " + cudaGetErrorString(code),
                       memory ? "more free device memory" : "a working device",
                       memory ? "shorten the context, or use a smaller batch"
                              : "look at the machine's log; --backend cpu needs no device");
}

MemoryState device_memory() {
  MemoryState state;
  check_cuda(cudaMemGetInfo(&state.free, &state.total), "cudaMemGetInfo");
  return state;
}

std::string device_name() {
  int device = 0;
  cudaDeviceProp properties{};
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return properties.name;
}

void ensure_device_memory(std::size_t bytes, const std::string& what) {
  const MemoryState state = device_memory();
  if (bytes <= state.free) return;
  throw resource_error({"CUDA"},
                       what + " needs " + std::to_string(bytes) + " bytes of device memory; " +
                           std::to_string(bytes - state.free) + " bytes are missing",
                       "at most the " + std::to_string(state.free) + " bytes that are free",
                       "shorten the context, use a smaller batch or model, or --backend cpu");
}

DeviceMemory::DeviceMemory(std::size_t bytes) : size_(bytes) {
  check_cuda(cudaMalloc(&data_, std::max<std::size_t>(bytes, 256)), "cudaMalloc");
}
DeviceMemory::~DeviceMemory() {
  if (data_) cudaFree(data_);
}
DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}
void DeviceMemory::clear(Stream stream) const {
  check_cuda(cudaMemsetAsync(data_, 0, size_, native(stream)), "cudaMemsetAsync");
}

PinnedMemory::PinnedMemory(std::size_t bytes) : size_(bytes) {
  check_cuda(cudaHostAlloc(&data_, std::max<std::size_t>(bytes, 256), cudaHostAllocDefault),
             "cudaHostAlloc");
}
PinnedMemory::~PinnedMemory() {
  if (data_) cudaFreeHost(data_);
}
PinnedMemory::PinnedMemory(PinnedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
PinnedMemory& PinnedMemory::operator=(PinnedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

DeviceStream::DeviceStream() {
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  stream_ = stream;
}
DeviceStream::~DeviceStream() {
  if (stream_) cudaStreamDestroy(native(stream_));
}
void DeviceStream::wait() const {
  check_cuda(cudaStreamSynchronize(native(stream_)), "waiting for the device");
}

DeviceEvent::DeviceEvent() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "cudaEventCreate");
  event_ = event;
}
DeviceEvent::~DeviceEvent() {
  if (event_) cudaEventDestroy(event_of(event_));
}
DeviceEvent::DeviceEvent(DeviceEvent&& other) noexcept
    : event_(std::exchange(other.event_, nullptr)) {}
void DeviceEvent::record(Stream stream) const {
  check_cuda(cudaEventRecord(event_of(event_), native(stream)), "cudaEventRecord");
}
void DeviceEvent::wait() const {
  check_cuda(cudaEventSynchronize(event_of(event_)), "waiting for the device");
}
void DeviceEvent::make_wait(Stream stream) const {
  check_cuda(cudaStreamWaitEvent(native(stream), event_of(event_), 0), "cudaStreamWaitEvent");
}
double DeviceEvent::milliseconds_since(const DeviceEvent& begin) const {
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, event_of(begin.event_), event_of(event_)),
             "cudaEventElapsedTime");
  return static_cast<double>(milliseconds);
}

DeviceGraph::~DeviceGraph() {
  if (exec_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(exec_));
}
DeviceGraph::DeviceGraph(DeviceGraph&& other) noexcept
    : exec_(std::exchange(other.exec_, nullptr)) {}
DeviceGraph& DeviceGraph::operator=(DeviceGraph&& other) noexcept {
  std::swap(exec_, other.exec_);
  return *this;
}
void DeviceGraph::begin(Stream stream) {
  check_cuda(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeThreadLocal),
             "begin of a graph");
}
void DeviceGraph::end(Stream stream) {
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamEndCapture(native(stream), &graph), "end of a graph");
  cudaGraphExec_t exec = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  check_cuda(status, "cudaGraphInstantiate");
  if (exec_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(exec_));
  exec_ = exec;
}
void DeviceGraph::launch(Stream stream) const {
  check_cuda(cudaGraphLaunch(static_cast<cudaGraphExec_t>(exec_), native(stream)),
             "cudaGraphLaunch");
}

void copy_to_device(void* to, const void* from, std::size_t bytes, Stream stream) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, native(stream)),
             "copy to the device");
}
void copy_to_host(void* to, const void* from, std::size_t bytes, Stream stream) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, native(stream)),
             "copy from the device");
}
void copy_on_device(void* to, const void* from, std::size_t bytes, Stream stream) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(stream)),
             "copy on the device");
}

}  // namespace stoat::gpu
