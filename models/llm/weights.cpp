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
    w.final_norm = vector("model.norm.weight", hidden);
    const std::string embedding = "model.embed_tokens.weight", head = "lm_head.weight";
    w.head = matrix({{c_.tie_word_embeddings ? embedding : head, c_.vocab_size}}, hidden, false);
    if (!c_.tie_word_embeddings) {
      const auto [file, info] = tensors_.get(embedding, {c_.vocab_size, hidden});
      w.embedding.resize(c_.vocab_size * hidden);
      pool_.for_chunks(c_.vocab_size, [&](std::size_t row) {
        read_floats(*file, embedding, *info, row * hidden,
                    std::span(w.embedding).subspan(row * hidden, hidden));
      });
      used_.insert(embedding);
      bytes_ += hidden * dtype_bytes(info->dtype);
    }
    refuse_unexpected();
    w.bytes_per_token = bytes_;
    w.hash = hash();
    return w;
  }

 private:
  struct Part {
    std::string name;
    std::uint64_t columns;
  };

  LayerWeights layer(std::uint32_t index) {
    const std::string at = "model.layers." + std::to_string(index) + ".";
    const std::uint64_t q = std::uint64_t{c_.n_q_heads} * c_.head_dim,
                        kv = std::uint64_t{c_.n_kv_heads} * c_.head_dim;
    LayerWeights l;
    l.attention_norm = vector(at + "input_layernorm.weight", c_.hidden_size);
    l.mlp_norm = vector(at + "post_attention_layernorm.weight", c_.hidden_size);
    if (c_.qk_norm) {
      l.q_norm = vector(at + "self_attn.q_norm.weight", c_.head_dim);
      l.k_norm = vector(at + "self_attn.k_norm.weight", c_.head_dim);
    }
    l.qkv = matrix({{at + "self_attn.q_proj.weight", q},
                    {at + "self_attn.k_proj.weight", kv},
                    {at + "self_attn.v_proj.weight", kv}},
                   c_.hidden_size, c_.attention_bias);
    // attention_bias puts a bias on o_proj too, except in qwen2.
    l.o = matrix({{at + "self_attn.o_proj.weight", c_.hidden_size}}, q,
                 c_.attention_bias && c_.architecture != Architecture::kQwen2);
    l.gate_up = matrix({{at + "mlp.gate_proj.weight", c_.intermediate_size},
                        {at + "mlp.up_proj.weight", c_.intermediate_size}},
                       c_.hidden_size, false);
    l.down = matrix({{at + "mlp.down_proj.weight", c_.hidden_size}}, c_.intermediate_size, false);
    return l;
  }

  std::vector<float> vector(const std::string& name, std::uint64_t size) {
    const auto [file, info] = tensors_.get(name, {size});
    std::vector<float> values(size);
    read_floats(*file, name, *info, 0, values);
    take(name, *info);
    return values;
  }

  Matrix matrix(const std::vector<Part>& parts, std::uint64_t k, bool biased) {
    Matrix m;
    m.k = k;
    std::vector<ModelTensors::Found> found;
    for (const Part& part : parts) {
      found.push_back(tensors_.get(part.name, {part.columns, k}));
      take(part.name, *found.back().info);
      m.columns += part.columns;
    }
    const std::size_t panels = (m.columns + kPanel - 1) / kPanel;
    m.panels.resize(panels * k * kPanel);
    pool_.for_chunks(panels, [&](std::size_t p) {
      std::vector<float> row(k);
      for (std::size_t lane = 0; lane < kPanel; ++lane) {
        std::size_t column = p * kPanel + lane, part = 0;
        if (column >= m.columns) break;
        for (; column >= parts[part].columns; ++part) column -= parts[part].columns;
        read_floats(*found[part].file, parts[part].name, *found[part].info, column * k, row);
        for (std::size_t j = 0; j < k; ++j) m.panels[(p * k + j) * kPanel + lane] = row[j];
      }
    });
    if (!biased) return m;
    for (const Part& part : parts) {
      const auto values = vector(part.name.substr(0, part.name.size() - 6) + "bias", part.columns);
      m.bias.insert(m.bias.end(), values.begin(), values.end());
    }
    return m;
  }

  void take(const std::string& name, const TensorInfo& info) {
    used_.insert(name);
    bytes_ += info.end - info.begin;
  }

  // A tensor that nobody asked for would change the result if it were understood.
  void refuse_unexpected() const {
    const auto ends_with = [](const std::string& text, std::string_view end) {
      return text.size() >= end.size() &&
             text.compare(text.size() - end.size(), end.size(), end) == 0;
    };
    for (const auto& [name, found] : tensors_.all()) {
      if (used_.count(name) != 0 || ends_with(name, ".rotary_emb.inv_freq")) continue;
      if (c_.tie_word_embeddings && name == "lm_head.weight") continue;
      throw damaged_error(
          {found.file->path()},
          "tensor '" + name + "' is not part of the model that config.json describes",
          "only tensors of this architecture",
          "check model_type, num_hidden_layers, attention_bias and tie_word_embeddings");
    }
  }

  std::string hash() const {
    std::vector<std::pair<const std::string*, ModelTensors::Found>> list;
    for (const auto& [name, found] : tensors_.all()) list.emplace_back(&name, found);
    std::vector<std::string> lines(list.size());
    pool_.for_chunks(list.size(), [&](std::size_t i) {
      const auto& [file, info] = list[i].second;
      const auto bytes = file->bytes(*info);
      lines[i] = *list[i].first + " " + std::string(dtype_name(info->dtype)) + " " +
                 info->shape_text() + " " + xxh64_hex(bytes.data(), bytes.size()) + "\n";
    });
    std::string text;
    for (const std::string& line : lines) text += line;
    return hash_text(text);
  }

  ModelTensors tensors_;
  const ModelConfig& c_;
  ThreadPool& pool_;
  std::set<std::string> used_;
  std::uint64_t bytes_ = 0;
};

}  // namespace

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
