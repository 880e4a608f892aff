// Which records a point asks for.
#include "sim/sweep/point_source.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "sim/sweep/sweep_value.h"
#include "sim/sweep/synth_fit.h"
#include "traces/reader.h"
#include "traces/shapes.h"

namespace stoat::sim {
namespace {

// Keys as numbers, with messages that name the key.
class Keys {
 public:
  Keys(const KeyLookup& value, const std::string& file) : value_(value), file_(file) {}

  bool has(const char* key) const { return value_(key) != nullptr; }
  std::string text(const char* key, const std::string& otherwise) const {
    const std::string* found = value_(key);
    return found != nullptr ? *found : otherwise;
  }
  std::uint64_t whole(const char* key, std::uint64_t otherwise, std::uint64_t low,
                      std::uint64_t high) const {
    const std::string* found = value_(key);
    if (found == nullptr) return otherwise;
    const auto number = split_number(*found);
    if (!number || !number->unit.empty() || std::floor(number->number) != number->number ||
        number->number < static_cast<double>(low) || number->number > static_cast<double>(high)) {
      refuse(key, *found,
             "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    }
    return static_cast<std::uint64_t>(number->number);
  }
  std::uint32_t count(const char* key, std::uint32_t otherwise, std::uint32_t high) const {
    return static_cast<std::uint32_t>(whole(key, otherwise, 1, high));
  }
  double real(const char* key, double otherwise, double low, double high) const {
    const std::string* found = value_(key);
    if (found == nullptr) return otherwise;
    const auto number = split_number(*found);
    if (!number || !number->unit.empty() || number->number < low || number->number > high) {
      refuse(key, *found, "a number from " + number_text(low) + " to " + number_text(high));
    }
    return number->number;
  }
  [[noreturn]] void missing(const char* key, const std::string& why) const {
    throw usage_error(Place{file_}, std::string("no ") + key, why,
                      std::string("set it under set: or make it an axis"));
  }

 private:
  [[noreturn]] void refuse(const char* key, const std::string& text,
                           const std::string& expected) const {
    throw usage_error(Place{file_}, std::string(key) + " is '" + text + "'", expected);
  }
  const KeyLookup& value_;
  const std::string& file_;
};

constexpr std::uint32_t kMaxRows = 1U << 20;

Method wanted_method(const Keys& keys, const Datapath& datapath) {
  if (!datapath.gather->reads_selected_rows) return Method::kDense;
  if (datapath.select == &kSelectTopK) return Method::kTopK;
  if (!keys.has("method"))
    keys.missing("method", "how rows are sampled: iid, strat, sys, prop, flash");
  const Method method = method_from_name(keys.text("method", ""));
  if (method == Method::kDense || method == Method::kTopK) {
    throw usage_error(
        {},
        "method " + std::string(method_name(method)) + " on datapath " + std::string(datapath.name),
        "a sampling method: iid, strat, sys, prop or flash");
  }
  return method;
}

std::uint32_t wanted_budget(const Keys& keys, Method method) {
  if (method == Method::kDense) return 0;
  if (!keys.has("budget")) keys.missing("budget", "how many rows a head draws");
  return keys.count("budget", 1, kMaxBudget);
}

void check_flash(const PointSource& source, std::uint32_t context) {
  const std::uint32_t tiles = (context + kTileRows - 1) / kTileRows;
  if (source.method == Method::kFlash && source.budget < tiles) {
    throw usage_error({},
                      "flash with budget " + std::to_string(source.budget) + " and " +
                          std::to_string(tiles) + " tiles",
                      "at least one draw a tile");
  }
}

TernaryOptions wanted_ternary(const Keys& keys) {
  TernaryOptions ternary;
  if (!keys.has("ternary.draws"))
    keys.missing("ternary.draws", "draws of a ternary query, 1 to 64");
  ternary.draws = keys.count("ternary.draws", 1, 64);
  ternary.coupling = coupling_from_name(keys.text("ternary.coupling", "independent"));
  ternary.normaliser = normaliser_from_name(keys.text("ternary.normaliser", "max"));
  return ternary;
}

double flat_or_number(const Keys& keys, double otherwise) {
  if (keys.text("participation", "") == "flat") return 0;
  return keys.real("participation", otherwise, 1, kMaxRows);
}

std::string synth_text(const SynthOptions& o) {
  std::string text =
      "synth q=" + std::to_string(o.n_q_heads) + " kv=" + std::to_string(o.n_kv_heads) +
      " d=" + std::to_string(o.head_dim) + " layers=" + std::to_string(o.n_layers) +
      " context=" + std::to_string(o.contexts.front()) + "x" + std::to_string(o.contexts.size()) +
      " steps=" + std::to_string(o.steps) + " weights=" + std::to_string(o.weight_bytes_per_token) +
      " method=" + std::string(method_name(o.method));
  if (o.method != Method::kDense) text += " budget=" + std::to_string(o.budgets.front());
  text += " participation=" + number_text(o.participation) + " sinks=" + std::to_string(o.sinks) +
          " recency=" + number_text(o.recency) +
          " correlation=" + number_text(o.group_correlation) + " seed=" + std::to_string(o.seed);
  if (o.score_kind == ScoreKind::kTernary) {
    text += " ternary=" + std::to_string(o.ternary.draws) + "," +
            std::string(coupling_name(o.ternary.coupling)) + "," +
            std::string(normaliser_name(o.ternary.normaliser));
  }
  return text;
}

// The part of a synthetic trace that does not depend on where its statistics come from.
void finish_synth(const Keys& keys, const Datapath& datapath, const SweepSpec& spec,
                  PointSource& source) {
  SynthOptions& o = source.synth;
  const std::uint32_t batch = keys.count("batch", 1, 4096);
  const std::uint32_t context = keys.count("context", 1, kMaxRows);
  o.contexts.assign(batch, context);
  o.steps = keys.count("steps", 1, 65536);
  o.method = source.method;
  o.budgets = {source.budget};
  o.recency = keys.real("recency", o.recency, 0, kMaxRows);
  o.group_correlation = keys.real("group_correlation", o.group_correlation, 0, 1);
  if (o.participation > context) {
    throw usage_error(Place{spec.file},
                      "participation " + number_text(o.participation) + " in a context of " +
                          std::to_string(context),
                      "at most the context, or flat");
  }
  o.seed = keys.whole("seed", spec.seed, 0, std::uint64_t{1} << 53);
  if (datapath.score == &kScoreTernary) {
    o.score_kind = ScoreKind::kTernary;
    o.ternary = wanted_ternary(keys);
  }
  check_flash(source, context + o.steps - 1);
  source.header = synth_header(o);
  source.layers = o.n_layers;
  source.seed = o.seed;
  source.text = synth_text(o);
}

void plan_synth(const Keys& keys, const Datapath& datapath, const SweepSpec& spec,
                PointSource& source) {
  source.kind = SourceKind::kSynth;
  SynthOptions& o = source.synth;
  std::uint64_t weights = 0;
  if (keys.has("model")) {
    static std::map<std::string, ModelShape> shapes;
    const std::string name = keys.text("model", "");
    if (shapes.find(name) == shapes.end()) shapes[name] = model_shape(name);
    const ModelShape& shape = shapes[name];
    o.model_name = shape.name;
    o.n_q_heads = shape.n_q_heads;
    o.n_kv_heads = shape.n_kv_heads;
    o.head_dim = shape.head_dim;
    source.model_layers = shape.n_layers;
    weights = shape.weight_bytes;
  } else if (!keys.has("query_heads") || !keys.has("kv_heads") || !keys.has("head_dim")) {
    keys.missing("model", "a model's name, or query_heads, kv_heads and head_dim");
  }
  if (!keys.has("context")) keys.missing("context", "how many rows the KV cache holds");
  if (!keys.has("participation") && source.method != Method::kDense) {
    keys.missing("participation", "how sharp attention is: 1 / sum p^2, or flat");
  }
  o.n_q_heads = keys.count("query_heads", o.n_q_heads, 4096);
  o.n_kv_heads = keys.count("kv_heads", o.n_kv_heads, 4096);
  o.head_dim = keys.count("head_dim", o.head_dim, 4096);
  o.n_layers = keys.count("layers", 1, 4096);
  if (source.model_layers == 0) source.model_layers = o.n_layers;
  // The weights of the layers that are simulated: shares then hold for the whole model.
  o.weight_bytes_per_token = weights / source.model_layers * o.n_layers;
  o.participation = source.method == Method::kDense ? 0 : flat_or_number(keys, 0);
  o.sinks = static_cast<std::uint32_t>(keys.whole("sinks", 0, 0, 65536));
  finish_synth(keys, datapath, spec, source);
}

void plan_fit(const Keys& keys, const Datapath& datapath, const SweepSpec& spec,
              const LoadedTrace& trace, const SynthFit& fit, PointSource& source) {
  source.kind = SourceKind::kSynthFit;
  source.trace = &trace;
  const TraceHeader& h = trace.header;
  const std::uint32_t context = keys.count("context", 1, kMaxRows);
  if (trace.records.stats.participation.empty()) {
    throw usage_error(
        Place{trace.path},
        "no statistics to fit to, and no step with a context of " + std::to_string(context),
        "a trace with /stats/participation");
  }
  SynthOptions& o = source.synth;
  o.model_name = h.model_name;
  o.n_q_heads = h.n_q_heads;
  o.n_kv_heads = h.n_kv_heads;
  o.head_dim = h.head_dim;
  o.n_layers = keys.count("layers", h.n_layers, h.n_layers);
  source.model_layers = h.n_layers;
  o.weight_bytes_per_token = h.weight_bytes_per_token / h.n_layers * o.n_layers;
  o.participation = source.method == Method::kDense
                        ? 0
                        : flat_or_number(keys, fitted_participation(trace, context));
  o.sinks = static_cast<std::uint32_t>(keys.whole("sinks", fit.sinks, 0, 65536));
  o.recency = fit.recency.value_or(0);
  o.group_correlation = fit.correlation.value_or(0);
  finish_synth(keys, datapath, spec, source);
  const auto said = [&](const char* key, bool known, double value) {
    return std::string(" ") + key + "=" +
           (keys.has(key) ? number_text(value) + " (given)"
            : known       ? number_text(value)
                          : std::string("0 (not recorded)"));
  };
  source.fit = "participation=" + number_text(o.participation) +
               " sinks=" + std::to_string(o.sinks) +
               said("recency", fit.recency.has_value(), o.recency) +
               said("group_correlation", fit.correlation.has_value(), o.group_correlation);
  source.text += " fit=" + trace.hash;
}

std::vector<std::uint32_t> wanted_steps(const Keys& keys, const LoadedTrace& trace) {
  std::vector<std::uint32_t> steps;
  const std::uint64_t most = keys.whole("steps", trace.step_context.size(), 1, ~std::uint32_t{0});
  const bool any = !keys.has("context");
  const std::uint32_t context = any ? 0 : keys.count("context", 1, kMaxRows);
  for (std::uint32_t i = 0; i < trace.step_context.size() && steps.size() < most; ++i) {
    if (any || trace.step_context[i] == context) steps.push_back(i);
  }
  return steps;
}

void plan_recorded(const Keys& keys, const Datapath& datapath, const LoadedTrace& trace,
                   PointSource& source) {
  source.trace = &trace;
  const TraceHeader& h = trace.header;
  source.header = h;
  source.model_layers = h.n_layers;
  source.layers = keys.count("layers", h.n_layers, h.n_layers);
  source.header.weight_bytes_per_token = h.weight_bytes_per_token / h.n_layers * source.layers;
  source.seed = keys.whole("seed", h.seed, 0, ~std::uint64_t{0} >> 11);
  if (datapath.score == &kScoreTernary && h.score_kind != ScoreKind::kTernary) {
    throw usage_error(Place{trace.path}, "scores are exact",
                      "a capture with --score ternary for datapath " + std::string(datapath.name));
  }
  const bool recorded =
      source.method == Method::kDense || (h.method == source.method && source.seed == h.seed &&
                                          h.budgets == std::vector<std::uint32_t>{source.budget});
  source.kind = recorded ? SourceKind::kAccess : SourceKind::kRedrawn;
  if (!recorded) {
    if (!trace.scores_everywhere) {
      throw usage_error(Place{trace.path},
                        "no scores of every record, so that " +
                            std::string(method_name(source.method)) + " with " +
                            std::to_string(source.budget) + " draws cannot be drawn again",
                        "a trace captured with --scores");
    }
    source.header.method = source.method;
    source.header.budgets = {source.budget};
    source.header.seed = source.seed;
    for (const std::uint32_t step : source.steps) check_flash(source, trace.step_context[step]);
  }
  source.text = "trace=" + trace.hash + " layers=" + std::to_string(source.layers) + " steps=";
  for (const std::uint32_t step : source.steps) source.text += std::to_string(step) + ",";
  if (!recorded) {
    source.text += " method=" + std::string(method_name(source.method)) +
                   " budget=" + std::to_string(source.budget) +
                   " seed=" + std::to_string(source.seed);
  }
}

}  // namespace

std::string_view source_name(SourceKind kind) {
  switch (kind) {
    case SourceKind::kAccess:
      return "access";
    case SourceKind::kRedrawn:
      return "redrawn";
    case SourceKind::kSynth:
      return "synth";
    case SourceKind::kSynthFit:
      return "synth_fit";
  }
  throw Bug("a source without a name");
}

const LoadedTrace& TraceLibrary::open(const std::string& path) {
  std::unique_ptr<LoadedTrace>& slot = traces_[path];
  if (slot) return *slot;
  auto loaded = std::make_unique<LoadedTrace>();
  const TraceReader reader(path);
  loaded->path = path;
  loaded->hash = reader.content_hash();
  loaded->header = reader.header();
  loaded->records = reader.read_all();
  const TraceRecords& records = loaded->records;
  if (records.empty()) throw usage_error(Place{path}, "no decode steps", "at least one");
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (i == 0 || records.step[i] != records.step[i - 1]) {
      loaded->step_begin.push_back(i);
      loaded->step_context.push_back(0);
    }
    loaded->step_context.back() = std::max(loaded->step_context.back(), records.context[i]);
  }
  loaded->step_begin.push_back(records.size());
  loaded->scores_everywhere = records.score_record.size() == records.size();
  slot = std::move(loaded);
  return *slot;
}

const SynthFit& TraceLibrary::fit(const LoadedTrace& trace) {
  auto& slot = fits_[trace.path];
  if (!slot) slot = std::make_unique<SynthFit>(fit_synth(trace));
  return *slot;
}

TraceLibrary::TraceLibrary() = default;
TraceLibrary::~TraceLibrary() = default;

PointSource plan_source(const KeyLookup& value, const Datapath& datapath, const SweepSpec& spec,
                        TraceLibrary& library) {
  const Keys keys(value, spec.file);
  PointSource source;
  source.method = wanted_method(keys, datapath);
  source.budget = wanted_budget(keys, source.method);
  if (!keys.has("trace")) keys.missing("trace", "'synth', or a trace file");
  const std::string name = keys.text("trace", "");
  if (name == "synth") {
    plan_synth(keys, datapath, spec, source);
    return source;
  }
  const std::filesystem::path path(name);
  const LoadedTrace& trace = library.open(
      path.is_absolute() ? name : (std::filesystem::path(spec.folder) / path).string());
  source.steps = wanted_steps(keys, trace);
  if (source.steps.empty()) {
    plan_fit(keys, datapath, spec, trace, library.fit(trace), source);
  } else {
    plan_recorded(keys, datapath, trace, source);
  }
  return source;
}

}  // namespace stoat::sim
