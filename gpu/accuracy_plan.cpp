// Reads the plan that scripts/accuracy.py writes: JSON for settings and questions, one file of
// bytes for the prompts.
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "gpu/accuracy.h"
#include "gpu/inputs.h"
#include "models/error.h"
#include "models/files.h"
#include "models/llm/config.h"
#include "models/llm/json_read.h"
#include "models/llm/tokenizer.h"

namespace stoat {
namespace {

using nlohmann::json;

constexpr std::uint32_t kMostPrompts = 256;  // sequences of a batch
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;

// What the parts of a plan need of the whole.
struct Source {
  std::string path;
  std::string texts;  // all prompts, one after the other
  const Tokenizer& tokenizer;
  std::uint32_t layers;
};

const json& member(const json& object, const char* key, const std::string& path) {
  if (!object.is_object() || !object.contains(key))
    throw usage_error({path}, std::string("no '") + key + "'", "a plan of scripts/accuracy.py");
  return object.at(key);
}

const json& list(const json& object, const char* key, const std::string& path) {
  const json& found = member(object, key, path);
  if (!found.is_array())
    throw usage_error({path}, std::string("'") + key + "' is no list", "a JSON array");
  return found;
}

std::uint32_t number(const json& object, const char* key, const std::string& path,
                     std::uint64_t most = 1U << 30) {
  return static_cast<std::uint32_t>(json_unsigned(object, key, most, path));
}

std::vector<std::uint32_t> numbers(const json& object, const char* key, const std::string& path) {
  std::vector<std::uint32_t> values;
  for (const json& value : list(object, key, path)) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() == 0 ||
        value.get<std::uint64_t>() > kMaxBudget)
      throw usage_error({path}, std::string("'") + key + "': " + value.dump(),
                        "budgets from 1 to " + std::to_string(kMaxBudget));
    values.push_back(value.get<std::uint32_t>());
  }
  return values;
}

// The name of a method and the like, as the function reads it; a mistake is the plan's.
template <class Read>
auto named(const std::string& name, const std::string& path, const Read& read) {
  try {
    return read(name);
  } catch (const Error& error) {
    throw Error(error.code(), path + ": " + error.what());
  }
}

AccuracySetting read_setting(const json& object, const Source& source) {
  const std::string& path = source.path;
  AccuracySetting setting;
  setting.name = json_text(object, "name", path);
  setting.method = named(json_text(object, "method", path), path, method_from_name);
  setting.seed = json_unsigned(object, "seed", ~std::uint64_t{0}, path);
  if (setting.method != Method::kDense) {
    setting.budgets = numbers(object, "budgets", path);
    if (setting.budgets.size() != 1 && setting.budgets.size() != source.layers)
      throw usage_error({path},
                        setting.name + ": " + std::to_string(setting.budgets.size()) + " budgets",
                        "one, or one a layer");
  }
  if (object.contains("ternary_draws")) {
    setting.ternary_draws = number(object, "ternary_draws", path, 64);
    setting.coupling = named(json_text(object, "coupling", path), path, coupling_from_name);
    setting.normaliser = named(json_text(object, "normaliser", path), path, normaliser_from_name);
  }
  return setting;
}

// [[offset, bytes], ...] of the texts.
std::vector<std::string> read_texts(const json& spans, const Source& source) {
  std::vector<std::string> texts;
  for (const json& span : spans) {
    const bool fits =
        span.is_array() && span.size() == 2 && span[0].is_number_unsigned() &&
        span[1].is_number_unsigned() && span[1].get<std::uint64_t>() > 0 &&
        span[0].get<std::uint64_t>() <= source.texts.size() &&
        span[1].get<std::uint64_t>() <= source.texts.size() - span[0].get<std::uint64_t>();
    if (!fits)
      throw usage_error(
          {source.path}, "a prompt at " + span.dump(),
          "[offset, bytes] within " + std::to_string(source.texts.size()) + " bytes of text");
    texts.push_back(source.texts.substr(span[0].get<std::size_t>(), span[1].get<std::size_t>()));
  }
  return texts;
}

std::vector<std::vector<std::int32_t>> encode_all(const std::vector<std::string>& texts,
                                                  const Tokenizer& tokenizer) {
  std::vector<std::vector<std::int32_t>> tokens;
  for (const std::string& text : texts) tokens.push_back(tokenizer.encode(text));
  return tokens;
}

std::vector<std::string> strings(const json& object, const char* key, std::size_t count,
                                 const std::string& path) {
  std::vector<std::string> values;
  for (const json& value : list(object, key, path)) {
    if (!value.is_string())
      throw usage_error({path}, std::string("'") + key + "': " + value.dump(), "texts");
    values.push_back(value.get<std::string>());
  }
  if (values.size() != count)
    throw usage_error({path}, std::to_string(values.size()) + " of '" + key + "'",
                      "one a prompt, " + std::to_string(count));
  return values;
}

void ensure_equal_lengths(const std::vector<std::vector<std::int32_t>>& rows, const char* what,
                          const std::string& path) {
  for (const auto& row : rows) {
    if (row.size() != rows.front().size() || row.empty())
      throw usage_error({path}, std::string(what) + " of different lengths",
                        "as many tokens for every prompt of a group");
  }
}

AccuracyTurn read_turn(const json& object, std::size_t prompts, const Source& source) {
  AccuracyTurn turn;
  turn.kind = json_text(object, "kind", source.path);
  turn.generate = number(object, "generate", source.path, 1'000'000);
  turn.expect = strings(object, "expect", prompts, source.path);
  turn.text = encode_all(strings(object, "text", prompts, source.path), source.tokenizer);
  ensure_equal_lengths(turn.text, "questions", source.path);
  if (turn.generate == 0) throw usage_error({source.path}, "'generate': 0", "at least 1");
  return turn;
}

// The last `decoded` + 1 tokens of every text become its continuation.
void cut_continuation(AccuracyGroup& group, std::uint32_t decoded, const Source& source) {
  if (decoded == 0) throw usage_error({source.path}, "'decoded': 0", "at least 1");
  for (auto& prompt : group.prompts) {
    if (prompt.size() < decoded + 2)
      throw usage_error({source.path}, "a text of " + std::to_string(prompt.size()) + " tokens",
                        "more than are decoded of it, " + std::to_string(decoded));
    const auto cut = prompt.end() - (decoded + 1);
    group.continuation.emplace_back(cut, prompt.end());
    const auto& tail = group.continuation.back();
    group.continuation_bytes.push_back(source.tokenizer.decode(std::span(tail).subspan(1)).size());
    prompt.erase(cut, prompt.end());
  }
}

AccuracyGroup read_group(const json& object, const Source& source) {
  AccuracyGroup group;
  group.name = json_text(object, "name", source.path);
  group.length = number(object, "length", source.path);
  const json& spans = list(object, "prompts", source.path);
  if (spans.empty() || spans.size() > kMostPrompts)
    throw usage_error({source.path}, std::to_string(spans.size()) + " prompts in a group",
                      "1 to " + std::to_string(kMostPrompts));
  group.prompts = encode_all(read_texts(spans, source), source.tokenizer);
  if (object.contains("decoded"))
    cut_continuation(group, number(object, "decoded", source.path), source);
  if (object.contains("asks")) {
    for (const json& turns : list(object, "asks", source.path)) {
      AccuracyAsk ask;
      for (const json& turn : turns) ask.push_back(read_turn(turn, group.prompts.size(), source));
      if (ask.empty()) throw usage_error({source.path}, "an ask without turns");
      group.asks.push_back(std::move(ask));
    }
  }
  return group;
}

VariancePlan read_variance(const json& object, const Source& source) {
  VariancePlan plan;
  plan.prompts =
      encode_all(read_texts(list(object, "prompts", source.path), source), source.tokenizer);
  plan.steps = number(object, "steps", source.path);
  plan.replicates = number(object, "replicates", source.path, 1U << 20);
  plan.budgets = numbers(object, "budgets", source.path);
  plan.seed = json_unsigned(object, "seed", ~std::uint64_t{0}, source.path);
  for (const json& name : list(object, "methods", source.path)) {
    plan.methods.push_back(named(name.is_string() ? name.get<std::string>() : name.dump(),
                                 source.path, method_from_name));
    const Method method = plan.methods.back();
    if (method == Method::kDense || method == Method::kFlash)
      throw usage_error({source.path}, "the variance of " + std::string(method_name(method)),
                        "methods that draw from one ruler: iid, strat, sys, prop or topk");
  }
  if (plan.prompts.empty() || plan.methods.empty() || plan.budgets.empty())
    throw usage_error({source.path}, "a variance of nothing",
                      "at least one prompt, one method and one budget");
  for (const auto& prompt : plan.prompts) {
    if (plan.steps == 0 || plan.replicates == 0 || prompt.size() <= plan.steps)
      throw usage_error({source.path}, "a variance over no queries, or prompts without a beginning",
                        "steps and replicates of at least 1, prompts longer than steps");
  }
  return plan;
}

void ensure_positions(const AccuracyPlan& plan, const std::string& path) {
  const auto check = [&](const std::string& what, std::size_t tokens) {
    if (tokens > plan.config.max_position_embeddings)
      throw usage_error(
          {path}, what + ": " + std::to_string(tokens) + " tokens of prompt and answers",
          "at most " + std::to_string(plan.config.max_position_embeddings), "shorten the prompts");
  };
  for (const AccuracyGroup& group : plan.groups) check(group.name, group.largest_context());
  for (const auto& prompt : plan.variance.prompts) check("variance", prompt.size());
}

// The tables find a setting by its name.
void ensure_one_of_each(const AccuracyPlan& plan, const std::string& path) {
  std::set<std::string> names;
  for (const AccuracySetting& setting : plan.settings)
    if (!names.insert(setting.name).second)
      throw usage_error({path}, "two settings '" + setting.name + "'",
                        "a name of its own for each");
}

}  // namespace

AccuracyPlan read_accuracy_plan(const std::string& path) {
  const json object = read_json_file(path, kMostBytes);
  AccuracyPlan plan;
  plan.model_folder = resolve_model_folder(json_text(object, "model", path));
  plan.config = read_model_config(plan.model_folder + "/config.json");
  const auto tokenizer = tokenizer_of(plan.model_folder);
  const std::size_t slash = path.find_last_of('/');
  const std::string beside = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  plan.texts_file = beside + json_text(object, "texts", path);
  const Source source{path, read_file(plan.texts_file, kMostBytes), *tokenizer,
                      plan.config.n_layers};
  for (const json& setting : list(object, "settings", path))
    plan.settings.push_back(read_setting(setting, source));
  for (const json& group : list(object, "groups", path))
    plan.groups.push_back(read_group(group, source));
  if (plan.settings.empty() || plan.settings.front().method != Method::kDense ||
      plan.settings.front().ternary_draws > 0)
    throw usage_error({path}, "the first setting is not exact dense attention",
                      "dense first: the others are compared with it");
  if (json_has(object, "variance")) plan.variance = read_variance(object.at("variance"), source);
  if (plan.groups.empty() && plan.variance.prompts.empty())
    throw usage_error({path}, "no groups and no variance", "something to measure");
  ensure_positions(plan, path);
  ensure_one_of_each(plan, path);
  return plan;
}

}  // namespace stoat
