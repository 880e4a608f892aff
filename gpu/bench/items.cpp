// What stoat-bench can measure, by name.
#include <algorithm>
#include <cmath>

#include "gpu/bench/measure.h"

namespace stoat::gpu {

namespace {

constexpr std::uint32_t kTracedContext = 32768;  // and of the other twins

BenchItem floor_item(BenchKind kind, bool overlapped) {
  BenchItem item;
  item.kind = kind;
  item.overlapped = overlapped;
  return item;
}

BenchItem decode_item(Method method, std::uint32_t budget, bool trace = false) {
  BenchItem item;
  item.method = method;
  item.budget = budget;
  item.trace = trace;
  return item;
}

std::vector<BenchItem> all_items() {
  std::vector<BenchItem> items{
      floor_item(BenchKind::kReadK, false), floor_item(BenchKind::kReadK, true),
      floor_item(BenchKind::kReadKv, false), floor_item(BenchKind::kReadKv, true),
      decode_item(Method::kDense, 0)};
  for (const std::uint32_t draws : {0U, 1U, 2U, 4U}) {
    BenchItem score = decode_item(Method::kProp, 128);
    score.kind = BenchKind::kScore;
    score.ternary_draws = draws;
    items.push_back(score);
  }
  for (const std::uint32_t budget : {128U, 512U, 1024U, 2048U}) {
    items.push_back(decode_item(Method::kProp, budget));
    if (budget != 1024) items.push_back(decode_item(Method::kProp, budget, true));
  }
  items.push_back(decode_item(Method::kFlash, 2048));
  items.push_back(decode_item(Method::kFlash, 2048, true));
  for (const Method method :
       {Method::kSystematic, Method::kStratified, Method::kIid, Method::kTopK})
    items.push_back(decode_item(method, 128));
  BenchItem ternary = decode_item(Method::kProp, 128);
  ternary.ternary_draws = 1;
  items.push_back(ternary);
  for (BenchItem waiting : {decode_item(Method::kProp, 128), decode_item(Method::kDense, 0)}) {
    waiting.waits = true;
    items.push_back(waiting);
  }
  return items;
}

}  // namespace

const std::vector<BenchItem>& bench_items() {
  static const std::vector<BenchItem> items = all_items();
  return items;
}

bool measured_by_default(const BenchShape& shape, const BenchItem& item) {
  if (item.ternary_draws > 0 || item.waits) return shape.context == kTracedContext;
  if (item.is_floor() || item.kind == BenchKind::kScore || item.method == Method::kDense)
    return true;
  const bool flash = item.method == Method::kFlash, prop = item.method == Method::kProp;
  if (!item.trace && (flash || (prop && (item.budget == 128 || item.budget == 1024)))) return true;
  return shape.context == kTracedContext;
}

std::string BenchItem::name() const {
  if (is_floor()) {
    const std::string text = kind == BenchKind::kReadK ? "read K" : "read K and V";
    return overlapped ? text + " overlapped" : text;
  }
  const std::string ternary =
      ternary_draws > 0 ? " ternary B=" + std::to_string(ternary_draws) : std::string();
  if (kind == BenchKind::kScore) return "score pass" + ternary;
  std::string text(method_name(method));
  if (method != Method::kDense) text += " S=" + std::to_string(budget);
  return text + ternary + (trace ? " traced" : "") + (waits ? " waiting" : "");
}

std::uint64_t must_read_bytes(const BenchShape& shape, const BenchItem& item) {
  const bool values = item.kind == BenchKind::kReadKv ||
                      (item.kind == BenchKind::kDecode && item.method == Method::kDense);
  return (values ? 2 : 1) * shape.key_bytes();
}

std::string item_refusal(const BenchShape& shape, const BenchItem& item) {
  if (item.is_floor()) return {};
  DecodeParams p;
  p.batch = shape.batch;
  p.q_heads = shape.q_heads;
  p.kv_heads = shape.kv_heads;
  p.head_dim = shape.head_dim;
  p.max_context = p.kv_capacity = shape.context;
  p.sm_scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  p.method = item.method;
  p.budget = item.budget;
  p.ternary.draws = item.ternary_draws;
  p.ternary.capacity = shape.context;
  return shape_refusal(p);
}

double quantile(std::vector<double> samples, double p) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  return samples[static_cast<std::size_t>(p * static_cast<double>(samples.size() - 1))];
}

}  // namespace stoat::gpu
