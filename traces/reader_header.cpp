// Is it a trace, and what does its header say? (reader_state.h)
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>

#include "traces/reader_state.h"
#include "traces/spool.h"
#include "traces/validate.h"

namespace stoat {

TraceHeader read_header(const Hdf5Input& file) {
  TraceHeader h;
  if (file.text("rng") != "philox4x32-10")
    file.fail("attribute rng: '" + file.text("rng") + "'", "philox4x32-10");
  h.origin = file.text("origin");
  h.model_name = file.text("model_name");
  h.model_config_hash = file.text("model_config_hash");
  h.model_weights_hash = file.text("model_weights_hash");
  h.tokenizer = file.text("tokenizer");
  h.prompt_hash = file.text("prompt_hash");
  h.seed = file.number<std::uint64_t>("seed");
  const std::string score_kind = file.text("score_kind");
  if (score_kind != "exact" && score_kind != "ternary") {
    file.fail("attribute score_kind: '" + score_kind + "'", "exact or ternary");
  }
  h.score_kind = score_kind == "ternary" ? ScoreKind::kTernary : ScoreKind::kExact;
  try {
    h.method = method_from_name(file.text("method"));
    if (h.score_kind == ScoreKind::kTernary) {
      h.ternary.draws = file.number<std::uint32_t>("ternary_draws");
      h.ternary.coupling = coupling_from_name(file.text("ternary_coupling"));
      h.ternary.normaliser = normaliser_from_name(file.text("ternary_normaliser"));
    }
  } catch (const Error& e) {
    if (e.code() == ExitCode::kDamaged) throw;
    file.fail(std::string("an attribute: ") + e.what());
  }
  if (file.has_attribute("S")) {
    h.budgets = file.numbers<std::uint32_t>(file.attribute("S").get(), 65536, "S");
  }
  h.kv_dtype = file.text("kv_dtype");
  h.row_bytes = file.number<std::uint32_t>("row_bytes");
  h.n_layers = file.number<std::uint32_t>("n_layers");
  h.n_q_heads = file.number<std::uint32_t>("n_q_heads");
  h.n_kv_heads = file.number<std::uint32_t>("n_kv_heads");
  h.head_dim = file.number<std::uint32_t>("head_dim");
  h.weight_bytes_per_token = file.number<std::uint64_t>("weight_bytes_per_token");
  const std::string problem = header_problem(h);
  if (!problem.empty()) file.fail("attribute " + problem);
  return h;
}

void refuse_other_files(const std::string& path) {
  struct stat info {};
  const bool exists = ::stat(path.c_str(), &info) == 0;
  if (exists && !S_ISREG(info.st_mode)) {
    throw usage_error({path}, S_ISDIR(info.st_mode) ? "a folder" : "a device, pipe or socket",
                      "a trace, a file made by 'stoat capture' or 'stoat trace'");
  }
  std::ifstream in(path, std::ios::binary);
  if (!in)
    throw usage_error({path}, std::string("cannot be opened: ") + std::strerror(errno), "a trace");
  char head[8] = {};
  in.read(head, sizeof(head));
  const std::string_view first(head, static_cast<std::size_t>(in.gcount()));
  if (first == kSpoolMagic) {
    throw damaged_error(
        {path}, "this is the spool of a recording that was not finished", "a trace",
        fmt::format("turn it into one with 'stoat trace recover {} -o FILE'", path));
  }
  if (first == "\x89HDF\r\n\x1a\n") {
    throw usage_error({path}, "an HDF5 file without the user block of a trace",
                      "a trace made by stoat");
  }
  const std::string problem = seal_problem(path);
  if (problem.empty()) return;
  if (first != "stoat-tr")
    throw usage_error({path}, "not a trace", "a file made by 'stoat capture' or 'stoat trace'");
  throw damaged_error({path}, problem, "a file as it was written",
                      "it was altered or cut; record the trace again, or restore it from a copy");
}

}  // namespace stoat
