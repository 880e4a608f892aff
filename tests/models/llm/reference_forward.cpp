#include "tests/models/llm/reference_forward.h"

#include <algorithm>
#include <cmath>

namespace stoat::test {
namespace {

using Row = std::vector<double>;

Row linear(const std::map<std::string, TestTensor>& weights, const std::string& name,
           const Row& x) {
  const TestTensor& w = weights.at(name + ".weight");
  Row y(w.shape[0]);
  for (std::size_t i = 0; i < y.size(); ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < x.size(); ++j)
      sum += static_cast<double>(w.values[i * x.size() + j]) * x[j];
    y[i] = sum;
  }
  const auto bias = weights.find(name + ".bias");
  for (std::size_t i = 0; bias != weights.end() && i < y.size(); ++i)
    y[i] += bias->second.values[i];
  return y;
}

void rms_norm(const TestTensor& weight, double* x, std::size_t n) {
  double squares = 0;
  for (std::size_t i = 0; i < n; ++i) squares += x[i] * x[i];
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
  for (std::size_t i = 0; i < n; ++i) x[i] *= scale * weight.values[i];
}

void rotate(double* x, std::uint32_t head_dim, std::uint32_t position, const Angle& angle) {
  const std::uint32_t half = head_dim / 2;
  for (std::uint32_t j = 0; j < half; ++j) {
    const double c = std::cos(angle(j, position)), s = std::sin(angle(j, position));
    const double a = x[j], b = x[j + half];
    x[j] = a * c - b * s;
    x[j + half] = a * s + b * c;
  }
}

}  // namespace

std::vector<std::vector<double>> reference_logits(const TinyShape& s,
                                                  const std::map<std::string, TestTensor>& weights,
                                                  const std::vector<std::int32_t>& tokens,
                                                  const Angle& angle, const Stored& stored) {
  const std::uint32_t d = s.head_dim, group = s.heads / s.kv_heads;
  // keys[layer][kv_head][position][dim]
  using Cache = std::vector<std::vector<std::vector<Row>>>;
  Cache keys(s.layers, std::vector<std::vector<Row>>(s.kv_heads)), values = keys;
  std::vector<Row> all;
  for (std::uint32_t t = 0; t < tokens.size(); ++t) {
    const auto& table = weights.at("model.embed_tokens.weight").values;
    Row x(table.begin() + static_cast<std::ptrdiff_t>(tokens[t]) * s.hidden,
          table.begin() + static_cast<std::ptrdiff_t>(tokens[t] + 1) * s.hidden);
    for (std::uint32_t layer = 0; layer < s.layers; ++layer) {
      const std::string at = "model.layers." + std::to_string(layer) + ".";
      Row h = x;
      rms_norm(weights.at(at + "input_layernorm.weight"), h.data(), h.size());
      Row q = linear(weights, at + "self_attn.q_proj", h),
          k = linear(weights, at + "self_attn.k_proj", h);
      const Row v = linear(weights, at + "self_attn.v_proj", h);
      for (std::uint32_t i = 0; i < s.heads; ++i) {
        if (s.model_type == "qwen3")
          rms_norm(weights.at(at + "self_attn.q_norm.weight"), &q[i * d], d);
        rotate(&q[i * d], d, t, angle);
      }
      for (std::uint32_t i = 0; i < s.kv_heads; ++i) {
        if (s.model_type == "qwen3")
          rms_norm(weights.at(at + "self_attn.k_norm.weight"), &k[i * d], d);
        rotate(&k[i * d], d, t, angle);
        Row key(d), value(d);
        for (std::uint32_t j = 0; j < d; ++j) {
          key[j] = stored(layer, i, t, j, false, k[i * d + j]);
          value[j] = stored(layer, i, t, j, true, v[i * d + j]);
        }
        keys[layer][i].push_back(key);
        values[layer][i].push_back(value);
      }
      Row attended(s.heads * d, 0.0);
      for (std::uint32_t i = 0; i < s.heads; ++i) {
        const auto &head_keys = keys[layer][i / group], &head_values = values[layer][i / group];
        Row p(t + 1);
        double top = -1e300, total = 0;
        for (std::uint32_t n = 0; n <= t; ++n) {
          double dot = 0;
          for (std::uint32_t j = 0; j < d; ++j) dot += q[i * d + j] * head_keys[n][j];
          p[n] = dot / std::sqrt(static_cast<double>(d));
          top = std::max(top, p[n]);
        }
        for (double& value : p) total += value = std::exp(value - top);
        for (std::uint32_t n = 0; n <= t; ++n) {
          for (std::uint32_t j = 0; j < d; ++j)
            attended[i * d + j] += p[n] / total * head_values[n][j];
        }
      }
      const Row o = linear(weights, at + "self_attn.o_proj", attended);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += o[i];
      h = x;
      rms_norm(weights.at(at + "post_attention_layernorm.weight"), h.data(), h.size());
      Row gate = linear(weights, at + "mlp.gate_proj", h);
      const Row up = linear(weights, at + "mlp.up_proj", h);
      for (std::size_t i = 0; i < gate.size(); ++i)
        gate[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
      const Row down = linear(weights, at + "mlp.down_proj", gate);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += down[i];
    }
    rms_norm(weights.at("model.norm.weight"), x.data(), x.size());
    all.push_back(linear(weights, s.tied ? "model.embed_tokens" : "lm_head", x));
  }
  return all;
}

}  // namespace stoat::test
