// The list of fields with their ranges and units, and what follows from a design point.
#include "sim/design_point.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "models/data_path.h"
#include "models/hash.h"
#include "sim/design_schema.h"

namespace stoat::sim {
namespace {

template <class E>
struct Word {
  std::string_view name;
  E value;
};
constexpr Word<Repeats> kRepeats[] = {{"adds", Repeats::kAdds},
                                      {"shift_adds", Repeats::kShiftAdds},
                                      {"multiply", Repeats::kMultiply}};
constexpr Word<KLayout> kLayouts[] = {{"token_major", KLayout::kTokenMajor},
                                      {"feature_major", KLayout::kFeatureMajor}};
constexpr Word<Dealing> kDealings[] = {{"round_robin", Dealing::kRoundRobin},
                                       {"contiguous", Dealing::kContiguous}};
constexpr Word<KvElement> kElements[] = {
    {"bf16", KvElement::kBf16}, {"fp8", KvElement::kFp8}, {"int8", KvElement::kInt8}};

template <class E, std::size_t N>
std::string_view word_of(const Word<E> (&words)[N], E value) {
  for (const auto& word : words) {
    if (word.value == value) return word.name;
  }
  throw Bug("a design point holds an unknown word");
}

template <class E, std::size_t N>
E value_of(const Word<E> (&words)[N], const std::string& text, const DesignField& field,
           const Place& place) {
  std::vector<std::string> known;
  for (const auto& word : words) {
    if (word.name == text) return word.value;
    known.emplace_back(word.name);
  }
  throw usage_error(place, std::string(field.path) + " is '" + text + "'", field.expected,
                    nearest_name_hint(text, known));
}

[[noreturn]] void refuse(const std::string& text, const DesignField& field, const Place& place,
                         const std::string& remedy = {}) {
  throw usage_error(place, std::string(field.path) + " is '" + text + "'", field.expected, remedy);
}

std::uint32_t whole_number(const std::string& text, std::uint32_t low, std::uint32_t high,
                           const DesignField& field, const Place& place) {
  std::uint32_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool number = end == text.data() + text.size() && !text.empty();
  if (!number || status == std::errc::invalid_argument)
    refuse(text, field, place, "digits only, without unit or sign");
  if (status != std::errc{} || value > high)
    refuse(text, field, place, "the largest is " + std::to_string(high));
  if (value < low) refuse(text, field, place, "the smallest is " + std::to_string(low));
  return value;
}

// Parsers of models/units.h know neither the place nor the range: both stand here.
template <class Parse>
auto with_unit(Parse parse, const char* units, const std::string& text, const DesignField& field,
               const Place& place) {
  try {
    return parse(text, field.path);
  } catch (const Error&) {
    refuse(text, field, place, units);
  }
}
constexpr const char* kByteUnits = "units: B, KiB, MiB, GiB; whole bytes";
constexpr const char* kFrequencyUnits = "units: Hz, kHz, MHz, GHz; whole hertz";
constexpr const char* kTimeUnits = "units: ps, ns, us, ms, s; whole picoseconds";

Bytes size_of(const std::string& text, std::uint64_t low, std::uint64_t high,
              const DesignField& field, const Place& place) {
  const Bytes value = with_unit(parse_bytes, kByteUnits, text, field, place);
  if (value.count() < low || value.count() > high) refuse(text, field, place);
  return value;
}

bool switch_of(const std::string& text, const DesignField& field, const Place& place) {
  if (text != "on" && text != "off") refuse(text, field, place);
  return text == "on";
}

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
  const std::string nearest = nearest_name(text, known);
  refuse(text, field, place,
         nearest.empty() ? "see models/" + folder : "did you mean '" + nearest + "'?");
}

constexpr const char* kLaneRange = "a whole number from 1 to 65536";
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// NOLINTBEGIN(cppcoreguidelines-macro-usage): one line a field instead of two lambdas each.
#define STOAT_SET \
  [](DesignPoint & p, const std::string& text, const DesignField& self, const Place& at)
#define STOAT_GET [](const DesignPoint& p) -> std::string
#define STOAT_LANES(path, member)                                          \
  DesignField {                                                            \
    path, STOAT_SET { p.member = whole_number(text, 1, 65536, self, at); } \
    , STOAT_GET { return std::to_string(p.member); }                       \
    , kLaneRange                                                           \
  }
// NOLINTEND(cppcoreguidelines-macro-usage)

std::vector<DesignField> make_fields() {
  return {{"memory.standard", STOAT_SET{p.dram = table_of(text, "dram", self, at);
}
, STOAT_GET { return p.dram; }
, "the name of a DRAM standard (models/dram) or a path"
}  // namespace
, {"memory.refresh", STOAT_SET{p.refresh = switch_of(text, self, at);
}  // namespace stoat::sim
, STOAT_GET { return p.refresh ? "on" : "off"; }
, "on or off"
}
, {"energy.prices", STOAT_SET{p.prices = table_of(text, "energy", self, at);
}
, STOAT_GET { return p.prices; }
, "the name of a price list (models/energy) or a path"
}
, {"engine.clock", STOAT_SET{p.clock = with_unit(parse_frequency, kFrequencyUnits, text, self, at);
if (p.clock.count() < 1000000 || p.clock.count() > 100000000000ULL) refuse(text, self, at);
}
, STOAT_GET { return std::to_string(p.clock.count()) + " Hz"; }
, "a frequency with its unit from 1 MHz to 100 GHz, such as '1.0 GHz'"
}
, STOAT_LANES("engine.lanes.dense", dense_lanes),
    STOAT_LANES("engine.lanes.gather_add", gather_add_lanes),
    STOAT_LANES("engine.lanes.ternary", ternary_lanes), STOAT_LANES("engine.lanes.exp", exp_lanes),
    STOAT_LANES("engine.lanes.comparators", comparators),
    {"engine.stash", STOAT_SET{p.stash = size_of(text, 0, 1024 * kMiB, self, at);
}
, STOAT_GET { return std::to_string(p.stash.count()) + " B"; }
, "a size with its unit up to 1 GiB, such as '64 KiB'"
}
, {"engine.row_buffer", STOAT_SET{p.row_buffer = size_of(text, 64, 1024 * kMiB, self, at);
}
, STOAT_GET { return std::to_string(p.row_buffer.count()) + " B"; }
, "a size with its unit from 64 B to 1 GiB, such as '4 KiB'"
}
, {"engine.query_buffer", STOAT_SET{p.query_buffer = size_of(text, 64, 1024 * kMiB, self, at);
}
, STOAT_GET { return std::to_string(p.query_buffer.count()) + " B"; }
, "a size with its unit from 64 B to 1 GiB, such as '4 KiB'"
}
, {"engine.outstanding_bursts",
   STOAT_SET{p.outstanding_bursts = whole_number(text, 1, 65536, self, at);
}
, STOAT_GET { return std::to_string(p.outstanding_bursts); }
, kLaneRange
}
, {"engine.exchange_latency",
   STOAT_SET{p.exchange_latency = with_unit(parse_time, kTimeUnits, text, self, at);
if (p.exchange_latency.count() > 1000000000ULL) refuse(text, self, at);
}
, STOAT_GET { return std::to_string(p.exchange_latency.count()) + " ps"; }
, "a time with its unit up to 1 ms, such as '100 ns'"
}
, {"engine.repeats", STOAT_SET{p.repeats = value_of(kRepeats, text, self, at);
}
, STOAT_GET { return std::string(repeats_name(p.repeats)); }
, "adds, shift_adds or multiply"
}
, {"mapping.tiles", STOAT_SET{p.dealing = value_of(kDealings, text, self, at);
}
, STOAT_GET { return std::string(dealing_name(p.dealing)); }
, "round_robin or contiguous"
}
, {"mapping.k_layout", STOAT_SET{p.k_layout = value_of(kLayouts, text, self, at);
}
, STOAT_GET { return std::string(layout_name(p.k_layout)); }
, "token_major or feature_major"
}
, {"kv.element", STOAT_SET{p.element = value_of(kElements, text, self, at);
}
, STOAT_GET { return std::string(element_name(p.element)); }
, "bf16, fp8 or int8"
}
,
}
;
}

#undef STOAT_LANES
#undef STOAT_GET
#undef STOAT_SET

}  // namespace

std::string_view repeats_name(Repeats value) { return word_of(kRepeats, value); }
std::string_view layout_name(KLayout value) { return word_of(kLayouts, value); }
std::string_view dealing_name(Dealing value) { return word_of(kDealings, value); }
std::string_view element_name(KvElement value) { return word_of(kElements, value); }
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

}  // namespace stoat::sim
