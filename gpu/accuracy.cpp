// Measuring one group: prefill, then setting by setting, ask by ask.
#include "gpu/accuracy.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <numbers>
#include <utility>

#include "gpu/inputs.h"
#include "gpu/questions.h"
#include "models/error.h"
#include "models/llm/tokenizer.h"

namespace stoat {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kMostSteps = 1U << 30;  // beyond every model; a prompt fits beside it

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Row `i` of one step's tokens of all prompts.
std::vector<std::int32_t> column(const std::vector<std::vector<std::int32_t>>& tokens,
                                 std::size_t i) {
  std::vector<std::int32_t> values;
  values.reserve(tokens.size());
  for (const auto& row : tokens) values.push_back(row[i]);
  return values;
}

// Free running: the question is fed, the answer decoded greedily; the last token of an answer is
// fed only where a turn follows.
std::vector<AccuracyTurnResult> run_ask(const AccuracyAsk& ask, const Tokenizer& tokenizer,
                                        AccuracyDecoder& decoder) {
  std::vector<AccuracyTurnResult> results;
  decoder.rewind();
  for (std::size_t t = 0; t < ask.size(); ++t) {
    const AccuracyTurn& turn = ask[t];
    const std::size_t prompts = turn.text.size();
    for (std::size_t i = 0; i < turn.text.front().size(); ++i) decoder.step(column(turn.text, i));
    std::vector<std::vector<std::int32_t>> answers(prompts);
    for (std::uint32_t g = 0; g < turn.generate; ++g) {
      const std::vector<std::int32_t> chosen = decoder.chosen();
      for (std::size_t p = 0; p < prompts; ++p) answers[p].push_back(chosen[p]);
      if (g + 1 < turn.generate || t + 1 < ask.size()) decoder.step({});
    }
    AccuracyTurnResult result{turn.kind, std::vector<bool>(prompts)};
    for (std::size_t p = 0; p < prompts; ++p)
      result.right[p] = answer_matches(tokenizer.decode(answers[p]), turn.expect[p]);
    results.push_back(std::move(result));
  }
  return results;
}

// Softmax of one row; returns -log2 of the probability of `next`.
double softmax_row(std::span<const float> logits, std::int32_t next, std::span<float> out) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) sum += out[i] = std::exp(logits[i] - max);
  for (float& value : out) value = static_cast<float>(static_cast<double>(value) / sum);
  const double logit = logits[static_cast<std::size_t>(next)];
  return (std::log(sum) - (logit - static_cast<double>(max))) / std::numbers::ln2;
}

std::size_t best_of(std::span<const float> row) {
  return static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

// One text: sums over its steps.
struct TextSums {
  double bits = 0, moved = 0, agree = 0;
};

double distance(std::span<const float> own, std::span<const float> dense) {
  double sum = 0;
  for (std::size_t i = 0; i < own.size(); ++i)
    sum += std::abs(static_cast<double>(own[i]) - static_cast<double>(dense[i]));
  return sum / 2;
}

// Teacher-forced: token i of the continuation is fed and token i + 1 predicted. `dense` is filled
// by the first setting and read by the others. [steps, prompts, vocab]
void run_text(const AccuracyGroup& group, std::size_t vocab, ThreadPool& pool,
              AccuracyDecoder& decoder, std::vector<float>& dense, AccuracyCell& cell) {
  const std::size_t prompts = group.prompts.size();
  const std::size_t steps = group.continuation.front().size() - 1;
  const bool first = dense.empty();
  if (first) dense.resize(steps * prompts * vocab);
  std::vector<TextSums> sums(prompts);
  std::vector<float> logits, own(prompts * vocab);
  decoder.rewind();
  for (std::size_t i = 0; i < steps; ++i) {
    decoder.step(column(group.continuation, i));
    decoder.logits(logits);
    pool.for_chunks(prompts, [&](std::size_t p) {
      const std::span<float> row(own.data() + p * vocab, vocab);
      sums[p].bits += softmax_row(std::span<const float>(logits).subspan(p * vocab, vocab),
                                  group.continuation[p][i + 1], row);
      const std::span<float> reference(dense.data() + (i * prompts + p) * vocab, vocab);
      if (first) std::copy(row.begin(), row.end(), reference.begin());
      sums[p].moved += distance(row, reference);
      sums[p].agree += best_of(row) == best_of(reference) ? 1 : 0;
    });
  }
  for (const TextSums& text : sums) {
    cell.bits.push_back(text.bits);
    cell.total_variation.push_back(text.moved / static_cast<double>(steps));
    cell.top1_agreement.push_back(text.agree / static_cast<double>(steps));
  }
}

}  // namespace

std::uint32_t AccuracySetting::budget_of_layer(std::uint32_t layer) const {
  if (method == Method::kDense) return 0;
  STOAT_ENSURE(!budgets.empty() && (budgets.size() == 1 || layer < budgets.size()),
               "one budget, or one a layer");
  return budgets.size() == 1 ? budgets.front() : budgets[layer];
}

std::uint32_t AccuracySetting::largest_budget() const {
  return budgets.empty() ? 0 : *std::max_element(budgets.begin(), budgets.end());
}

std::uint32_t AccuracyGroup::longest_steps() const {
  std::size_t most = continuation.empty() ? 0 : continuation.front().size() - 1;
  for (const AccuracyAsk& ask : asks) {
    std::size_t steps = 0;
    for (const AccuracyTurn& turn : ask) steps += turn.text.front().size() + turn.generate;
    most = std::max(most, steps - 1);  // the last answer's last token is not fed
  }
  return static_cast<std::uint32_t>(std::min<std::size_t>(most, kMostSteps));
}

std::uint32_t AccuracyGroup::largest_context() const {
  std::size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  return static_cast<std::uint32_t>(longest) + longest_steps();
}

std::string setting_refusal(const AccuracySetting& setting, std::uint32_t largest_context) {
  if (setting.method != Method::kFlash) return "";
  const std::uint32_t tiles = tiles_of_context(largest_context);
  const std::uint32_t least = *std::min_element(setting.budgets.begin(), setting.budgets.end());
  if (least >= tiles) return "";
  return "flash needs a sample in each of the " + std::to_string(tiles) + " tiles";
}

namespace {

AccuracyCell measure_setting(const AccuracyPlan& plan, const AccuracyGroup& group,
                             const AccuracySetting& setting, const Tokenizer& tokenizer,
                             AccuracyDecoder& decoder, ThreadPool& pool,
                             std::vector<float>& dense) {
  AccuracyCell cell;
  cell.setting = setting.name;
  cell.refused = setting_refusal(setting, group.largest_context());
  if (!cell.refused.empty()) return cell;
  const Clock::time_point start = Clock::now();
  decoder.use(setting);
  for (const AccuracyAsk& ask : group.asks) cell.asks.push_back(run_ask(ask, tokenizer, decoder));
  if (!group.continuation.empty())
    run_text(group, plan.config.vocab_size, pool, decoder, dense, cell);
  cell.seconds = seconds_since(start);
  return cell;
}

}  // namespace

AccuracyGroupResult measure_group(const AccuracyPlan& plan, const AccuracyGroup& group,
                                  AccuracyDecoder& decoder, ThreadPool& pool,
                                  const std::atomic<bool>* stop) {
  const auto tokenizer = tokenizer_of(plan.model_folder);
  AccuracyGroupResult result{
      group.name, group.length, static_cast<std::uint32_t>(group.prompts.size()), 0, {}, {}};
  const Clock::time_point begin = Clock::now();
  for (std::uint32_t p = 0; p < group.prompts.size(); ++p) decoder.prefill(p, group.prompts[p]);
  result.prefill_seconds = seconds_since(begin);
  std::vector<float> dense;
  for (const AccuracySetting& setting : plan.settings) {
    if (stop && stop->load()) break;
    try {
      result.cells.push_back(
          measure_setting(plan, group, setting, *tokenizer, decoder, pool, dense));
    } catch (const Error&) {
      if (result.cells.empty()) throw;
      result.failure = std::current_exception();
      break;
    }
  }
  return result;
}

}  // namespace stoat
