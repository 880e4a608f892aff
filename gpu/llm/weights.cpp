// Places every tensor in one block of device memory, then fills it.
#include "gpu/llm/weights.h"

#include <cmath>
#include <cstring>
#include <set>
#include <span>

#include "gpu/llm/kernels.h"
#include "models/bf16.h"
#include "models/error.h"
#include "models/llm/safetensors.h"
#include "models/llm/weights.h"

namespace stoat::gpu {
namespace {

constexpr std::size_t kStagingBytes = std::size_t{64} << 20;
constexpr std::size_t kPairRows = 8;  // rows of gate, then of up

// Hands out places in a block; with a null base it only counts.
class Placer {
 public:
  explicit Placer(std::byte* base) : base_(base) {}
  void* matrix(std::uint64_t rows, std::uint64_t columns) { return take(rows * columns * 2); }
  float* vector(std::uint64_t size) { return static_cast<float*>(take(size * sizeof(float))); }
  std::size_t bytes() const { return bytes_; }

 private:
  void* take(std::uint64_t bytes) {
    void* at = base_ ? base_ + bytes_ : nullptr;
    bytes_ += (bytes + 255) / 256 * 256;
    return at;
  }
  std::byte* base_;
  std::size_t bytes_ = 0;
};

ModelPointers place_weights(const ModelConfig& c, Placer& placer) {
  const std::uint64_t q = std::uint64_t{c.n_q_heads} * c.head_dim,
                      kv = std::uint64_t{c.n_kv_heads} * c.head_dim;
  ModelPointers model;
  model.embedding = placer.matrix(c.vocab_size, c.hidden_size);
  model.head = c.tie_word_embeddings ? model.embedding : placer.matrix(c.vocab_size, c.hidden_size);
  model.final_norm = placer.vector(c.hidden_size);
  for (std::uint32_t i = 0; i < c.n_layers; ++i) {
    LayerPointers layer;
    layer.qkv = placer.matrix(q + 2 * kv, c.hidden_size);
    layer.o = placer.matrix(c.hidden_size, q);
    layer.gate_up = placer.matrix(std::uint64_t{2} * c.intermediate_size, c.hidden_size);
    layer.down = placer.matrix(c.hidden_size, c.intermediate_size);
    layer.attention_norm = placer.vector(c.hidden_size);
    layer.mlp_norm = placer.vector(c.hidden_size);
    if (c.qk_norm) {
      layer.q_norm = placer.vector(c.head_dim);
      layer.k_norm = placer.vector(c.head_dim);
    }
    if (c.attention_bias) layer.qkv_bias = placer.vector(q + 2 * kv);
    if (c.attention_bias && c.architecture != Architecture::kQwen2)
      layer.o_bias = placer.vector(c.hidden_size);
    model.layers.push_back(layer);
  }
  return model;
}

// Copies tensors through two pinned buffers: one is filled while the other is on its way.
class Uploader {
 public:
  Uploader(const ModelTensors& tensors, ThreadPool& pool) : tensors_(tensors), pool_(pool) {
    for (Slot& slot : slots_) slot.memory = PinnedMemory(kStagingBytes);
    flag_.clear(stream_.get());
  }

  void vector(const TensorWish& wish, float* to) {
    const auto [file, info] = tensors_.get(wish.name, wish.shape);
    std::vector<float> values(wish.shape[0]);
    read_floats(*file, wish.name, *info, 0, values);
    copy_to_device(to, values.data(), values.size() * sizeof(float), stream_.get());
    stream_.wait();
    take(wish, *info);
  }

  // Rows of the tensor to rows of `to`; `spread` 2: 8 rows, then a gap of 8.
  void matrix(const TensorWish& wish, void* to, std::size_t spread = 1) {
    const auto [file, info] = tensors_.get(wish.name, wish.shape);
    const std::size_t row_bytes = wish.shape[1] * 2;
    const std::size_t step = std::max<std::size_t>(
        kPairRows, kStagingBytes / (spread * row_bytes) / kPairRows * kPairRows);
    if (spread * step * row_bytes > kStagingBytes)
      throw usage_error({file->path()}, "tensor '" + wish.name + "' has rows of " +
                                            std::to_string(row_bytes) + " bytes");
    for (std::size_t row = 0; row < wish.shape[0]; row += step) {
      const std::size_t count = std::min<std::size_t>(step, wish.shape[0] - row);
      Slot& slot = next_slot();
      fill(*file, wish.name, *info, row, count, slot.memory.as<std::uint16_t>());
      auto* target = static_cast<std::byte*>(to) + row * spread * row_bytes;
      if (spread == 1) {
        copy_to_device(target, slot.memory.as<std::byte>(), count * row_bytes, stream_.get());
      } else {
        for (std::size_t r = 0; r < count; r += kPairRows)
          copy_to_device(target + r * spread * row_bytes, slot.memory.as<std::byte>(r * row_bytes),
                         kPairRows * row_bytes, stream_.get());
      }
      slot.done.record(stream_.get());
      slot.used = true;
    }
    take(wish, *info);
  }

  // NaN and infinity in a matrix that is whole on the device: then the host names the element.
  void check_finite(const TensorWish& wish, const void* data, std::uint64_t elements) {
    launch_find_not_finite(data, elements, flag_.as<std::uint32_t>(), stream_.get());
    std::uint32_t found = 0;
    copy_to_host(&found, flag_.as<void>(), sizeof(found), stream_.get());
    stream_.wait();
    if (found == 0) return;
    for (const auto& [name, tensor] : tensors_.all()) {
      std::vector<float> row(1024);
      for (std::uint64_t at = 0; at < tensor.info->elements(); at += row.size()) {
        const auto count = std::min<std::uint64_t>(row.size(), tensor.info->elements() - at);
        read_floats(*tensor.file, name, *tensor.info, at, std::span(row).first(count));
      }
    }
    throw damaged_error({tensors_.path()}, "a number too large for bf16 near '" + wish.name + "'",
                        "finite weights");
  }

  void wait() const { stream_.wait(); }
  const std::set<std::string>& used() const { return used_; }
  std::uint64_t bytes() const { return bytes_; }
  bool rounded() const { return rounded_; }
  void count_row_only(const TensorWish& wish) {  // the embedding: a step reads one row
    const auto info = tensors_.get(wish.name, wish.shape).info;
    bytes_ -= (info->end - info->begin) - wish.shape[1] * dtype_bytes(info->dtype);
  }

 private:
  struct Slot {
    PinnedMemory memory;
    DeviceEvent done;
    bool used = false;
  };

  Slot& next_slot() {
    Slot& slot = slots_[turn_++ % 2];
    if (slot.used) slot.done.wait();
    return slot;
  }

  void fill(const SafetensorsFile& file, const std::string& name, const TensorInfo& info,
            std::size_t first_row, std::size_t rows, std::uint16_t* to) {
    const std::size_t width = info.shape[1];
    if (info.dtype == Dtype::kBf16) {
      const std::byte* from = file.bytes(info).data() + first_row * width * 2;
      const std::size_t chunk = std::size_t{1} << 20, bytes = rows * width * 2;
      pool_.for_chunks((bytes + chunk - 1) / chunk, [&](std::size_t i) {
        std::memcpy(reinterpret_cast<std::byte*>(to) + i * chunk, from + i * chunk,
                    std::min(chunk, bytes - i * chunk));
      });
      return;
    }
    rounded_ = true;
    pool_.for_chunks(rows, [&](std::size_t r) {
      std::vector<float> row(width);
      read_floats(file, name, info, (first_row + r) * width, row);
      for (std::size_t j = 0; j < width; ++j) to[r * width + j] = to_bf16(row[j]).bits;
    });
  }

  void take(const TensorWish& wish, const TensorInfo& info) {
    used_.insert(wish.name);
    bytes_ += info.end - info.begin;
  }

  const ModelTensors& tensors_;
  ThreadPool& pool_;
  DeviceStream stream_;
  DeviceMemory flag_{sizeof(std::uint32_t)};
  Slot slots_[2];
  unsigned turn_ = 0;
  std::set<std::string> used_;
  std::uint64_t bytes_ = 0;
  bool rounded_ = false;
};

void upload_layer(Uploader& up, const LayerWishes& wish, const ModelConfig& c,
                  const LayerPointers& to) {
  const std::uint64_t hidden = c.hidden_size, row = hidden * 2;
  const std::uint64_t q = wish.q.shape[0], kv = wish.k.shape[0];
  auto* qkv = static_cast<std::byte*>(to.qkv);
  up.matrix(wish.q, qkv);
  up.matrix(wish.k, qkv + q * row);
  up.matrix(wish.v, qkv + (q + kv) * row);
  up.check_finite(wish.q, to.qkv, (q + 2 * kv) * hidden);
  up.matrix(wish.o, to.o);
  up.check_finite(wish.o, to.o, hidden * q);
  auto* gate_up = static_cast<std::byte*>(to.gate_up);
  up.matrix(wish.gate, gate_up, 2);
  up.matrix(wish.up, gate_up + kPairRows * row, 2);
  up.check_finite(wish.gate, to.gate_up, std::uint64_t{2} * c.intermediate_size * hidden);
  up.matrix(wish.down, to.down);
  up.check_finite(wish.down, to.down, std::uint64_t{c.intermediate_size} * hidden);
  up.vector(wish.attention_norm, to.attention_norm);
  up.vector(wish.mlp_norm, to.mlp_norm);
  if (to.q_norm) {
    up.vector(wish.qk_norm[0], to.q_norm);
    up.vector(wish.qk_norm[1], to.k_norm);
  }
  if (to.qkv_bias) {
    up.vector(wish.qkv_bias[0], to.qkv_bias);
    up.vector(wish.qkv_bias[1], to.qkv_bias + q);
    up.vector(wish.qkv_bias[2], to.qkv_bias + q + kv);
  }
  if (to.o_bias) up.vector(wish.o_bias[0], to.o_bias);
}

}  // namespace

std::string device_refusal(const ModelConfig& c) {
  if (c.head_dim != 64 && c.head_dim != 128)
    return "head_dim is " + std::to_string(c.head_dim) + "; the device has 64 and 128";
  if (c.group() > kMaxGroup)
    return "a group of " + std::to_string(c.group()) + " query heads a KV head; the device has " +
           std::to_string(kMaxGroup);
  if (c.hidden_size % 8 != 0 || c.intermediate_size % 8 != 0)
    return "hidden_size " + std::to_string(c.hidden_size) + " and intermediate_size " +
           std::to_string(c.intermediate_size) + " must be multiples of 8 on the device";
  return "";
}

std::size_t DeviceWeights::bytes(const ModelConfig& config) {
  Placer counter(nullptr);
  place_weights(config, counter);
  return counter.bytes();
}

DeviceWeights::DeviceWeights(const ModelConfig& config) {
  const std::string why = device_refusal(config);
  if (!why.empty()) throw usage_error({"CUDA"}, why, "", "use --backend cpu");
  ensure_device_memory(bytes(config), "the model's weights");
  memory_ = DeviceMemory(bytes(config));
  Placer placer(memory_.as<std::byte>());
  pointers_ = place_weights(config, placer);
}

DeviceWeights DeviceWeights::load(const std::string& folder, const ModelConfig& config,
                                  ThreadPool& pool) {
  const ModelTensors tensors(folder);
  DeviceWeights weights(config);
  const ModelPointers& to = weights.pointers_;
  Uploader up(tensors, pool);
  const TensorWish embedding = embedding_wish(config);
  const std::uint64_t elements = std::uint64_t{config.vocab_size} * config.hidden_size;
  up.matrix(embedding, to.embedding);
  up.check_finite(embedding, to.embedding, elements);
  if (!config.tie_word_embeddings) {
    up.count_row_only(embedding);
    up.matrix(head_wish(config), to.head);
    up.check_finite(head_wish(config), to.head, elements);
  }
  up.vector(final_norm_wish(config), to.final_norm);
  for (std::uint32_t i = 0; i < config.n_layers; ++i)
    upload_layer(up, layer_wishes(config, i), config, to.layers[i]);
  up.wait();
  refuse_unexpected(tensors, up.used(), config);
  weights.hash_ = weights_hash(tensors, pool);
  weights.bytes_per_token_ = up.bytes();
  weights.rounded_ = up.rounded();
  return weights;
}

DeviceWeights DeviceWeights::random(const ModelConfig& c, std::uint64_t seed) {
  DeviceWeights weights(c);
  const DeviceStream stream;
  std::uint64_t key = seed, total = 0;
  const auto matrix = [&](void* to, std::uint64_t rows, std::uint64_t k, double gain) {
    launch_fill_normal(to, rows * k, static_cast<float>(gain / std::sqrt(static_cast<double>(k))),
                       ++key, stream.get());
    total += rows * k * 2;
  };
  const auto vector = [&](float* to, std::uint64_t size, float value) {
    if (!to) return;
    launch_fill(to, size, value, stream.get());
    total += size * 2;  // as a file would hold it
  };
  const std::uint64_t q = std::uint64_t{c.n_q_heads} * c.head_dim,
                      kv = std::uint64_t{c.n_kv_heads} * c.head_dim, hidden = c.hidden_size;
  const ModelPointers& to = weights.pointers_;
  matrix(to.head, c.vocab_size, hidden, 1);
  if (!c.tie_word_embeddings) {
    matrix(to.embedding, c.vocab_size, hidden, std::sqrt(static_cast<double>(hidden)));
    total -= (c.vocab_size - std::uint64_t{1}) * hidden * 2;
  }
  vector(to.final_norm, hidden, 1);
  for (const LayerPointers& layer : to.layers) {
    matrix(layer.qkv, q + 2 * kv, hidden, 1.5);  // scores of standard deviation near 2
    matrix(layer.o, hidden, q, 0.5);
    matrix(layer.gate_up, std::uint64_t{2} * c.intermediate_size, hidden, 1);
    matrix(layer.down, hidden, c.intermediate_size, 0.5);
    vector(layer.attention_norm, hidden, 1);
    vector(layer.mlp_norm, hidden, 1);
    vector(layer.q_norm, c.head_dim, 1.5F);
    vector(layer.k_norm, c.head_dim, 1.5F);
    vector(layer.qkv_bias, q + 2 * kv, 0.1F);
    vector(layer.o_bias, hidden, 0.1F);
  }
  stream.wait();
  weights.bytes_per_token_ = total;
  weights.hash_ = "random:" + std::to_string(seed);
  return weights;
}

}  // namespace stoat::gpu
