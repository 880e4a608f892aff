// Helpers of the capture tests.
#include "tests/gpu/fixtures.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "models/sampling/philox.h"

namespace stoat::test {
namespace {

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Collects tensors of fp32 for a safetensors file.
class SafetensorsText {
 public:
  // value(i): the i-th element.
  void add(const std::string& name, std::vector<std::uint32_t> shape,
           const std::function<float(std::size_t)>& value) {
    std::size_t elements = 1;
    std::string dimensions;
    for (const std::uint32_t n : shape) {
      elements *= n;
      dimensions += (dimensions.empty() ? "" : ",") + std::to_string(n);
    }
    const std::size_t begin = data_.size();
    for (std::size_t i = 0; i < elements; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(value(i));
      for (int byte = 0; byte < 4; ++byte) data_ += static_cast<char>(bits >> (8 * byte));
    }
    header_ +=
        (header_.empty() ? "{" : ",") +
        ("\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[" + dimensions + "],\"data_offsets\":[" +
         std::to_string(begin) + "," + std::to_string(data_.size()) + "]}");
  }
  std::string file() const {
    std::string header = header_ + "}";
    while (header.size() % 8 != 0) header += ' ';
    std::string prefix;
    for (int byte = 0; byte < 8; ++byte)
      prefix += static_cast<char>(std::uint64_t{header.size()} >> (8 * byte));
    return prefix + header + data_;
  }

 private:
  std::string header_, data_;
};

std::string config_text(const TinyModel& m) {
  std::stringstream text;
  text
      << R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": )"
      << m.hidden << ", \"num_hidden_layers\": " << m.layers
      << ", \"num_attention_heads\": " << m.q_heads << ", \"num_key_value_heads\": " << m.kv_heads
      << ", \"head_dim\": " << m.head_dim << ", \"intermediate_size\": " << m.intermediate
      << ", \"vocab_size\": " << m.vocab << ", \"max_position_embeddings\": " << m.max_position
      << R"(, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "float32")"
      << (m.byte_tokenizer ? R"(, "stoat_tokenizer": "bytes")" : "") << "}\n";
  return text.str();
}

void add_layer(SafetensorsText& tensors, const TinyModel& m, std::uint32_t layer,
               const std::function<std::function<float(std::size_t)>(double)>& random) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const auto ones = [](std::size_t) { return 1.0F; };
  const double in = 1 / std::sqrt(m.hidden);
  tensors.add(prefix + "input_layernorm.weight", {m.hidden}, ones);
  tensors.add(prefix + "self_attn.q_proj.weight", {m.q_heads * m.head_dim, m.hidden},
              random(m.query_gain * in));
  tensors.add(prefix + "self_attn.k_proj.weight", {m.kv_heads * m.head_dim, m.hidden}, random(in));
  tensors.add(prefix + "self_attn.v_proj.weight", {m.kv_heads * m.head_dim, m.hidden}, random(in));
  tensors.add(prefix + "self_attn.o_proj.weight", {m.hidden, m.q_heads * m.head_dim},
              random(1 / std::sqrt(m.q_heads * m.head_dim)));
  tensors.add(prefix + "post_attention_layernorm.weight", {m.hidden}, ones);
  tensors.add(prefix + "mlp.gate_proj.weight", {m.intermediate, m.hidden}, random(in));
  tensors.add(prefix + "mlp.up_proj.weight", {m.intermediate, m.hidden}, random(in));
  tensors.add(prefix + "mlp.down_proj.weight", {m.hidden, m.intermediate},
              random(1 / std::sqrt(m.intermediate)));
}

}  // namespace

TempFolder::TempFolder() {
  std::string name =
      (std::filesystem::temp_directory_path() / "stoat-capture-test.XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  folder_ = name;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string TempFolder::write(const std::string& name, const std::string& content) const {
  std::ofstream(path(name), std::ios::binary) << content;
  return path(name);
}

std::string write_tiny_model(const TempFolder& folder, const TinyModel& m) {
  std::filesystem::create_directory(folder.path("tiny"));
  SafetensorsText tensors;
  std::uint32_t tensor = 0;
  // Uniform in +-sqrt(3) * deviation, from Philox: the same on every machine.
  const auto random = [&](double deviation) {
    const std::uint32_t own = tensor++;
    return [deviation, own](std::size_t i) {
      const PhiloxBlock block =
          philox4x32_10(PhiloxBlock{{static_cast<std::uint32_t>(i), own, 0, 0}}, 7, 11);
      return static_cast<float>((block.word[0] / 4294967296.0 * 2 - 1) * std::sqrt(3.0) *
                                deviation);
    };
  };
  const auto embedding = random(1.0);
  tensors.add("model.embed_tokens.weight", {m.vocab, m.hidden}, [&](std::size_t i) {
    return m.nan_in_embedding && i == 77 ? std::numeric_limits<float>::quiet_NaN() : embedding(i);
  });
  for (std::uint32_t layer = 0; layer < m.layers; ++layer) add_layer(tensors, m, layer, random);
  tensors.add("model.norm.weight", {m.hidden}, [](std::size_t) { return 1.0F; });
  folder.write("tiny/config.json", config_text(m));
  folder.write("tiny/model.safetensors", tensors.file());
  return folder.path("tiny");
}

std::string sample_text(std::size_t length) {
  std::string text;
  for (std::uint32_t i = 0; text.size() < length; ++i) {
    const std::uint32_t word = philox4x32_10(PhiloxBlock{{i, 0, 0, 0}}, 3, 5).word[0];
    text += static_cast<char>('a' + word % 26);
    if (word % 7 == 0) text += word % 3 == 0 ? '\n' : ' ';
  }
  text.resize(length);
  return text;
}

CaptureOptions tiny_options(const TempFolder& folder, std::size_t prompt_length) {
  CaptureOptions options;
  options.model = folder.path("tiny");
  if (!std::filesystem::exists(options.model)) write_tiny_model(folder);
  options.prompt_files = {folder.write("prompt.txt", sample_text(prompt_length))};
  options.budget = "16";
  options.max_new = 12;
  options.backend = Backend::kCpu;
  options.threads = 1;
  options.output = folder.path("out.stoat");
  return options;
}

CaptureResult run_quietly(const CaptureOptions& options) { return capture(options, {-1, nullptr}); }

std::string capture_program() { return std::string(STOAT_TEST_BIN_DIR) + "/stoat-capture"; }

int start_program(const TempFolder& folder, const std::vector<std::string>& arguments) {
  const std::string out = folder.path("out.txt"), err = folder.path("err.txt");
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const int pid = ::fork();
  if (pid < 0) throw std::runtime_error("fork failed");
  if (pid == 0) {
    const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    const int err_fd = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::dup2(out_fd, STDOUT_FILENO);
    ::dup2(err_fd, STDERR_FILENO);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  return pid;
}

int wait_for(int pid) {
  int status = 0;
  if (::waitpid(pid, &status, 0) != pid) throw std::runtime_error("waitpid failed");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

ProgramResult run_program(const TempFolder& folder, const std::vector<std::string>& arguments) {
  ProgramResult result;
  result.exit_code = wait_for(start_program(folder, arguments));
  result.out = slurp(folder.path("out.txt"));
  result.err = slurp(folder.path("err.txt"));
  return result;
}

}  // namespace stoat::test
