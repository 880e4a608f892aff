// Encoding and parsing of payload.h. Sizes are compared before anything is allocated or copied.
#include "traces/payload.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "models/error.h"
#include "models/version.h"
#include "traces/columns.h"
#include "traces/validate.h"

namespace stoat {

static_assert(std::endian::native == std::endian::little,
              "payloads are copied as they lie in memory");

namespace {

template <class T>
std::uint8_t* put(std::uint8_t* to, T value) {
  std::memcpy(to, &value, sizeof(value));
  return to + sizeof(value);
}

template <std::size_t kBytes>
using UnsignedOf = std::conditional_t<
    kBytes == 1, std::uint8_t,
    std::conditional_t<kBytes == 2, std::uint16_t,
                       std::conditional_t<kBytes == 4, std::uint32_t, std::uint64_t>>>;

using Take = std::function<void(std::span<const std::uint8_t>)>;

// Elements by bytes, in pieces; as differences (modulo 2^n) where they rise.
template <bool kDifferences, class T>
void put_planes(const T* data, std::size_t count, std::span<std::uint8_t> memory,
                const Take& take) {
  using Bits = UnsignedOf<sizeof(T)>;
  for (unsigned shift = 0; shift < 8 * sizeof(T); shift += 8) {
    for (std::size_t done = 0; done < count;) {
      const std::size_t piece = std::min(count - done, memory.size());
      const T* const from = data + done;
      memory[0] = static_cast<std::uint8_t>(
          static_cast<Bits>(std::bit_cast<Bits>(from[0]) -
                            (kDifferences && done > 0 ? std::bit_cast<Bits>(from[-1]) : Bits{0})) >>
          shift);
      for (std::size_t i = 1; i < piece; ++i) {
        const Bits before = kDifferences ? std::bit_cast<Bits>(from[i - 1]) : Bits{0};
        memory[i] = static_cast<std::uint8_t>(
            static_cast<Bits>(std::bit_cast<Bits>(from[i]) - before) >> shift);
      }
      take(memory.first(piece));
      done += piece;
    }
  }
}

template <bool kDifferences, class T>
void take_planes(const std::uint8_t* from, T* data, std::size_t count) {
  using Bits = UnsignedOf<sizeof(T)>;
  Bits before = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Bits value = 0;
    for (std::size_t b = 0; b < sizeof(T); ++b)
      value = static_cast<Bits>(value | static_cast<Bits>(from[b * count + i]) << (8 * b));
    before = static_cast<Bits>(kDifferences ? value + before : value);
    data[i] = std::bit_cast<T>(before);
  }
}

bool holds_rows(const Column& column) { return column.path == "/value/row"; }

// Reads from a span; every read is checked.
class Cursor {
 public:
  Cursor(std::span<const std::uint8_t> bytes, const std::string& what)
      : left_(bytes), what_(what) {}

  void take(void* to, std::size_t bytes) {
    if (bytes > left_.size()) fail("ends early");
    if (bytes > 0) std::memcpy(to, left_.data(), bytes);
    left_ = left_.subspan(bytes);
  }
  template <class T>
  T number() {
    T value{};
    take(&value, sizeof(T));
    return value;
  }
  const std::uint8_t* take(std::size_t bytes) {
    if (bytes > left_.size()) fail("ends early");
    const std::uint8_t* from = left_.data();
    left_ = left_.subspan(bytes);
    return from;
  }
  std::size_t left() const { return left_.size(); }
  [[noreturn]] void fail(const std::string& found) const {
    throw damaged_error({what_}, "payload " + found, "columns as traces/README.md lists them");
  }

 private:
  std::span<const std::uint8_t> left_;
  const std::string& what_;
};

// Indptr columns always hold a 0; one that holds nothing else says nothing.
template <class T>
bool worth_writing(const Column& column, const std::vector<T>& values) {
  return values.size() > (is_indptr(column.axis) ? 1U : 0U);
}

}  // namespace

ToolStamp this_tool() { return {std::string(tool_version()), std::string(build_id())}; }

std::uint64_t payload_bytes(const TraceRecords& records) {
  std::uint64_t bytes = 4;
  visit_columns(records, [&](const Column&, const auto& values) {
    bytes += 9 + values.size() * sizeof(values[0]);
  });
  return bytes;
}

std::uint64_t encoded_bytes(const TraceRecords& records) {
  std::uint64_t bytes = sizeof(std::uint32_t);
  visit_columns(records, [&](const Column& column, const auto& values) {
    if (worth_writing(column, values)) bytes += 9 + values.size() * sizeof(values[0]);
  });
  return bytes;
}

void encode_records(const TraceRecords& records, std::span<std::uint8_t, kPayloadPiece> memory,
                    const Take& take) {
  std::uint32_t columns = 0;
  std::uint8_t number = 0;
  visit_columns(records, [&](const Column& column, const auto& values) {
    columns += worth_writing(column, values) ? 1 : 0;
    ++number;
  });
  STOAT_ENSURE(number == kColumnCount, "the column catalog and kColumnCount differ");
  std::uint8_t* to = put(memory.data(), columns);
  number = 0;
  visit_columns(records, [&](const Column& column, const auto& values) {
    if (worth_writing(column, values)) {
      to = put(put(to, number), std::uint64_t{values.size()});
      take({memory.data(), to});
      to = memory.data();
      if (holds_rows(column)) {
        put_planes<true>(values.data(), values.size(), memory, take);
      } else {
        put_planes<false>(values.data(), values.size(), memory, take);
      }
    }
    ++number;
  });
  if (to != memory.data()) take({memory.data(), to});  // no column at all
}

std::vector<std::uint8_t> encode_records(const TraceRecords& records) {
  std::vector<std::uint8_t> out, memory(kPayloadPiece);
  encode_records(records, std::span<std::uint8_t, kPayloadPiece>(memory),
                 [&](std::span<const std::uint8_t> piece) {
                   out.insert(out.end(), piece.begin(), piece.end());
                 });
  return out;
}

TraceRecords parse_records(std::span<const std::uint8_t> bytes, const std::string& what) {
  TraceRecords records;
  Cursor cursor(bytes, what);
  const auto columns = cursor.number<std::uint32_t>();
  if (columns > kColumnCount) cursor.fail(fmt::format("names {} columns", columns));
  int last = -1;
  for (std::uint32_t c = 0; c < columns; ++c) {
    const auto wanted = cursor.number<std::uint8_t>();
    const auto count = cursor.number<std::uint64_t>();
    if (wanted >= kColumnCount || wanted <= last) cursor.fail(fmt::format("has column {}", wanted));
    last = wanted;
    std::uint8_t number = 0;
    visit_columns(records, [&](const Column& column, auto& values) {
      if (number++ != wanted) return;
      if (count > cursor.left() / sizeof(values[0])) {
        cursor.fail(fmt::format("claims {} elements in {}", count, column.path));
      }
      values.resize(count);
      const std::uint8_t* from = cursor.take(count * sizeof(values[0]));
      if (holds_rows(column)) {
        take_planes<true>(from, values.data(), count);
      } else {
        take_planes<false>(from, values.data(), count);
      }
    });
  }
  if (cursor.left() != 0) cursor.fail(fmt::format("has {} bytes too many", cursor.left()));
  return records;
}

namespace {

nlohmann::json header_object(const TraceHeader& h) {
  nlohmann::json j = {{"model_name", h.model_name},
                      {"model_config_hash", h.model_config_hash},
                      {"model_weights_hash", h.model_weights_hash},
                      {"tokenizer", h.tokenizer},
                      {"prompt_hash", h.prompt_hash},
                      {"origin", h.origin},
                      {"seed", h.seed},
                      {"method", method_name(h.method)},
                      {"S", h.budgets},
                      {"score_kind", h.score_kind == ScoreKind::kExact ? "exact" : "ternary"},
                      {"kv_dtype", h.kv_dtype},
                      {"row_bytes", h.row_bytes},
                      {"n_layers", h.n_layers},
                      {"n_q_heads", h.n_q_heads},
                      {"n_kv_heads", h.n_kv_heads},
                      {"head_dim", h.head_dim},
                      {"weight_bytes_per_token", h.weight_bytes_per_token}};
  if (h.score_kind == ScoreKind::kTernary) {
    j["ternary_draws"] = h.ternary.draws;
    j["ternary_coupling"] = coupling_name(h.ternary.coupling);
    j["ternary_normaliser"] = normaliser_name(h.ternary.normaliser);
  }
  return j;
}

TraceHeader header_from(const nlohmann::json& j) {
  TraceHeader h;
  h.model_name = j.at("model_name");
  h.model_config_hash = j.at("model_config_hash");
  h.model_weights_hash = j.at("model_weights_hash");
  h.tokenizer = j.at("tokenizer");
  h.prompt_hash = j.at("prompt_hash");
  h.origin = j.at("origin");
  h.seed = j.at("seed");
  h.method = method_from_name(j.at("method").get<std::string>());
  h.budgets = j.at("S").get<std::vector<std::uint32_t>>();
  const std::string kind = j.at("score_kind");
  h.score_kind = kind == "ternary" ? ScoreKind::kTernary : ScoreKind::kExact;
  if (h.score_kind == ScoreKind::kTernary) {
    h.ternary.draws = j.at("ternary_draws");
    h.ternary.coupling = coupling_from_name(j.at("ternary_coupling").get<std::string>());
    h.ternary.normaliser = normaliser_from_name(j.at("ternary_normaliser").get<std::string>());
  }
  h.kv_dtype = j.at("kv_dtype");
  h.row_bytes = j.at("row_bytes");
  h.n_layers = j.at("n_layers");
  h.n_q_heads = j.at("n_q_heads");
  h.n_kv_heads = j.at("n_kv_heads");
  h.head_dim = j.at("head_dim");
  h.weight_bytes_per_token = j.at("weight_bytes_per_token");
  return h;
}

}  // namespace

std::string header_json(const TraceHeader& header) {
  return header_object(header).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string encode_header(const TraceHeader& header, const ToolStamp& tool) {
  const nlohmann::json j = {{"header", header_object(header)},
                            {"tool_version", tool.version},
                            {"build_id", tool.build_id}};
  return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

TraceHeader parse_header(std::string_view text, const std::string& what, ToolStamp* tool) {
  TraceHeader header;
  try {
    const nlohmann::json j = nlohmann::json::parse(text);
    header = header_from(j.at("header"));
    if (tool != nullptr) *tool = {j.at("tool_version"), j.at("build_id")};
  } catch (const std::exception& e) {
    throw damaged_error({what}, std::string("header: ") + e.what(), "a trace header");
  }
  const std::string problem = header_problem(header);
  if (!problem.empty()) throw damaged_error({what}, "header: " + problem);
  return header;
}

std::vector<StepRange> step_ranges(const TraceRecords& r) {
  std::vector<StepRange> ranges;
  std::size_t tokens = 0;
  for (std::size_t i = 0; i < r.size(); ++i) {
    const bool new_step = i == 0 || r.step[i] != r.step[i - 1];
    if (new_step) ranges.push_back({i, i, tokens, tokens});
    if (!r.token_id.empty() && (new_step || r.seq[i] != r.seq[i - 1])) ++tokens;
    ranges.back().last = i + 1;
    ranges.back().last_token = tokens;
  }
  return ranges;
}

Positions positions_at(const TraceRecords& r, const StepRange& step, bool end) {
  const std::size_t i = end ? step.last : step.first;
  Positions p;
  p.records = i;
  p.values = r.value_indptr[i];
  p.tiles = r.tile_indptr.size() > 1 ? r.tile_indptr[i] : 0;
  p.draws = r.draw_indptr.size() > 1 ? r.draw_indptr[i] : 0;
  p.scores = static_cast<std::uint64_t>(
      std::lower_bound(r.score_record.begin(), r.score_record.end(), i) - r.score_record.begin());
  p.codes = r.score_indptr[p.scores];
  p.exponents = r.score_tile_indptr[p.scores];
  p.tokens = end ? step.last_token : step.first_token;
  return p;
}

TraceRecords slice_records(const TraceRecords& r, const TraceHeader& header, const StepRange& first,
                           const StepRange& last) {
  const Positions begin = positions_at(r, first, false);
  const Positions end = positions_at(r, last, true);
  TraceRecords out;
  std::vector<const void*> sources;
  visit_columns(r, [&](const Column&, const auto& values) { sources.push_back(&values); });
  std::size_t number = 0;
  visit_columns(out, [&](const Column& column, auto& values) {
    const auto& source = *static_cast<const std::decay_t<decltype(values)>*>(sources[number++]);
    if (column.axis == Axis::kProbe) {
      values = source;
      return;
    }
    if (!worth_writing(column, source)) return;
    const std::uint64_t width = width_of(column.width, header, r.probe_budget.size());
    std::uint64_t from = position_on(column.axis, begin) * width;
    std::uint64_t to = position_on(column.axis, end) * width;
    if (is_indptr(column.axis)) ++to;
    values.assign(source.begin() + static_cast<std::ptrdiff_t>(from),
                  source.begin() + static_cast<std::ptrdiff_t>(to));
    using T = typename std::decay_t<decltype(values)>::value_type;
    if constexpr (std::is_same_v<T, std::uint64_t>) {
      const bool relative = is_indptr(column.axis) || column.path == "/scores/record";
      if (!relative) return;
      const std::uint64_t base =
          is_indptr(column.axis) ? position_on(pointed_axis(column.axis), begin) : begin.records;
      for (std::uint64_t& value : values) value -= base;
    }
  });
  return out;
}

}  // namespace stoat
