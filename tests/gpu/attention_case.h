// A ragged batch on the device, and the same numbers on the host, for the tests of the attention
// kernels. Not a test.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "gpu/attention/decode_launch.h"
#include "models/attention/decode.h"

namespace stoat::gpu {

inline void cuda_check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

// Device memory of n elements; new memory is filled with 0xff (NaN) so that nothing passes by luck.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(std::size_t n) : size_(n) {
    cuda_check(cudaMalloc(reinterpret_cast<void**>(&data_), (n > 0 ? n : 1) * sizeof(T)));
    cuda_check(cudaMemset(data_, 0xff, n * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    cuda_check(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  DeviceArray(DeviceArray&& other) noexcept { *this = std::move(other); }
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  T* get() const { return data_; }
  std::size_t size() const { return size_; }
  std::vector<T> to_host() const {
    std::vector<T> host(size_);
    cuda_check(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

struct Shape {
  std::vector<std::uint32_t> contexts;
  std::uint32_t kv_heads = 1;
  std::uint32_t group = 1;
  std::uint32_t head_dim = 128;
  ElementType element = ElementType::kBf16;
  KvLayout layout = KvLayout::kNhd;
  std::uint32_t page_size = 0;
  float spread = 3;  // standard deviation of the logits

  std::uint32_t q_heads() const { return kv_heads * group; }
};

// What came out of one launch.
struct Result {
  std::vector<float> out;              // [batch, q_heads, head_dim]
  std::vector<float> lse;              // [batch, q_heads]
  std::vector<std::uint16_t> bits;     // out as 16-bit elements, when these were asked for
  std::vector<std::uint32_t> row;      // [batch, q_heads, capacity]
  std::vector<std::uint16_t> count;    // [batch, q_heads, capacity]
  std::vector<std::uint16_t> code;     // [batch, q_heads, tiles, 256]
  std::vector<std::int32_t> exponent;  // [batch, q_heads, tiles]
  std::vector<std::uint64_t> mass;     // [batch, q_heads, tiles]
  std::uint32_t status = 0, lost = 0;
};

class AttentionCase {
 public:
  AttentionCase(const Shape& shape, std::uint64_t seed);

  const Shape& shape() const { return shape_; }
  std::uint32_t batch() const { return static_cast<std::uint32_t>(shape_.contexts.size()); }
  // Change before upload(): one element of K.
  void set_key(std::uint32_t sequence, std::uint32_t kv_head, std::uint32_t row, float value);
  // Makes this case's only sequence a copy of one of another case's (same heads, same head_dim).
  void copy_sequence(const AttentionCase& other, std::uint32_t sequence);
  void upload();

  // Parameters without method; lengths and ids as uploaded.
  DecodeParams params() const;
  Result run(DecodeParams params, bool trace, bool float_out = true,
             std::uint32_t trace_capacity = 0) const;

  std::vector<std::uint32_t> sequence_id;      // [batch], change before upload()
  std::vector<std::uint32_t> device_contexts;  // [batch] what the device is told; as contexts

  // The host's view.
  std::vector<double> query(std::uint32_t sequence, std::uint32_t q_head) const;
  KvRows keys(std::uint32_t sequence, std::uint32_t kv_head) const;
  KvRows values(std::uint32_t sequence, std::uint32_t kv_head) const;
  std::vector<double> logits(std::uint32_t sequence, std::uint32_t q_head) const;
  DrawSite site(const DecodeParams& params, std::uint32_t sequence, std::uint32_t q_head) const;
  std::uint32_t tiles_capacity() const;
  ScoreCodes codes(const Result& result, std::uint32_t sequence, std::uint32_t q_head) const;

 private:
  std::uint32_t max_context() const;
  std::size_t first_row(std::uint32_t sequence, std::uint32_t kv_head) const;
  std::vector<std::uint16_t> arrange(const std::vector<Bf16>& rows) const;

  Shape shape_;
  std::vector<Bf16> q_, k_, v_;  // q [batch, q_heads, d]; k, v [batch][kv_heads, context, d]
  std::vector<std::int32_t> indptr_, indices_, last_page_len_;
  DeviceArray<std::uint16_t> device_q_, device_k_, device_v_;
  DeviceArray<std::uint32_t> device_context_, device_sequence_;
  DeviceArray<std::int32_t> device_indptr_, device_indices_, device_last_;
};

// What `queue` puts on the stream it gets, recorded in a graph and run once; waits for its end.
void run_in_graph(const std::function<void(Stream)>& queue);

// The rows and counts of one head's trace.
std::vector<RowCount> traced_rows(const Result& result, std::size_t head, std::uint32_t capacity);

}  // namespace stoat::gpu
