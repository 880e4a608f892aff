// The list of fields with their ranges and units, and what follows from a design point.
#include "sim/design_point.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <utility>

#include "models/data_path.h"
#include "models/hash.h"
#include "sim/design_makers.h"
#include "sim/design_schema.h"

namespace stoat::sim {
namespace {

constexpr Word<Repeats> kRepeats[] = {{"adds", Repeats::kAdds},
                                      {"shift_adds", Repeats::kShiftAdds},
                                      {"multiply", Repeats::kMultiply}};
constexpr Word<KLayout> kLayouts[] = {{"token_major", KLayout::kTokenMajor},
                                      {"feature_major", KLayout::kFeatureMajor}};
constexpr Word<Dealing> kDealings[] = {{"round_robin", Dealing::kRoundRobin},
                                       {"contiguous", Dealing::kContiguous}};
constexpr Word<KvElement> kElements[] = {
    {"bf16", KvElement::kBf16}, {"fp8", KvElement::kFp8}, {"int8", KvElement::kInt8}};
constexpr Word<Placement> kPlacements[] = {{"beside", Placement::kBeside},
                                           {"logic_die", Placement::kLogicDie},
                                           {"bank_group", Placement::kBankGroup},
                                           {"bank", Placement::kBank}};
constexpr Word<TopKUnit> kTopKUnits[] = {
    {"radix", TopKUnit::kRadix}, {"heap", TopKUnit::kHeap}, {"bitonic", TopKUnit::kBitonic}};
constexpr Word<TernaryDraws> kTernaryDraws[] = {
    {"passes", TernaryDraws::kPasses},
    {"merged_shift_adds", TernaryDraws::kMergedShiftAdds},
    {"merged_multiply", TernaryDraws::kMergedMultiply}};
constexpr Word<AccumulatorFormat> kAccumulators[] = {{"fp32", AccumulatorFormat::kFp32},
                                                     {"bf16", AccumulatorFormat::kBf16},
                                                     {"shared24", AccumulatorFormat::kShared24},
                                                     {"int32", AccumulatorFormat::kInt32}};
constexpr Word<bool> kSwitch[] = {{"off", false}, {"on", true}};

// A shipped table of models/FOLDER by name, or any path. A path is looked at by who reads it.
std::string table_of(const std::string& text, const std::string& folder, const DesignField& field,
                     const Place& place) {
  if (text.empty()) refuse(text, field, place, "write a name");
  if (text.find('/') != std::string::npos || text.ends_with(".csv")) return text;
  std::vector<std::string> known;
  for (const auto& entry : std::filesystem::directory_iterator(data_path(folder))) {
    if (entry.path().extension() == ".csv") known.push_back(entry.path().stem().string());
  }
  if (std::find(known.begin(), known.end(), text) != known.end()) return text;
  std::sort(known.begin(), known.end());
  refuse(text, field, place, nearest_name_hint(text, known));
}

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

DesignField dram_field() {
  return {"memory.standard",
          [](DesignPoint& p, Text text, Self self, At at) {
            p.dram = table_of(text, "dram", self, at);
          },
          [](const DesignPoint& p) { return p.dram; },
          "the name of a DRAM standard (models/dram) or a path"};
}

DesignField prices_field() {
  return {"energy.prices",
          [](DesignPoint& p, Text text, Self self, At at) {
            p.prices = table_of(text, "energy", self, at);
          },
          [](const DesignPoint& p) { return p.prices; },
          "the name of a price list (models/energy) or a path"};
}

DesignField clock_field() {
  return {"engine.clock",
          [](DesignPoint& p, Text text, Self self, At at) {
            p.clock = with_unit(parse_frequency, kFrequencyUnits, text, self, at);
            if (p.clock.count() < 1000000 || p.clock.count() > 100000000000ULL)
              refuse(text, self, at);
          },
          [](const DesignPoint& p) { return std::to_string(p.clock.count()) + " Hz"; },
          "a frequency with its unit from 1 MHz to 100 GHz, such as '1.0 GHz'"};
}

DesignField engines_field() {
  return {"mapping.engines_per_head",
          [](DesignPoint& p, Text text, Self self, At at) {
            p.engines_per_head = text == "all" ? 0 : whole_number(text, 1, 65536, self, at);
          },
          [](const DesignPoint& p) {
            return p.engines_per_head == 0 ? std::string("all")
                                           : std::to_string(p.engines_per_head);
          },
          "all, or a whole number from 1 to 65536"};
}

std::vector<DesignField> make_fields() {
  using P = DesignPoint;
  constexpr const char* kFormats = "fp32, bf16, shared24 or int32";
  constexpr const char* kBuffer = "a size with its unit from 64 B to 1 GiB, such as '4 KiB'";
  std::vector<DesignField> fields = {
      dram_field(),
      count_field<&P::stacks, 1, 64>("memory.stacks", "a whole number from 1 to 64"),
      word_field<&P::refresh, kSwitch>("memory.refresh", "on or off"),
      prices_field(),
      word_field<&P::placement, kPlacements>("engine.placement",
                                             "beside, logic_die, bank_group or bank"),
      clock_field(),
      count_field<&P::dense_lanes>("engine.lanes.dense"),
      count_field<&P::gather_add_lanes>("engine.lanes.gather_add"),
      count_field<&P::ternary_lanes>("engine.lanes.ternary"),
      count_field<&P::exp_lanes>("engine.lanes.exp"),
      count_field<&P::comparators>("engine.lanes.comparators"),
      word_field<&P::dense_accumulator, kAccumulators>("engine.accumulator.dense", kFormats),
      word_field<&P::gather_add_accumulator, kAccumulators>("engine.accumulator.gather_add",
                                                            kFormats),
      word_field<&P::ternary_accumulator, kAccumulators>("engine.accumulator.ternary", kFormats),
      size_field<&P::stash, 0, kGiB>("engine.stash",
                                     "a size with its unit up to 1 GiB, such as '64 KiB'"),
      size_field<&P::row_buffer, 64, kGiB>("engine.row_buffer", kBuffer),
      word_field<&P::double_buffer, kSwitch>("engine.double_buffer", "on or off"),
      size_field<&P::query_buffer, 64, kGiB>("engine.query_buffer", kBuffer),
      count_field<&P::queue_tiles, 1, 1024>("engine.queue_tiles", "a whole number from 1 to 1024"),
      count_field<&P::heads_in_flight, 1, 64>("engine.heads_in_flight",
                                              "a whole number from 1 to 64"),
      count_field<&P::outstanding_bursts>("engine.outstanding_bursts"),
      time_field<&P::exchange_latency>("engine.exchange_latency",
                                       "a time with its unit up to 1 ms, such as '100 ns'"),
      word_field<&P::repeats, kRepeats>("engine.repeats", "adds, shift_adds or multiply"),
      word_field<&P::topk, kTopKUnits>("engine.topk", "radix, heap or bitonic"),
      word_field<&P::ternary_draws, kTernaryDraws>("engine.ternary_draws",
                                                   "passes, merged_shift_adds or merged_multiply"),
      word_field<&P::dealing, kDealings>("mapping.tiles", "round_robin or contiguous"),
      word_field<&P::k_layout, kLayouts>("mapping.k_layout", "token_major or feature_major"),
      count_field<&P::page_rows, 0>("mapping.page_rows",
                                    "rows of a page: a power of two up to 65536, or 0 (no pages)"),
      engines_field(),
      word_field<&P::element, kElements>("kv.element", "bf16, fp8 or int8"),
      word_field<&P::append, kSwitch>("kv.append", "on or off"),
  };
  add_memory_fields(fields);
  return fields;
}

}  // namespace

std::string_view layout_name(KLayout value) { return word_of(kLayouts, value); }
std::string_view dealing_name(Dealing value) { return word_of(kDealings, value); }
std::string_view element_name(KvElement value) { return word_of(kElements, value); }
std::string_view placement_name(Placement value) { return word_of(kPlacements, value); }
std::string_view topk_name(TopKUnit value) { return word_of(kTopKUnits, value); }
std::string_view ternary_draws_name(TernaryDraws value) { return word_of(kTernaryDraws, value); }
Bytes element_bytes(KvElement value) { return Bytes(value == KvElement::kBf16 ? 2 : 1); }

const std::vector<DesignField>& design_fields() {
  static const std::vector<DesignField> fields = make_fields();
  return fields;
}

const DesignField* find_field(std::string_view path) {
  for (const DesignField& field : design_fields()) {
    if (path == field.path) return &field;
  }
  return nullptr;
}

bool is_section(std::string_view path) {
  const std::string prefix = std::string(path) + ".";
  const auto& fields = design_fields();
  return std::any_of(fields.begin(), fields.end(), [&](const DesignField& field) {
    return std::string_view(field.path).substr(0, prefix.size()) == prefix;
  });
}

std::vector<std::string> keys_of_section(std::string_view section) {
  const std::string prefix = section.empty() ? "" : std::string(section) + ".";
  std::vector<std::string> keys;
  if (section.empty()) keys.emplace_back("base");
  for (const DesignField& field : design_fields()) {
    const std::string_view path = field.path;
    if (path.substr(0, prefix.size()) != prefix) continue;
    const std::string_view rest = path.substr(prefix.size());
    std::string key(rest.substr(0, rest.find('.')));
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(std::move(key));
  }
  return keys;
}

std::string canonical_text(const DesignPoint& point) {
  std::string text;
  for (const DesignField& field : design_fields()) {
    text += std::string(field.path) + ": " + field.get(point) + "\n";
  }
  return text;
}

std::uint32_t engines_per_kv_head(std::uint32_t pseudo_channels, std::uint32_t kv_heads) {
  if (kv_heads == 0 || pseudo_channels % kv_heads != 0) {
    throw usage_error({},
                      std::to_string(pseudo_channels) + " pseudo-channels for " +
                          std::to_string(kv_heads) + " KV heads",
                      "a whole number of engines for each KV head",
                      "choose a memory.standard with a multiple of " + std::to_string(kv_heads) +
                          " pseudo-channels");
  }
  return pseudo_channels / kv_heads;
}

void check_design(const DesignPoint& point) {
  const std::pair<const char*, AccumulatorFormat> formats[] = {
      {"engine.accumulator.dense", point.dense_accumulator},
      {"engine.accumulator.gather_add", point.gather_add_accumulator},
      {"engine.accumulator.ternary", point.ternary_accumulator}};
  for (const auto& [path, format] : formats) {
    if (format == AccumulatorFormat::kInt32 && point.element != KvElement::kInt8) {
      throw usage_error({},
                        std::string(path) + " is int32 and kv.element is " +
                            std::string(element_name(point.element)),
                        "int32 sums of int8 elements", "--set kv.element=int8");
    }
  }
  if (point.page_rows != 0 && !std::has_single_bit(point.page_rows)) {
    throw usage_error({}, "mapping.page_rows is " + std::to_string(point.page_rows),
                      "a power of two, or 0 for no pages");
  }
  if (point.page_rows != 0 && point.page_rows < 256 && point.k_layout == KLayout::kFeatureMajor) {
    throw usage_error({},
                      "mapping.page_rows is " + std::to_string(point.page_rows) +
                          " and mapping.k_layout feature_major",
                      "pages of whole tiles: a feature of 256 rows lies side by side",
                      "--set mapping.page_rows=256");
  }
  if (point.page_rule == PageRule::kTimeout && point.page_timeout.count() == 0) {
    throw usage_error({}, "memory.controller.page_timeout is 0 and the policy is timeout",
                      "a time above 0", "--set memory.controller.page_policy=closed");
  }
}

}  // namespace stoat::sim
