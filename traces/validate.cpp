// The rules of validate.h. Two passes: shapes (after which every index is safe), then one pass over
// the records.
#include "traces/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "traces/columns.h"

namespace stoat {

namespace {

constexpr std::size_t kMaxHeaderText = 4096;

// Collects violations up to a limit and stays quiet afterwards.
class Collector {
 public:
  Collector(std::size_t limit, std::uint64_t first_record) : limit_(limit), first_(first_record) {}
  bool full() const { return found_.size() >= limit_; }
  void add(std::string_view dataset, std::uint64_t record, std::string text) {
    if (!full()) found_.push_back({std::string(dataset), first_ + record, std::move(text)});
  }
  std::vector<Violation> take() { return std::move(found_); }

 private:
  std::size_t limit_;
  std::uint64_t first_;
  std::vector<Violation> found_;
};

void check_indptr(Collector& out, std::string_view path, const std::vector<std::uint64_t>& indptr,
                  std::uint64_t records, std::uint64_t pointed) {
  if (indptr.size() != records + 1) {
    out.add(path, 0, fmt::format("{} entries; expected {}", indptr.size(), records + 1));
    return;
  }
  if (indptr[0] != 0) out.add(path, 0, fmt::format("starts at {}; expected 0", indptr[0]));
  for (std::size_t i = 1; i < indptr.size() && !out.full(); ++i) {
    if (indptr[i] < indptr[i - 1]) {
      out.add(path, i - 1, fmt::format("falls from {} to {}", indptr[i - 1], indptr[i]));
    }
  }
  if (indptr.back() != pointed) {
    out.add(path, records, fmt::format("ends at {}; expected {}", indptr.back(), pointed));
  }
}

// Rows a column must have, given the records; ~0 for "any" (tokens, probes).
std::uint64_t expected_rows(Axis axis, const TraceRecords& r, const TraceHeader& header) {
  const std::uint64_t draws = header.score_kind == ScoreKind::kTernary ? r.draw_indptr.back() : 0;
  switch (axis) {
    case Axis::kRecord:
      return r.size();
    case Axis::kValue:
      return r.value_indptr.back();
    case Axis::kTile:
      return r.tile_indptr.back();
    case Axis::kDraw:
      return draws;
    case Axis::kScore:
      return r.score_record.size();
    case Axis::kCode:
      return r.score_indptr.back();
    case Axis::kExponent:
      return r.score_tile_indptr.back();
    default:
      return ~std::uint64_t{0};
  }
}

bool optional_column(const Column& column) {
  return column.path.starts_with("/stats/") || column.path.starts_with("/probe/") ||
         column.path.starts_with("/tokens/");
}

struct RecordChecker {
  const TraceRecords& r;
  const TraceHeader& header;
  Collector& out;

  void place(std::size_t i) const {
    if (r.layer[i] >= header.n_layers) {
      out.add("/records/layer", i,
              fmt::format("{}; expected below {}", r.layer[i], header.n_layers));
    }
    if (r.q_head[i] >= header.n_q_heads) {
      out.add("/records/q_head", i,
              fmt::format("{}; expected below {}", r.q_head[i], header.n_q_heads));
    } else if (r.kv_head[i] != r.q_head[i] / header.group()) {
      out.add("/records/kv_head", i,
              fmt::format("{}; expected {} (q_head {} of groups of {})", r.kv_head[i],
                          r.q_head[i] / header.group(), r.q_head[i], header.group()));
    }
    if (r.context[i] == 0) out.add("/records/context", i, "0; expected at least 1");
    if (i == 0) return;
    const auto key = [this](std::size_t k) {
      return std::make_tuple(r.step[k], r.seq[k], r.layer[k], r.q_head[k]);
    };
    if (key(i - 1) >= key(i)) {
      out.add("/records/step", i, "not after the record before it in (step, seq, layer, q_head)");
    }
    if (r.step[i] == r.step[i - 1] && r.seq[i] == r.seq[i - 1] &&
        r.context[i] != r.context[i - 1]) {
      out.add(
          "/records/context", i,
          fmt::format("{}; expected {}, as before in this step", r.context[i], r.context[i - 1]));
    }
  }

  // Whether rows rise below the context and every one is counted; without a branch a row. sum: of
  // the counts.
  bool are_regular(std::uint64_t begin, std::uint64_t end, std::uint32_t context,
                   std::uint64_t& sum) const {
    const std::uint32_t* const row = r.row.data();
    const std::uint16_t* const count = r.count.data();
    std::uint32_t bad = begin < end && row[end - 1] >= context ? 1 : 0, counts = 0;
    for (std::uint64_t k = begin + 1; k < end; ++k) bad |= row[k] <= row[k - 1] ? 1U : 0U;
    for (std::uint64_t k = begin; k < end; ++k) bad |= count[k] == 0 ? 1U : 0U;
    for (std::uint64_t k = begin; k < end; ++k) counts += count[k];
    sum = counts;
    return bad == 0 && end - begin <= kMaxBudget;  // so that `counts` does not overflow
  }
  // Says what is not regular; false where the rest of the record says nothing more.
  bool find_irregular(std::size_t i, std::uint64_t begin, std::uint64_t end,
                      std::uint64_t& sum) const {
    for (std::uint64_t k = begin; k < end; ++k) {
      if (r.row[k] >= r.context[i]) {
        out.add("/value/row", i,
                fmt::format("row {}; expected below the context {}", r.row[k], r.context[i]));
        return false;
      }
      if (k > begin && r.row[k] <= r.row[k - 1]) {
        out.add("/value/row", i,
                fmt::format("row {} after row {}; expected strictly increasing", r.row[k],
                            r.row[k - 1]));
        return false;
      }
      if (r.count[k] == 0) out.add("/value/count", i, fmt::format("0 at row {}", r.row[k]));
      sum += r.count[k];
    }
    return true;
  }

  void rows(std::size_t i) const {
    const std::uint64_t begin = r.value_indptr[i];
    const std::uint64_t end = r.value_indptr[i + 1];
    if (r.kind[i] == RecordKind::kDense) {
      if (begin != end) out.add("/value/indptr", i, "a dense record lists rows");
      if (r.budget[i] != 0) out.add("/records/S", i, "a dense record has a budget");
      return;
    }
    if (r.kind[i] != RecordKind::kSampled) {
      out.add("/records/kind", i,
              fmt::format("{}; expected 0 (dense) or 1 (sampled)", static_cast<int>(r.kind[i])));
      return;
    }
    if (header.method == Method::kDense) {
      out.add("/records/kind", i, "sampled, in a trace of method dense");
      return;
    }
    if (r.budget[i] == 0 || r.budget[i] > kMaxBudget) {
      out.add("/records/S", i, fmt::format("{}; expected 1 to {}", r.budget[i], kMaxBudget));
    }
    std::uint64_t sum = 0;
    if (!are_regular(begin, end, r.context[i], sum)) {
      sum = 0;
      if (!find_irregular(i, begin, end, sum)) return;
    }
    if (header.method == Method::kTopK) {
      const std::uint64_t expected = std::min(r.budget[i], r.context[i]);
      if (end - begin != expected || sum != expected) {
        out.add("/value/count", i,
                fmt::format("{} rows with {} counts; expected {} rows, each once", end - begin, sum,
                            expected));
      }
    } else if (sum != r.budget[i]) {
      out.add("/value/count", i,
              fmt::format("counts sum to {}; expected S = {}", sum, r.budget[i]));
    }
  }

  void tiles(std::size_t i) const {
    if (r.tile_indptr.size() == 1) return;
    const std::uint64_t begin = r.tile_indptr[i];
    const std::uint64_t end = r.tile_indptr[i + 1];
    if (r.kind[i] == RecordKind::kSampled && begin == end) {
      out.add("/tile/indptr", i, "a flash record without tiles");
    }
    const std::uint64_t tiles = (std::uint64_t{r.context[i]} + kTileRows - 1) / kTileRows;
    for (std::uint64_t k = begin; k < end; ++k) {
      if (r.tile[k] >= tiles || (k > begin && r.tile[k] <= r.tile[k - 1])) {
        out.add("/tile/tile", i,
                fmt::format("tile {}; expected increasing and below {}", r.tile[k], tiles));
        return;
      }
      if (r.tile_mass[k] == 0) {
        out.add("/tile/mass", i, fmt::format("0 at tile {}", r.tile[k]));
        return;
      }
    }
  }
};

void check_scores(Collector& out, const TraceRecords& r) {
  for (std::size_t m = 0; m < r.score_record.size() && !out.full(); ++m) {
    const std::uint64_t i = r.score_record[m];
    if (i >= r.size() || (m > 0 && i <= r.score_record[m - 1])) {
      out.add("/scores/record", m,
              fmt::format("{}; expected increasing and below {}", i, r.size()));
      return;
    }
    const std::uint64_t codes = r.score_indptr[m + 1] - r.score_indptr[m];
    const std::uint64_t tiles = r.score_tile_indptr[m + 1] - r.score_tile_indptr[m];
    if (codes != r.context[i]) {
      out.add("/scores/indptr", i, fmt::format("{} codes; expected {}", codes, r.context[i]));
    }
    if (tiles != (std::uint64_t{r.context[i]} + kTileRows - 1) / kTileRows) {
      out.add("/scores/tile_indptr", i,
              fmt::format("{} tiles for a context of {}", tiles, r.context[i]));
    }
  }
}

void check_tokens(Collector& out, const TraceRecords& r) {
  if (r.token_id.empty()) return;
  std::uint64_t pairs = 0;
  for (std::size_t i = 0; i < r.size(); ++i) {
    if (i == 0 || r.step[i] != r.step[i - 1] || r.seq[i] != r.seq[i - 1]) ++pairs;
  }
  if (r.token_id.size() != pairs) {
    out.add(
        "/tokens/id", 0,
        fmt::format("{} tokens; expected one a (step, sequence): {}", r.token_id.size(), pairs));
  }
}

}  // namespace

std::string Violation::sentence() const {
  return fmt::format("{}, record {}: {}", dataset, record, text);
}

std::string header_problem(const TraceHeader& h) {
  if (h.n_layers == 0 || h.n_layers > 65536) return fmt::format("n_layers is {}", h.n_layers);
  if (h.n_kv_heads == 0 || h.n_q_heads == 0 || h.n_q_heads > 65536 ||
      h.n_q_heads % h.n_kv_heads != 0) {
    return fmt::format("n_q_heads is {} and n_kv_heads {}; expected a whole multiple", h.n_q_heads,
                       h.n_kv_heads);
  }
  if (h.head_dim == 0 || h.head_dim > 65536) return fmt::format("head_dim is {}", h.head_dim);
  if (h.row_bytes == 0) return "row_bytes is 0";
  if (h.method > Method::kTopK) return fmt::format("method is {}", static_cast<int>(h.method));
  if (h.method == Method::kDense && !h.budgets.empty()) return "budgets in a dense trace";
  if (h.method != Method::kDense && h.budgets.size() != 1 && h.budgets.size() != h.n_layers) {
    return fmt::format("{} budgets; expected 1 or {} (n_layers)", h.budgets.size(), h.n_layers);
  }
  for (const std::uint32_t budget : h.budgets) {
    if (budget > kMaxBudget) return fmt::format("budget {}; at most {}", budget, kMaxBudget);
  }
  if (h.score_kind > ScoreKind::kTernary) return "score_kind is unknown";
  if (h.score_kind == ScoreKind::kTernary) {
    if (h.head_dim % 8 != 0) return fmt::format("head_dim is {}; ternary needs 8n", h.head_dim);
    if (h.ternary.draws < 1 || h.ternary.draws > 64) {
      return fmt::format("ternary_draws is {}; expected 1 to 64", h.ternary.draws);
    }
  }
  for (const std::string* text : {&h.model_name, &h.model_config_hash, &h.model_weights_hash,
                                  &h.tokenizer, &h.prompt_hash, &h.origin, &h.kv_dtype}) {
    if (text->size() > kMaxHeaderText) return "a header text is longer than 4096 bytes";
    if (text->find('\0') != std::string::npos) return "a header text holds a zero byte";
  }
  return {};
}

std::vector<Violation> shape_violations(const TraceRecords& r, const TraceHeader& header,
                                        std::size_t limit) {
  Collector out(limit, 0);
  const std::uint64_t n = r.size();
  const bool flash = header.method == Method::kFlash;
  const bool ternary = header.score_kind == ScoreKind::kTernary;
  for (const auto* indptr :
       {&r.value_indptr, &r.tile_indptr, &r.draw_indptr, &r.score_indptr, &r.score_tile_indptr}) {
    if (indptr->empty()) {
      out.add("/value/indptr", 0, "an indptr column is empty; expected at least one 0");
      return out.take();
    }
  }
  check_indptr(out, "/value/indptr", r.value_indptr, n, r.row.size());
  check_indptr(out, "/tile/indptr", r.tile_indptr, flash ? n : 0, r.tile.size());
  check_indptr(out, "/key/draw_indptr", r.draw_indptr, ternary ? n : 0,
               r.key_mask.size() / ((header.head_dim + 7) / 8));
  check_indptr(out, "/scores/indptr", r.score_indptr, r.score_record.size(), r.score_code.size());
  check_indptr(out, "/scores/tile_indptr", r.score_tile_indptr, r.score_record.size(),
               r.score_exponent.size());
  visit_columns(r, [&](const Column& column, const auto& values) {
    if (is_indptr(column.axis)) return;
    std::uint64_t rows = expected_rows(column.axis, r, header);
    if (rows == ~std::uint64_t{0}) return;
    if (optional_column(column) && values.empty()) return;
    if (column.path == "/key/sign" && !ternary) rows = 0;
    const std::uint64_t width = width_of(column.width, header, r.probe_budget.size());
    if (values.size() != rows * width) {
      out.add(column.path, 0, fmt::format("{} elements; expected {}", values.size(), rows * width));
    }
  });
  if (r.probe_error.empty() != r.probe_budget.empty() && n > 0) {
    out.add("/probe/error", 0, "probe budgets and errors must come together");
  }
  return out.take();
}

std::vector<Violation> find_violations(const TraceRecords& r, const TraceHeader& header,
                                       std::size_t limit, std::uint64_t first_record) {
  auto shapes = shape_violations(r, header, limit);
  if (!shapes.empty()) return shapes;
  Collector out(limit, first_record);
  const RecordChecker checker{r, header, out};
  const bool ternary = header.score_kind == ScoreKind::kTernary;
  for (std::size_t i = 0; i < r.size() && !out.full(); ++i) {
    checker.place(i);
    checker.rows(i);
    checker.tiles(i);
    if (ternary && r.draw_indptr[i + 1] - r.draw_indptr[i] != header.ternary.draws) {
      out.add("/key/draw_indptr", i,
              fmt::format("{} draws; expected {}", r.draw_indptr[i + 1] - r.draw_indptr[i],
                          header.ternary.draws));
    }
  }
  check_scores(out, r);
  check_tokens(out, r);
  visit_columns(r, [&](const Column& column, const auto& values) {
    if constexpr (std::is_same_v<std::decay_t<decltype(values[0])>, float>) {
      for (std::size_t k = 0; k < values.size() && !out.full(); ++k) {
        if (std::isfinite(values[k])) continue;
        const std::uint64_t width = width_of(column.width, header, r.probe_budget.size());
        out.add(column.path, k / width, "not a finite number");
      }
    }
  });
  return out.take();
}

}  // namespace stoat
