// Replicate draws of every query head of a decode on the CPU, and the two formulas.
#include "gpu/accuracy_variance.h"

#include <algorithm>
#include <cmath>

#include "models/error.h"
#include "models/llm/transformer.h"

namespace stoat {
namespace {

// Moments of value rows under weights that need not sum to one.
class Moments {
 public:
  explicit Moments(const KvRows& values) : values_(values), sum_(values.head_dim, 0.0) {}
  void clear() {
    sum_.assign(sum_.size(), 0.0);
    mass_ = squares_ = 0;
  }
  void add(std::uint32_t row, double weight) {
    if (weight <= 0) return;
    const Bf16* source = values_.data + row * values_.row_stride;
    double squares = 0;
    for (std::uint32_t d = 0; d < values_.head_dim; ++d) {
      const auto value = static_cast<double>(to_float(source[d]));
      sum_[d] += weight * value;
      squares += value * value;
    }
    mass_ += weight;
    squares_ += weight * squares;
  }
  // tr of the covariance.
  double trace() const {
    if (mass_ <= 0) return 0;
    double mean_square = 0;
    for (const double value : sum_) mean_square += value / mass_ * (value / mass_);
    return std::max(0.0, squares_ / mass_ - mean_square);
  }

 private:
  KvRows values_;
  std::vector<double> sum_;
  double mass_ = 0, squares_ = 0;
};

// The output that the ruler's probabilities give: what the samplers are unbiased for.
std::vector<double> expected_output(const Ruler& ruler, const KvRows& values) {
  std::vector<double> p(ruler.rows());
  for (std::uint32_t row = 0; row < ruler.rows(); ++row)
    p[row] =
        static_cast<double>(ruler.end(row) - ruler.begin(row)) / static_cast<double>(ruler.total());
  return gather_dense(p, values);
}

double squared_norm(std::span<const double> a) {
  double sum = 0;
  for (const double value : a) sum += value * value;
  return sum;
}

double squared_distance(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += (a[d] - b[d]) * (a[d] - b[d]);
  return sum;
}

// Adds one query head to the cells of its layer. [methods, budgets]
void add_head(const VariancePlan& plan, DrawSite site, const ScoreCodes& codes,
              const KvRows& values, std::span<VarianceCell> cells) {
  const Ruler ruler(codes);
  const std::vector<double> exact = expected_output(ruler, values);
  const double iid = iid_variance(ruler, values, 1);
  std::size_t at = 0;
  for (const Method method : plan.methods) {
    for (const std::uint32_t budget : plan.budgets) {
      double sum = 0;
      for (std::uint32_t r = 0; r < plan.replicates; ++r) {
        site.seed = plan.seed + r;
        const Selection selection = select_rows(method, codes, ruler, budget, site);
        sum += squared_distance(
            gather_selected(selection.rows, selection_weights(method, codes, selection), values),
            exact);
      }
      VarianceCell& cell = cells[at++];
      const double mean = sum / plan.replicates;
      cell.squared_error += mean;
      cell.error_of_sum += mean * mean;  // made a standard error at the end
      if (method == Method::kIid) cell.theory += iid / budget;
      if (method == Method::kStratified) cell.theory += stratified_variance(ruler, values, budget);
      cell.squared_output += squared_norm(exact);
      ++cell.heads;
    }
  }
}

// Sums of squares of the heads' means become the standard error of their sum.
void finish(VarianceCell& cell) {
  const auto n = static_cast<double>(cell.heads);
  const double mean = cell.squared_error / n;
  cell.error_of_sum =
      n < 2 ? 0 : std::sqrt(std::max(0.0, cell.error_of_sum - n * mean * mean) * n / (n - 1));
}

}  // namespace

double iid_variance(const Ruler& ruler, const KvRows& values, std::uint32_t budget) {
  Moments all(values);
  for (std::uint32_t row = 0; row < ruler.rows(); ++row)
    all.add(row, static_cast<double>(ruler.end(row) - ruler.begin(row)));
  return all.trace() / budget;
}

double stratified_variance(const Ruler& ruler, const KvRows& values, std::uint32_t budget) {
  // Stratum s is [s * Z, (s + 1) * Z) of the ruler of length S * Z.
  const double total = static_cast<double>(ruler.total()), strata = budget;
  double sum = 0;
  std::uint32_t stratum = 0;
  Moments inside(values);
  for (std::uint32_t row = 0; row < ruler.rows(); ++row) {
    double begin = static_cast<double>(ruler.begin(row)) * strata;
    const double end = static_cast<double>(ruler.end(row)) * strata;
    while (end > (stratum + 1.0) * total && stratum + 1 < budget) {
      const double border = (stratum + 1.0) * total;
      inside.add(row, border - begin);
      sum += inside.trace();
      inside.clear();
      // Strata that lie within this row have no variance.
      stratum = std::min(budget - 1, static_cast<std::uint32_t>(end / total));
      begin = std::max(border, stratum * total);
    }
    inside.add(row, end - begin);
  }
  return (sum + inside.trace()) / (strata * strata);
}

std::vector<VarianceCell> measure_variance(const AccuracyPlan& plan, ThreadPool& pool,
                                           const std::atomic<bool>* stop) {
  const VariancePlan& wanted = plan.variance;
  Transformer model = Transformer::load(plan.model_folder, pool);
  const ModelConfig& config = model.config();
  const std::size_t a_layer = wanted.methods.size() * wanted.budgets.size();
  // [q_heads, layers, methods, budgets]: every head adds to its own cells, on any thread.
  std::vector<std::vector<VarianceCell>> cells(
      config.n_q_heads, std::vector<VarianceCell>(config.n_layers * a_layer));
  const double scale = model.attention_scale();
  std::uint32_t prompt = 0;
  const DecodeAttention attention = [&](std::uint32_t layer, std::span<const float> q,
                                        const KvCache& cache, std::uint32_t context_len,
                                        std::span<float> out) {
    pool.for_chunks(config.n_q_heads, [&](std::size_t h) {
      const auto kv_head = static_cast<std::uint32_t>(h / config.group());
      const std::size_t first = h * config.head_dim;
      const auto head = q.subspan(first, config.head_dim);
      const KvRows values = cache.values(layer, kv_head, context_len);
      const std::vector<double> logits = score(std::vector<double>(head.begin(), head.end()),
                                               cache.keys(layer, kv_head, context_len), scale);
      const std::vector<double> output = gather_dense(softmax(logits), values);
      for (std::size_t d = 0; d < output.size(); ++d)
        out[first + d] = static_cast<float>(output[d]);
      const DrawSite site{0, prompt, context_len - 1, static_cast<std::uint16_t>(layer),
                          static_cast<std::uint16_t>(h)};
      add_head(wanted, site, encode_scores(std::vector<float>(logits.begin(), logits.end())),
               values, std::span(cells[h]).subspan(layer * a_layer, a_layer));
    });
  };
  for (const auto& tokens : wanted.prompts) {
    STOAT_ENSURE(tokens.size() > wanted.steps, "a prompt is longer than what is decoded of it");
    KvCache cache = model.make_cache(static_cast<std::uint32_t>(tokens.size()));
    const std::size_t exact = tokens.size() - wanted.steps;
    model.prefill(std::span(tokens).subspan(0, exact), cache);
    for (std::size_t i = exact; i < tokens.size(); ++i) {
      if (stop && stop->load()) return {};
      model.decode(tokens[i], cache, attention);
    }
    ++prompt;
  }
  std::vector<VarianceCell> sums(config.n_layers * a_layer);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    VarianceCell& sum = sums[i];
    sum.layer = static_cast<std::uint32_t>(i / a_layer);
    sum.method = wanted.methods[i % a_layer / wanted.budgets.size()];
    sum.budget = wanted.budgets[i % wanted.budgets.size()];
    for (const auto& head : cells) {
      sum.heads += head[i].heads;
      sum.squared_error += head[i].squared_error;
      sum.error_of_sum += head[i].error_of_sum;
      sum.theory += head[i].theory;
      sum.squared_output += head[i].squared_output;
    }
    finish(sum);
  }
  return sums;
}

}  // namespace stoat
