#include "tests/gpu/emulation/gather_case.h"

#include <cmath>
#include <stdexcept>
#include <vector>

#include "models/attention/decode.h"

namespace stoat::emulation {

using namespace gpu;

namespace {

ScoreCodes codes_of(const ScoreResults& scores, const DecodeParams& p, std::uint32_t sequence,
                    std::size_t head) {
  const std::uint32_t context = p.context_len[sequence];
  const auto first = static_cast<std::ptrdiff_t>(head * max_tiles(p));
  const auto tiles = static_cast<std::ptrdiff_t>((context + kTileRows - 1) / kTileRows);
  const auto code = scores.code.begin() + first * kTileRows;
  const auto exponent = scores.exponent.begin() + first;
  return {{code, code + context}, {exponent, exponent + tiles}};
}

std::vector<RowCount> traced(const GatherResults& got, const DecodeParams& p, std::size_t head) {
  std::vector<RowCount> rows;
  for (std::size_t s = head * p.budget; s < (head + 1) * p.budget; ++s) {
    if (got.count[s] > 0) rows.push_back({got.row[s], got.count[s]});
  }
  return rows;
}

// Of all rows of a sampled method, of its own rows of top-k.
double lse_of(const ScoreCodes& codes, Method method, const Selection& selection) {
  double sum = 0;
  const auto add = [&](std::size_t row) {
    const std::int32_t exponent = codes.exponent[row / kTileRows];
    sum += exponent == kMaskedTile ? 0 : std::exp2(exponent - codes.code[row] / 2048.0);
  };
  if (method == Method::kTopK) {
    for (const RowCount& entry : selection.rows) add(entry.row);
  } else {
    for (std::size_t row = 0; row < codes.code.size(); ++row) add(row);
  }
  return std::log(sum);
}

}  // namespace

std::string what_is_wrong(const Batch& batch, const BatchCase& of, const DecodeParams& p,
                          const ScoreResults& scores, const Cut& cut, const Launch& launch) {
  try {
    return what_is_wrong(batch, of, p, scores,
                         p.method == Method::kTopK ? run_topk(p, scores, cut, launch)
                                                   : run_gather(p, scores, cut, launch));
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

std::string what_is_wrong(const Batch& batch, const BatchCase& of, const DecodeParams& p,
                          const ScoreResults& scores, const GatherResults& got) {
  if (got.status != 0 || got.lost != 0)
    return "status " + std::to_string(got.status) + ", " + std::to_string(got.lost) + " rows lost";
  for (std::uint32_t s = 0; s < p.batch; ++s) {
    for (std::uint32_t h = 0; h < p.q_heads; ++h) {
      const std::size_t head = std::size_t{s} * p.q_heads + h;
      const std::string where = " of sequence " + std::to_string(s) + ", head " + std::to_string(h);
      const ScoreCodes codes = codes_of(scores, p, s, head);
      const DrawSite site{p.seed, s, of.contexts[s] - 1, static_cast<std::uint16_t>(p.layer),
                          static_cast<std::uint16_t>(h)};
      const Selection expected = select_rows(p.method, codes, p.budget, site);
      const std::vector<RowCount> rows = traced(got, p, head);
      if (rows != expected.rows)
        return std::to_string(rows.size()) + " rows" + where + " are not the " +
               std::to_string(expected.rows.size()) + " of the CPU";
      const std::vector<Bf16> values = batch.values(s, h / of.group);
      const std::vector<double> gathered =
          gather_selected(expected.rows, selection_weights(p.method, codes, expected),
                          {values.data(), p.head_dim, of.contexts[s], p.head_dim});
      const auto first = got.out.begin() + static_cast<std::ptrdiff_t>(head * p.head_dim);
      const double error = relative_error(std::vector<double>(first, first + p.head_dim), gathered);
      if (!(error <= 2e-5)) return "output" + where + " is wrong by " + std::to_string(error);
      const auto lse = static_cast<double>(got.lse[head]);
      const double expected_lse = lse_of(codes, p.method, expected);
      if (!(std::fabs(lse - expected_lse) <= 5e-4))
        return "log-sum-exp" + where + " is " + std::to_string(lse) + ", expected " +
               std::to_string(expected_lse);
    }
  }
  return "";
}

}  // namespace stoat::emulation
