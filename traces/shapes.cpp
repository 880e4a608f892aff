// Reading the table of shapes; weights counted from the published architectures (llama, qwen2,
// qwen3; SwiGLU, RMSNorm).
#include "traces/shapes.h"

#include "models/data_path.h"
#include "models/error.h"
#include "models/table.h"

namespace stoat {

namespace {

std::uint64_t layer_parameters(const ModelShape& s) {
  const std::uint64_t hidden = s.hidden;
  const std::uint64_t q = std::uint64_t{s.n_q_heads} * s.head_dim;
  const std::uint64_t kv = std::uint64_t{s.n_kv_heads} * s.head_dim;
  std::uint64_t count = hidden * q + 2 * hidden * kv + q * hidden;  // projections
  count += 3 * hidden * s.intermediate;                             // gate, up, down
  count += 2 * hidden;                                              // two norms
  if (s.qkv_bias) count += q + 2 * kv;
  if (s.qk_norm) count += 2 * std::uint64_t{s.head_dim};
  return count;
}

}  // namespace

std::uint64_t parameter_count(const ModelShape& s) {
  const std::uint64_t matrix = std::uint64_t{s.vocab} * s.hidden;
  return s.n_layers * layer_parameters(s) + s.hidden + (s.tied ? 1 : 2) * matrix;
}

std::uint64_t decode_weight_bytes(const ModelShape& s, std::uint32_t bytes_per_weight) {
  const std::uint64_t matrix = std::uint64_t{s.vocab} * s.hidden;
  const std::uint64_t read = s.n_layers * layer_parameters(s) + s.hidden + matrix + s.hidden;
  return read * bytes_per_weight;
}

std::vector<ModelShape> model_shapes(const std::string& path) {
  const Table table = Table::read(
      path.empty() ? data_path("llm/shapes.csv") : path,
      {"name", "n_layers", "n_q_heads", "n_kv_heads", "head_dim", "hidden", "intermediate", "vocab",
       "weight_bytes", "source", "qkv_bias", "qk_norm", "tied"});
  std::vector<ModelShape> shapes;
  for (std::size_t row = 0; row < table.size(); ++row) {
    const auto number = [&](const char* column) {
      const std::uint64_t value = table.integer(row, column);
      if (value == 0 || value > (std::uint64_t{1} << 31)) {
        throw usage_error(table.place(row), std::string(column) + " is out of range", "1 to 2^31");
      }
      return static_cast<std::uint32_t>(value);
    };
    const auto flag = [&](const char* column) { return table.integer(row, column) != 0; };
    ModelShape s;
    s.name = table.text(row, "name");
    s.n_layers = number("n_layers");
    s.n_q_heads = number("n_q_heads");
    s.n_kv_heads = number("n_kv_heads");
    s.head_dim = number("head_dim");
    s.hidden = number("hidden");
    s.intermediate = number("intermediate");
    s.vocab = number("vocab");
    s.qkv_bias = flag("qkv_bias");
    s.qk_norm = flag("qk_norm");
    s.tied = flag("tied");
    s.weight_bytes = table.integer(row, "weight_bytes");
    s.source = table.text(row, "source");
    if (s.weight_bytes != decode_weight_bytes(s, 2)) {
      throw usage_error(table.place(row), "weight_bytes is " + std::to_string(s.weight_bytes),
                        std::to_string(decode_weight_bytes(s, 2)) + " as the shape says (bf16)");
    }
    shapes.push_back(s);
  }
  return shapes;
}

ModelShape model_shape(const std::string& name) {
  std::vector<std::string> names;
  for (const ModelShape& shape : model_shapes()) {
    if (shape.name == name) return shape;
    names.push_back(shape.name);
  }
  throw usage_error({}, "unknown model shape '" + name + "'", "a name of llm/shapes.csv",
                    nearest_name_hint(name, names));
}

}  // namespace stoat
