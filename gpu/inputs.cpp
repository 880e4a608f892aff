// Checks on what the command line names. The token file formats are in token_file.cpp.
#include "gpu/inputs.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "models/data_path.h"
#include "models/error.h"
#include "models/files.h"
#include "models/sampling/ruler.h"
#include "models/sampling/selection.h"
#include "traces/spool.h"

namespace stoat {
namespace fs = std::filesystem;
namespace {

// Names of the folders in models/llm that hold a config.json.
std::vector<std::string> shipped_models() {
  std::vector<std::string> names;
  try {
    for (const auto& entry : fs::directory_iterator(data_path("llm"))) {
      if (fs::exists(entry.path() / "config.json"))
        names.push_back(entry.path().filename().string());
    }
  } catch (const Error&) {
    // no shipped data at all: the message below says so
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool holds_weights(const fs::path& folder) {
  return fs::exists(folder / "model.safetensors") ||
         fs::exists(folder / "model.safetensors.index.json");
}

// Digits only, within uint64.
bool whole_number(std::string_view text, std::uint64_t* value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), *value);
  return !text.empty() && result.ec == std::errc{} && result.ptr == text.data() + text.size();
}

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

std::uint32_t checked_budget(std::string_view text, const Place& place) {
  std::uint64_t value = 0;
  if (!whole_number(text, &value) || value == 0 || value > kMaxBudget) {
    throw usage_error(place, "budget '" + std::string(text) + "'",
                      "a whole number from 1 to " + std::to_string(kMaxBudget));
  }
  return static_cast<std::uint32_t>(value);
}

std::vector<std::string_view> split_commas(std::string_view text) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto comma = text.find(',');
    parts.push_back(trimmed(text.substr(0, comma)));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace

std::string resolve_model_folder(const std::string& name) {
  if (name.empty())
    throw usage_error({"--model"}, "an empty name", "a model folder or a shipped model");
  fs::path folder = name;
  if (!fs::exists(folder) && name.find('/') == std::string::npos) {
    const std::vector<std::string> shipped = shipped_models();
    if (std::find(shipped.begin(), shipped.end(), name) == shipped.end()) {
      throw usage_error({"--model"}, "'" + name + "' is neither a folder nor a shipped model",
                        shipped.empty() ? "a model folder (no shipped models were found)"
                                        : "a model folder or a shipped model",
                        shipped.empty() ? "" : nearest_name_hint(name, shipped));
    }
    folder = fs::path(data_path("llm")) / name;
  }
  if (!fs::is_directory(folder)) {
    throw usage_error({name}, fs::exists(folder) ? "not a folder" : "no such folder",
                      "a folder with config.json and model.safetensors");
  }
  if (!fs::exists(folder / "config.json")) {
    throw usage_error({(folder / "config.json").string()}, "no such file",
                      "the config.json of a Hugging Face model folder");
  }
  if (!holds_weights(folder)) {
    throw usage_error({(folder / "model.safetensors").string()}, "no such file",
                      "model.safetensors, or model.safetensors.index.json with its shards",
                      "convert other formats to safetensors first");
  }
  return folder.string();
}

std::vector<std::uint32_t> resolve_budgets(const std::string& text, std::uint32_t n_layers) {
  std::uint64_t number = 0;
  const bool looks_like_number =
      !text.empty() && text.find_first_not_of("+-.0123456789") == std::string::npos;
  if (whole_number(text, &number) || (looks_like_number && !fs::exists(text))) {
    return {checked_budget(text, {"--budget"})};
  }
  if (!fs::is_regular_file(text)) {
    throw usage_error({"--budget"}, "'" + text + "' is neither a number nor a file",
                      "one budget, or a file with one budget per layer, a line each");
  }
  const std::string content = read_file(text, 1U << 20);
  std::vector<std::uint32_t> budgets;
  std::uint64_t line = 0;
  for (std::size_t at = 0; at < content.size();) {
    const std::size_t end = std::min(content.find('\n', at), content.size());
    ++line;
    const std::string_view cell = trimmed(std::string_view(content).substr(at, end - at));
    at = end + 1;
    if (cell.empty() || cell.front() == '#') continue;
    budgets.push_back(checked_budget(cell, {text, line}));
  }
  if (budgets.size() != n_layers) {
    throw usage_error({text}, std::to_string(budgets.size()) + " budgets",
                      std::to_string(n_layers) + ", one for each layer of the model");
  }
  return budgets;
}

std::vector<bool> parse_layers(std::string_view text, std::uint32_t n_layers) {
  if (trimmed(text) == "all") return std::vector<bool>(n_layers, true);
  std::vector<bool> wanted(n_layers, false);
  for (const std::string_view part : split_commas(text)) {
    std::uint64_t layer = 0;
    if (!whole_number(part, &layer) || layer >= n_layers) {
      throw usage_error(
          {"--scores"}, "'" + std::string(part) + "'",
          "'all', or layers from 0 to " + std::to_string(n_layers - 1) + " separated by commas");
    }
    wanted[layer] = true;
  }
  return wanted;
}

std::vector<std::uint32_t> parse_budget_list(std::string_view text) {
  std::vector<std::uint32_t> budgets;
  for (const std::string_view part : split_commas(text)) {
    const std::uint32_t budget = checked_budget(part, {"--probe-budgets"});
    if (!budgets.empty() && budget <= budgets.back()) {
      throw usage_error({"--probe-budgets"},
                        std::to_string(budget) + " after " + std::to_string(budgets.back()),
                        "increasing budgets, each once");
    }
    budgets.push_back(budget);
  }
  return budgets;
}

std::pair<Method, std::uint32_t> parse_method_and_budget(const std::string& text,
                                                         const std::string& option) {
  const std::size_t colon = text.find(':');
  const Method method = method_from_name(text.substr(0, colon));
  if ((method == Method::kDense) != (colon == std::string::npos))
    throw usage_error({option}, "'" + text + "'", "dense, or a method and its budget: prop:128");
  if (method == Method::kDense) return {method, 0};
  return {method, checked_budget(std::string_view(text).substr(colon + 1), {option})};
}

void ensure_output_free(const std::string& path, bool force) {
  ensure_output_file(path, true);
  const std::string spool = path + ".spool";
  if (fs::exists(spool)) throw spool_in_the_way(spool, path);
  ensure_output_file(path, force);
}

std::uint32_t tiles_of_context(std::uint32_t context_len) {
  return (context_len + kTileRows - 1) / kTileRows;
}

}  // namespace stoat
