// What a budget costs on real tasks: every prompt is prefilled once, exactly; then every method and
// budget answers from the same cached rows, the lengths rolled back in between.
//
// Tasks run free (greedy) and are judged as in a capture; held-out text is fed as it is, and its
// next-byte distributions are compared with those of dense attention. The plan is a JSON file that
// scripts/accuracy.py writes; the result holds one mark a question and one number a text, so that
// intervals and tables are made from it without decoding again.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gpu/backend.h"
#include "models/llm/config.h"
#include "models/sampling/selection.h"
#include "models/sampling/ternary.h"
#include "models/thread_pool.h"

namespace stoat {

// How decode steps attend.
struct AccuracySetting {
  std::string name;  // of the plan, "sys S=128"
  Method method = Method::kDense;
  std::vector<std::uint32_t> budgets;  // one, or [n_layers]; empty for dense
  std::uint32_t ternary_draws = 0;     // 0: exact scores
  TernaryCoupling coupling = TernaryCoupling::kCoupled;
  TernaryNormaliser normaliser = TernaryNormaliser::kMax;
  std::uint64_t seed = 0;

  std::uint32_t budget_of_layer(std::uint32_t layer) const;  // 0 for dense
  std::uint32_t largest_budget() const;
};

// A question to every prompt of the group: its text is fed with the method, then the answer is
// decoded.
struct AccuracyTurn {
  std::string kind;
  std::vector<std::vector<std::int32_t>> text;  // [prompts], equally long
  std::vector<std::string> expect;              // [prompts]
  std::uint32_t generate = 0;
};
// Turns that follow each other on one cache; every ask starts at the prompt again.
using AccuracyAsk = std::vector<AccuracyTurn>;

// Prompts that are decoded side by side: one batch.
struct AccuracyGroup {
  std::string name;
  std::uint32_t length = 0;                        // nominal tokens of context
  std::vector<std::vector<std::int32_t>> prompts;  // [prompts]
  std::vector<AccuracyAsk> asks;
  std::vector<std::vector<std::int32_t>> continuation;  // [prompts], equally long; may be empty
  std::vector<std::uint64_t> continuation_bytes;        // [prompts] of what is predicted

  std::uint32_t longest_steps() const;  // decode steps of the longest ask
  std::uint32_t largest_context() const;
};

// Attention outputs of one layer over replicate seeds, against exact attention.
struct VariancePlan {
  std::vector<std::vector<std::int32_t>> prompts;
  std::uint32_t steps = 0;  // queries a prompt: its last tokens
  std::vector<Method> methods;
  std::vector<std::uint32_t> budgets;
  std::uint32_t replicates = 0;
  std::uint64_t seed = 0;
};

struct AccuracyPlan {
  std::string model_folder;
  std::string texts_file;  // beside the plan
  ModelConfig config;
  std::vector<AccuracySetting> settings;  // the first is dense
  std::vector<AccuracyGroup> groups;
  VariancePlan variance;  // no prompts: not wanted
};

// Throws Error with file and key for everything that is not such a plan; `texts` is the file beside
// it that holds the prompts.
AccuracyPlan read_accuracy_plan(const std::string& path);

// Why a setting cannot run at this context, empty when it can.
std::string setting_refusal(const AccuracySetting& setting, std::uint32_t largest_context);

// What decodes for it: a batch of prompts, one method at a time.
class AccuracyDecoder {
 public:
  virtual ~AccuracyDecoder() = default;
  // Exact attention over a prompt; drops what the sequence held.
  virtual void prefill(std::uint32_t sequence, std::span<const std::int32_t> prompt) = 0;
  // From now on steps attend so; also rewinds.
  virtual void use(const AccuracySetting& setting) = 0;
  virtual void rewind() = 0;  // back to the prompts
  // Feeds a token to every sequence; empty: those that were chosen. [batch]
  virtual void step(std::span<const std::int32_t> tokens) = 0;
  virtual std::vector<std::int32_t> chosen() = 0;       // greedy, after the last step [batch]
  virtual void logits(std::vector<float>& values) = 0;  // of the last step [batch, vocab]
};

struct AccuracyDecoderNeeds {
  std::string model_folder;
  ModelConfig config;
  std::uint32_t batch = 0, capacity = 0;
  std::vector<AccuracySetting> settings;
};
std::unique_ptr<AccuracyDecoder> make_cpu_accuracy_decoder(const AccuracyDecoderNeeds& needs,
                                                           ThreadPool& pool);
// Throws Error (resource) in a build without CUDA.
std::unique_ptr<AccuracyDecoder> make_cuda_accuracy_decoder(const AccuracyDecoderNeeds& needs,
                                                            ThreadPool& pool);

struct AccuracyTurnResult {
  std::string kind;
  std::vector<bool> right;  // [prompts]
};
struct AccuracyCell {
  std::string setting;
  std::string refused;  // why it was not measured; empty: it was
  std::vector<std::vector<AccuracyTurnResult>> asks;
  // Held-out text, means over the continuation. [prompts]
  std::vector<double> bits;  // of all bytes together
  std::vector<double> total_variation, top1_agreement;
  double seconds = 0;
};
struct AccuracyGroupResult {
  std::string name;
  std::uint32_t length = 0, prompts = 0;
  double prefill_seconds = 0;
  std::vector<AccuracyCell> cells;
  std::exception_ptr failure;  // what the decoder threw after these cells
};

// Every setting on one group; `decoder` has its batch and capacity. Stops between settings when
// `stop` becomes true. An error before the first setting is done is thrown, a later one returned.
AccuracyGroupResult measure_group(const AccuracyPlan& plan, const AccuracyGroup& group,
                                  AccuracyDecoder& decoder, ThreadPool& pool,
                                  const std::atomic<bool>* stop);

// The command line `stoat-capture accuracy`; returns the exit code.
int accuracy_main(int argc, char** argv, const std::atomic<bool>* stop);

}  // namespace stoat
