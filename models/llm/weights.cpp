// Names and shapes after Hugging Face's Llama, Qwen2 and Qwen3 classes.
#include "models/llm/weights.h"

#include <algorithm>
#include <set>

#include "models/error.h"
#include "models/hash.h"
#include "models/llm/kernels.h"
#include "models/llm/safetensors.h"

namespace stoat {
namespace {

class Loader {
 public:
  Loader(const std::string& folder, const ModelConfig& config, ThreadPool& pool)
      : tensors_(folder), c_(config), pool_(pool) {}

  Weights load() {
    Weights w;
    const std::uint64_t hidden = c_.hidden_size;
    for (std::uint32_t i = 0; i < c_.n_layers; ++i) w.layers.push_back(layer(i));
    w.final_norm = vector(final_norm_wish(c_));
    w.head = matrix({head_wish(c_)}, {});
    if (!c_.tie_word_embeddings) {
      const TensorWish embedding = embedding_wish(c_);
      const auto [file, info] = tensors_.get(embedding.name, embedding.shape);
      w.embedding.resize(c_.vocab_size * hidden);
      pool_.for_chunks(c_.vocab_size, [&](std::size_t row) {
        read_floats(*file, embedding.name, *info, row * hidden,
                    std::span(w.embedding).subspan(row * hidden, hidden));
      });
      used_.insert(embedding.name);
      bytes_ += hidden * dtype_bytes(info->dtype);
    }
    refuse_unexpected(tensors_, used_, c_);
    w.bytes_per_token = bytes_;
    w.hash = weights_hash(tensors_, pool_);
    return w;
  }

 private:
  LayerWeights layer(std::uint32_t index) {
    const LayerWishes wish = layer_wishes(c_, index);
    LayerWeights l;
    l.attention_norm = vector(wish.attention_norm);
    l.mlp_norm = vector(wish.mlp_norm);
    if (!wish.qk_norm.empty()) {
      l.q_norm = vector(wish.qk_norm[0]);
      l.k_norm = vector(wish.qk_norm[1]);
    }
    l.qkv = matrix({wish.q, wish.k, wish.v}, wish.qkv_bias);
    l.o = matrix({wish.o}, wish.o_bias);
    l.gate_up = matrix({wish.gate, wish.up}, {});
    l.down = matrix({wish.down}, {});
    return l;
  }

  std::vector<float> vector(const TensorWish& wish) {
    const auto [file, info] = tensors_.get(wish.name, wish.shape);
    std::vector<float> values(wish.shape[0]);
    read_floats(*file, wish.name, *info, 0, values);
    take(wish.name, *info);
    return values;
  }

  Matrix matrix(const std::vector<TensorWish>& parts, const std::vector<TensorWish>& biases) {
    Matrix m;
    const std::uint64_t k = m.k = parts[0].shape[1];
    std::vector<ModelTensors::Found> found;
    for (const TensorWish& part : parts) {
      found.push_back(tensors_.get(part.name, part.shape));
      take(part.name, *found.back().info);
      m.columns += part.shape[0];
    }
    const std::size_t panels = (m.columns + kPanel - 1) / kPanel;
    m.panels.resize(panels * k * kPanel);
    pool_.for_chunks(panels, [&](std::size_t p) {
      std::vector<float> row(k);
      for (std::size_t lane = 0; lane < kPanel; ++lane) {
        std::size_t column = p * kPanel + lane, part = 0;
        if (column >= m.columns) break;
        for (; column >= parts[part].shape[0]; ++part) column -= parts[part].shape[0];
        read_floats(*found[part].file, parts[part].name, *found[part].info, column * k, row);
        for (std::size_t j = 0; j < k; ++j) m.panels[(p * k + j) * kPanel + lane] = row[j];
      }
    });
    for (const TensorWish& bias : biases) {
      const auto values = vector(bias);
      m.bias.insert(m.bias.end(), values.begin(), values.end());
    }
    return m;
  }

  void take(const std::string& name, const TensorInfo& info) {
    used_.insert(name);
    bytes_ += info.end - info.begin;
  }

  ModelTensors tensors_;
  const ModelConfig& c_;
  ThreadPool& pool_;
  std::set<std::string> used_;
  std::uint64_t bytes_ = 0;
};

}  // namespace

TensorWish embedding_wish(const ModelConfig& c) {
  return {"model.embed_tokens.weight", {c.vocab_size, c.hidden_size}};
}
TensorWish head_wish(const ModelConfig& c) {
  if (c.tie_word_embeddings) return embedding_wish(c);
  return {"lm_head.weight", {c.vocab_size, c.hidden_size}};
}
TensorWish final_norm_wish(const ModelConfig& c) { return {"model.norm.weight", {c.hidden_size}}; }

LayerWishes layer_wishes(const ModelConfig& c, std::uint32_t layer) {
  const std::string at = "model.layers." + std::to_string(layer) + ".";
  const std::uint64_t q = std::uint64_t{c.n_q_heads} * c.head_dim,
                      kv = std::uint64_t{c.n_kv_heads} * c.head_dim, hidden = c.hidden_size,
                      middle = c.intermediate_size;
  LayerWishes w;
  w.attention_norm = {at + "input_layernorm.weight", {hidden}};
  w.mlp_norm = {at + "post_attention_layernorm.weight", {hidden}};
  w.q = {at + "self_attn.q_proj.weight", {q, hidden}};
  w.k = {at + "self_attn.k_proj.weight", {kv, hidden}};
  w.v = {at + "self_attn.v_proj.weight", {kv, hidden}};
  w.o = {at + "self_attn.o_proj.weight", {hidden, q}};
  w.gate = {at + "mlp.gate_proj.weight", {middle, hidden}};
  w.up = {at + "mlp.up_proj.weight", {middle, hidden}};
  w.down = {at + "mlp.down_proj.weight", {hidden, middle}};
  if (c.qk_norm)
    w.qk_norm = {{at + "self_attn.q_norm.weight", {c.head_dim}},
                 {at + "self_attn.k_norm.weight", {c.head_dim}}};
  if (c.attention_bias)
    w.qkv_bias = {{at + "self_attn.q_proj.bias", {q}},
                  {at + "self_attn.k_proj.bias", {kv}},
                  {at + "self_attn.v_proj.bias", {kv}}};
  // attention_bias puts a bias on o_proj too, except in qwen2.
  if (c.attention_bias && c.architecture != Architecture::kQwen2)
    w.o_bias = {{at + "self_attn.o_proj.bias", {hidden}}};
  return w;
}

void refuse_unexpected(const ModelTensors& tensors, const std::set<std::string>& used,
                       const ModelConfig& config) {
  const auto ends_with = [](const std::string& text, std::string_view end) {
    return text.size() >= end.size() &&
           text.compare(text.size() - end.size(), end.size(), end) == 0;
  };
  for (const auto& [name, found] : tensors.all()) {
    if (used.count(name) != 0 || ends_with(name, ".rotary_emb.inv_freq")) continue;
    if (config.tie_word_embeddings && name == "lm_head.weight") continue;
    throw damaged_error(
        {found.file->path()},
        "tensor '" + name + "' is not part of the model that config.json describes",
        "only tensors of this architecture",
        "check model_type, num_hidden_layers, attention_bias and tie_word_embeddings");
  }
}

std::string weights_hash(const ModelTensors& tensors, ThreadPool& pool) {
  std::vector<std::pair<const std::string*, ModelTensors::Found>> list;
  for (const auto& [name, found] : tensors.all()) list.emplace_back(&name, found);
  std::vector<std::string> lines(list.size());
  pool.for_chunks(list.size(), [&](std::size_t i) {
    const auto& [file, info] = list[i].second;
    const auto bytes = file->bytes(*info);
    lines[i] = *list[i].first + " " + std::string(dtype_name(info->dtype)) + " " +
               info->shape_text() + " " + xxh64_hex(bytes.data(), bytes.size()) + "\n";
  });
  std::string text;
  for (const std::string& line : lines) text += line;
  return hash_text(text);
}

void Weights::embed(std::int32_t token, std::span<float> out) const {
  const auto row = static_cast<std::size_t>(token);
  if (!embedding.empty()) {
    std::copy_n(embedding.begin() + static_cast<std::ptrdiff_t>(row * out.size()), out.size(),
                out.begin());
    return;
  }
  const float* panel = head.panels.data() + row / kPanel * head.k * kPanel + row % kPanel;
  for (std::size_t j = 0; j < out.size(); ++j) out[j] = panel[j * kPanel];
}

Weights read_weights(const std::string& folder, const ModelConfig& config, ThreadPool& pool) {
  return Loader(folder, config, pool).load();
}

}  // namespace stoat
