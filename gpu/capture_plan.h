// What a capture was asked to do, and the plan made of it: everything that can be refused is
// refused here, before the weights are read and before anything is written.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gpu/backend.h"
#include "gpu/cpu_attention.h"
#include "gpu/questions.h"
#include "models/llm/config.h"
#include "models/llm/token_choice.h"
#include "models/llm/tokenizer.h"
#include "traces/trace.h"

namespace stoat {

inline constexpr const char* kDefaultBudget = "128";

// As on the command line. Empty text: not given.
struct CaptureOptions {
  std::string model = "needle";
  std::vector<std::string> prompt_files;  // exactly one kind of prompt_files, tokens_files
  std::vector<std::string> tokens_files;
  std::uint32_t batch = 0;  // sequences, the prompts in turn; 0: one a prompt
  std::string questions_file;
  Method method = Method::kProp;
  std::string budget;  // a number or a file; not given: kDefaultBudget
  ScoreKind score_kind = ScoreKind::kExact;
  TernaryOptions ternary;
  bool full_stats = false;
  std::string score_layers;
  std::string probe_budgets;
  std::string accumulators;              // "fp32,bf16,shared24" or "all"
  std::optional<std::uint32_t> max_new;  // default: 0 with questions, else 32
  bool ignore_eos = false;
  std::uint64_t seed = 1;
  TokenChoice choice;
  std::string random_weights;  // a shape's name or table: random numbers in place of a model
  Backend backend = Backend::kAuto;
  std::uint32_t page_size = 0;  // rows of a page of the device's KV cache; 0: contiguous
  unsigned threads = 0;
  std::string output;
  bool force = false;
};

struct PlannedQuestion {
  Question question;
  std::vector<std::int32_t> tokens;
};

struct CapturePlan {
  std::string model_folder;
  ModelConfig config;
  std::unique_ptr<Tokenizer> tokenizer;            // null: tokens were given and the model has none
  std::vector<std::vector<std::int32_t>> prompts;  // [sequences] token ids
  std::vector<PlannedQuestion> questions;
  std::uint32_t max_new = 0;
  std::uint32_t steps = 0;            // decode steps at most
  std::uint32_t largest_context = 0;  // longest prompt + steps: rows of the KV cache
  std::uint32_t page_size = 0;
  RecordingOptions recording;
  TokenChoice choice;
  bool random_weights = false;  // model_folder is then the shape's name
  TraceHeader header;           // all but what the weights tell
  BackendChoice backend;
  std::vector<std::string> notes;  // things to say once: fallbacks, options without effect
};

// Throws Error for everything that can be known without the weights.
CapturePlan plan_capture(const CaptureOptions& options);

// Refuses flash where a tile of the largest context would get no sample. `budgets`: one, or one a
// layer.
void ensure_flash_fits(const std::vector<std::uint32_t>& budgets,
                       const std::vector<std::uint32_t>& probe_budgets,
                       std::uint32_t largest_context);

}  // namespace stoat
