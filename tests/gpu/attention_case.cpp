#include "tests/gpu/attention_case.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace stoat::gpu {

namespace {

// Values that are exact in bf16 and in fp16, so that one host copy serves both.
Bf16 exact_value(float value) {
  const Bf16 rounded = to_bf16(std::clamp(value, -1000.0F, 1000.0F));
  return std::fabs(to_float(rounded)) < 1.0F / 4096 ? Bf16{} : rounded;
}

std::uint16_t fp16_bits(Bf16 value) {
  const float x = to_float(value);
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  if (x == 0) return sign;
  if (std::isnan(x)) return 0x7e00;
  if (std::isinf(x)) return static_cast<std::uint16_t>(sign | 0x7c00U);
  const auto exponent = static_cast<std::int32_t>((bits >> 23) & 0xffU) - 127 + 15;
  return static_cast<std::uint16_t>(sign | (exponent << 10) | ((bits & 0x7fffffU) >> 13));
}

}  // namespace

AttentionCase::AttentionCase(const Shape& shape, std::uint64_t seed) : shape_(shape) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  const std::size_t d = shape.head_dim;
  q_.resize(batch() * shape.q_heads() * d);
  for (Bf16& x : q_) x = exact_value(shape.spread * normal(random));
  std::size_t rows = 0;
  for (const std::uint32_t context : shape.contexts) rows += std::size_t{context} * shape.kv_heads;
  k_.resize(rows * d);
  v_.resize(rows * d);
  for (Bf16& x : k_) x = exact_value(normal(random));
  for (Bf16& x : v_) x = exact_value(normal(random));
  device_contexts = shape.contexts;
  for (std::uint32_t i = 0; i < batch(); ++i) sequence_id.push_back(100 + 7 * i);
}

std::uint32_t AttentionCase::max_context() const {
  return *std::max_element(shape_.contexts.begin(), shape_.contexts.end());
}

std::uint32_t AttentionCase::tiles_capacity() const {
  return (max_context() + kTileRows - 1) / kTileRows;
}

std::size_t AttentionCase::first_row(std::uint32_t sequence, std::uint32_t kv_head) const {
  std::size_t row = 0;
  for (std::uint32_t i = 0; i < sequence; ++i)
    row += std::size_t{shape_.contexts[i]} * shape_.kv_heads;
  return row + std::size_t{kv_head} * shape_.contexts[sequence];
}

void AttentionCase::set_key(std::uint32_t sequence, std::uint32_t kv_head, std::uint32_t row,
                            float value) {
  k_[(first_row(sequence, kv_head) + row) * shape_.head_dim] = to_bf16(value);
}

void AttentionCase::copy_sequence(const AttentionCase& other, std::uint32_t sequence) {
  const std::size_t d = shape_.head_dim, first = other.first_row(sequence, 0) * d;
  const std::size_t query = std::size_t{sequence} * shape_.q_heads() * d;
  std::copy_n(other.q_.begin() + static_cast<std::ptrdiff_t>(query), q_.size(), q_.begin());
  std::copy_n(other.k_.begin() + static_cast<std::ptrdiff_t>(first), k_.size(), k_.begin());
  std::copy_n(other.v_.begin() + static_cast<std::ptrdiff_t>(first), v_.size(), v_.begin());
}

// The device's order of the rows; what no row fills is NaN.
std::vector<std::uint16_t> AttentionCase::arrange(const std::vector<Bf16>& rows) const {
  const std::size_t page = shape_.page_size == 0 ? max_context() : shape_.page_size;
  const std::size_t pages = shape_.page_size == 0 ? batch() : indices_.size() + 1;
  const std::size_t d = shape_.head_dim, heads = shape_.kv_heads;
  std::vector<std::uint16_t> target(pages * page * heads * d, 0xffff);
  for (std::uint32_t s = 0; s < batch(); ++s) {
    for (std::uint32_t h = 0; h < heads; ++h) {
      for (std::uint32_t row = 0; row < shape_.contexts[s]; ++row) {
        const std::size_t slot =
            shape_.page_size == 0
                ? s
                : static_cast<std::size_t>(
                      indices_[static_cast<std::size_t>(indptr_[s]) + row / page]);
        const std::size_t in_page = row % page;
        const std::size_t place = shape_.layout == KvLayout::kNhd
                                      ? (slot * page + in_page) * heads + h
                                      : (slot * heads + h) * page + in_page;
        const Bf16* source = rows.data() + (first_row(s, h) + row) * d;
        for (std::size_t i = 0; i < d; ++i) {
          target[place * d + i] =
              shape_.element == ElementType::kBf16 ? source[i].bits : fp16_bits(source[i]);
        }
      }
    }
  }
  return target;
}

void AttentionCase::upload() {
  indptr_.clear();
  indices_.clear();
  last_page_len_.clear();
  if (shape_.page_size != 0) {
    std::int32_t pages = 0;
    for (const std::uint32_t context : shape_.contexts)
      pages += static_cast<std::int32_t>((context + shape_.page_size - 1) / shape_.page_size);
    for (std::int32_t i = 0; i < pages; ++i) indices_.push_back(i + 1);  // page 0 is never used
    std::mt19937_64 random(pages);
    std::shuffle(indices_.begin(), indices_.end(), random);
    indptr_.push_back(0);
    for (const std::uint32_t context : shape_.contexts) {
      const std::uint32_t used = (context + shape_.page_size - 1) / shape_.page_size;
      indptr_.push_back(indptr_.back() + static_cast<std::int32_t>(used));
      last_page_len_.push_back(static_cast<std::int32_t>(context - (used - 1) * shape_.page_size));
    }
    device_indptr_ = DeviceArray<std::int32_t>(indptr_);
    device_indices_ = DeviceArray<std::int32_t>(indices_);
    device_last_ = DeviceArray<std::int32_t>(last_page_len_);
  }
  std::vector<std::uint16_t> query;
  for (const Bf16 x : q_)
    query.push_back(shape_.element == ElementType::kBf16 ? x.bits : fp16_bits(x));
  device_q_ = DeviceArray<std::uint16_t>(query);
  device_k_ = DeviceArray<std::uint16_t>(arrange(k_));
  device_v_ = DeviceArray<std::uint16_t>(arrange(v_));
  device_context_ = DeviceArray<std::uint32_t>(device_contexts);
  device_sequence_ = DeviceArray<std::uint32_t>(sequence_id);
}

DecodeParams AttentionCase::params() const {
  DecodeParams p;
  p.element = shape_.element;
  p.batch = batch();
  p.q_heads = shape_.q_heads();
  p.kv_heads = shape_.kv_heads;
  p.head_dim = shape_.head_dim;
  p.max_context = p.kv_capacity = max_context();
  p.q = device_q_.get();
  p.k = device_k_.get();
  p.v = device_v_.get();
  p.kv_layout = shape_.layout;
  p.context_len = device_context_.get();
  p.page_size = shape_.page_size;
  p.indptr = device_indptr_.get();
  p.indices = device_indices_.get();
  p.last_page_len = device_last_.get();
  p.sm_scale = 1.0F / std::sqrt(static_cast<float>(shape_.head_dim));
  p.seed = 0x123456789abcdefULL;
  p.layer = 5;
  p.sequence_id = device_sequence_.get();
  return p;
}

Result AttentionCase::run(DecodeParams p, bool trace, bool float_out,
                          std::uint32_t trace_capacity) const {
  const std::size_t heads = std::size_t{batch()} * shape_.q_heads();
  const std::size_t slots = heads * tiles_capacity();
  const std::uint32_t capacity = trace_capacity != 0 ? trace_capacity : p.budget;
  DeviceArray<std::uint32_t> status(std::vector<std::uint32_t>{0}), lost(status.to_host());
  DeviceArray<float> out(heads * shape_.head_dim), lse(heads);
  DeviceArray<std::uint32_t> row(trace ? heads * capacity : 0);
  DeviceArray<std::uint16_t> count(trace ? heads * capacity : 0);
  p.out = out.get();
  p.out_is_float = float_out;
  p.lse = lse.get();
  p.status = status.get();
  if (trace) p.trace = TraceSink{row.get(), count.get(), capacity, lost.get()};
  p.workspace_size = workspace_bytes(p, device_multiprocessors());
  DeviceArray<std::uint8_t> workspace(p.workspace_size);
  p.workspace = workspace.get();
  prepare_workspace(p, nullptr);
  launch_decode(p, nullptr);
  cuda_check(cudaDeviceSynchronize());
  const std::vector<float> first_out = out.to_host();
  p.keep_codes = true;
  launch_decode(p, nullptr);  // again, on the workspace as the first launch left it
  cuda_check(cudaDeviceSynchronize());
  Result result;
  result.out = out.to_host();
  if (std::memcmp(result.out.data(), first_out.data(), first_out.size() * sizeof(float)) != 0)
    throw std::runtime_error("two launches on one workspace differ");
  result.lse = lse.to_host();
  if (!float_out) {
    result.bits.resize(result.out.size());
    cuda_check(
        cudaMemcpy(result.bits.data(), out.get(), result.bits.size() * 2, cudaMemcpyDeviceToHost));
  }
  result.status = status.to_host()[0];
  result.lost = lost.to_host()[0];
  if (trace) {
    result.row = row.to_host();
    result.count = count.to_host();
  }
  if (p.method != Method::kDense) {
    const WorkspaceLayout layout = workspace_layout(p, choose_splits(p, device_multiprocessors()));
    const std::vector<std::uint8_t> bytes = workspace.to_host();
    const auto copy = [&](auto& target, std::size_t from, std::size_t n) {
      target.resize(n);
      std::memcpy(target.data(), bytes.data() + from, n * sizeof(target[0]));
    };
    copy(result.code, layout.code, slots * kTileRows);
    copy(result.exponent, layout.exponent, slots);
    copy(result.mass, layout.mass, slots);
  }
  return result;
}

std::vector<double> AttentionCase::query(std::uint32_t sequence, std::uint32_t q_head) const {
  const std::size_t d = shape_.head_dim;
  const std::size_t head = std::size_t{sequence} * shape_.q_heads() + q_head;
  std::vector<double> q(d);
  for (std::size_t i = 0; i < d; ++i) q[i] = static_cast<double>(to_float(q_[head * d + i]));
  return q;
}

KvRows AttentionCase::keys(std::uint32_t sequence, std::uint32_t kv_head) const {
  return {k_.data() + first_row(sequence, kv_head) * shape_.head_dim, shape_.head_dim,
          shape_.contexts[sequence], shape_.head_dim};
}

KvRows AttentionCase::values(std::uint32_t sequence, std::uint32_t kv_head) const {
  return {v_.data() + first_row(sequence, kv_head) * shape_.head_dim, shape_.head_dim,
          shape_.contexts[sequence], shape_.head_dim};
}

std::vector<double> AttentionCase::logits(std::uint32_t sequence, std::uint32_t q_head) const {
  return score(query(sequence, q_head), keys(sequence, q_head / shape_.group),
               static_cast<double>(params().sm_scale));
}

DrawSite AttentionCase::site(const DecodeParams& params, std::uint32_t sequence,
                             std::uint32_t q_head) const {
  return {params.seed, sequence_id[sequence], shape_.contexts[sequence] - 1,
          static_cast<std::uint16_t>(params.layer), static_cast<std::uint16_t>(q_head)};
}

ScoreCodes AttentionCase::codes(const Result& result, std::uint32_t sequence,
                                std::uint32_t q_head) const {
  const std::size_t head = std::size_t{sequence} * shape_.q_heads() + q_head;
  const auto first = static_cast<std::ptrdiff_t>(head * tiles_capacity());
  const std::ptrdiff_t tiles = (shape_.contexts[sequence] + kTileRows - 1) / kTileRows;
  ScoreCodes codes;
  const auto code = result.code.begin() + first * kTileRows;
  codes.code.assign(code, code + shape_.contexts[sequence]);
  codes.exponent.assign(result.exponent.begin() + first, result.exponent.begin() + first + tiles);
  return codes;
}

void run_in_graph(const std::function<void(Stream)>& queue) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t run = nullptr;
  cuda_check(cudaStreamCreate(&stream));
  cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  queue(stream);
  cuda_check(cudaStreamEndCapture(stream, &graph));
  cuda_check(cudaGraphInstantiate(&run, graph, 0));
  cuda_check(cudaGraphLaunch(run, stream));
  cuda_check(cudaStreamSynchronize(stream));
  cuda_check(cudaGraphExecDestroy(run));
  cuda_check(cudaGraphDestroy(graph));
  cuda_check(cudaStreamDestroy(stream));
}

std::vector<RowCount> traced_rows(const Result& result, std::size_t head, std::uint32_t capacity) {
  std::vector<RowCount> rows;
  for (std::size_t s = head * capacity; s < (head + 1) * capacity; ++s) {
    if (result.count[s] > 0) rows.push_back({result.row[s], result.count[s]});
  }
  return rows;
}

}  // namespace stoat::gpu
