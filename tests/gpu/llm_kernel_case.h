// Memory and numbers for the tests of the kernels of gpu/llm. Needs a device.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "gpu/llm/device.h"
#include "models/bf16.h"

namespace stoat::gpu {

class LlmKernel : public testing::Test {
 protected:
  std::vector<Bf16> random_bf16(std::size_t n, float spread = 1) {
    std::vector<Bf16> values(n);
    for (Bf16& value : values) value = to_bf16(spread * normal_(engine_));
    return values;
  }
  std::vector<float> random_floats(std::size_t n, float spread = 1) {
    std::vector<float> values(n);
    for (float& value : values) value = spread * normal_(engine_);
    return values;
  }
  template <class T>
  DeviceMemory upload(const std::vector<T>& values) {
    DeviceMemory memory(values.size() * sizeof(T));
    copy_to_device(memory.as<void>(), values.data(), values.size() * sizeof(T), stream_.get());
    stream_.wait();
    return memory;
  }
  template <class T>
  DeviceMemory poisoned(std::size_t n) {  // all bits set: NaN
    return upload(std::vector<std::uint8_t>(n * sizeof(T), 0xff));
  }
  template <class T>
  std::vector<T> download(const DeviceMemory& memory, std::size_t n) {
    std::vector<T> values(n);
    copy_to_host(values.data(), memory.as<void>(), n * sizeof(T), stream_.get());
    stream_.wait();
    return values;
  }
  DeviceStream stream_;
  std::mt19937 engine_{20261122};
  std::normal_distribution<float> normal_;
};

inline double product(const std::vector<Bf16>& x, const std::vector<Bf16>& w, std::size_t r,
                      std::size_t c, std::size_t k) {
  double sum = 0;
  for (std::size_t j = 0; j < k; ++j)
    sum +=
        static_cast<double>(to_float(x[r * k + j])) * static_cast<double>(to_float(w[c * k + j]));
  return sum;
}

inline double distance(const std::vector<double>& want, const std::vector<float>& found) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - want[i];
    error += difference * difference;
    size += want[i] * want[i];
  }
  return std::sqrt(error / size);  // NaN where one is found
}

inline std::vector<float> widened(const std::vector<Bf16>& values) {
  std::vector<float> wide(values.size());
  std::transform(values.begin(), values.end(), wide.begin(), to_float);
  return wide;
}

}  // namespace stoat::gpu
