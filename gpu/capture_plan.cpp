// From options to a plan. Order: cheap checks first, so that a mistake is reported at once.
#include "gpu/capture_plan.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "gpu/attention/params.h"
#include "gpu/cuda_refusal.h"
#include "gpu/inputs.h"
#include "models/error.h"
#include "models/files.h"
#include "models/hash.h"
#include "traces/output_file.h"

namespace stoat {
namespace {

constexpr std::uint32_t kDefaultMaxNew = 32;
constexpr std::uint32_t kRowElementBytes = 2;  // bf16 KV cache
constexpr std::size_t kMostSequences = gpu::kMaxBatch;

// With a prompt or questions a tokenizer is needed; with token ids alone its absence only costs the
// text.
std::unique_ptr<Tokenizer> load_tokenizer(const CaptureOptions& options, CapturePlan& plan) {
  if (plan.random_weights) {
    if (!options.prompt_files.empty() || !options.questions_file.empty())
      throw usage_error({"--random-weights"}, "a text prompt", "--tokens",
                        "random weights have no tokenizer");
    return nullptr;
  }
  try {
    return tokenizer_of(plan.model_folder);
  } catch (const Error& error) {
    if (!options.prompt_files.empty() || !options.questions_file.empty()) throw;
    plan.notes.push_back(std::string("token ids only, no text: ") + error.what());
    return nullptr;
  }
}

std::vector<std::int32_t> encode(const Tokenizer& tokenizer, const std::string& text,
                                 const Place& place, std::uint32_t vocab_size) {
  std::vector<std::int32_t> tokens;
  try {
    tokens = tokenizer.encode(text);
  } catch (const Error& error) {  // the tokenizer does not know whose text it was
    throw Error(error.code(), place.text() + ": " + error.what());
  }
  for (const std::int32_t id : tokens) {
    if (id < 0 || id >= static_cast<std::int64_t>(vocab_size)) {
      throw usage_error(place, "the tokenizer made token id " + std::to_string(id),
                        "0 to " + std::to_string(vocab_size - 1) + ", the model's vocabulary",
                        "give the tokenizer that belongs to this model");
    }
  }
  return tokens;
}

std::vector<std::int32_t> prompt_of(const CaptureOptions& options, const CapturePlan& plan,
                                    const std::string& path) {
  std::vector<std::int32_t> tokens =
      options.tokens_files.empty()
          ? encode(*plan.tokenizer, read_file(path), {path}, plan.config.vocab_size)
          : read_token_file(path, plan.config.vocab_size);
  if (tokens.empty())
    throw usage_error({path}, "an empty prompt (context 0)", "at least one token to decode from");
  return tokens;
}

// --force replaces an old trace, never what is read.
void ensure_outputs_are_no_inputs(const CaptureOptions& options) {
  std::vector<std::string> inputs = options.prompt_files;
  inputs.insert(inputs.end(), options.tokens_files.begin(), options.tokens_files.end());
  inputs.insert(inputs.end(), {options.questions_file, options.budget, options.random_weights});
  for (const std::string& input : inputs) {
    ensure_not_input(options.output, input);
    ensure_not_input(options.output + ".run.json", input);
  }
}

// Sequences get the prompts in turn.
void plan_prompts(const CaptureOptions& options, CapturePlan& plan) {
  if (options.prompt_files.empty() == options.tokens_files.empty()) {
    throw usage_error({},
                      options.prompt_files.empty() ? "neither --prompt nor --tokens"
                                                   : "both --prompt and --tokens",
                      "exactly one of them");
  }
  const auto& paths = options.prompt_files.empty() ? options.tokens_files : options.prompt_files;
  const std::size_t batch = options.batch == 0 ? paths.size() : options.batch;
  if (batch < paths.size() || batch > kMostSequences)
    throw usage_error(
        {"--batch"}, std::to_string(batch) + " sequences",
        std::to_string(paths.size()) + " (one a prompt) to " + std::to_string(kMostSequences));
  for (const std::string& path : paths) plan.prompts.push_back(prompt_of(options, plan, path));
  for (std::size_t i = paths.size(); i < batch; ++i)
    plan.prompts.push_back(plan.prompts[i % paths.size()]);
}

void plan_questions(const CaptureOptions& options, CapturePlan& plan) {
  if (options.questions_file.empty()) return;
  if (plan.prompts.size() > 1)
    throw usage_error({"--questions"}, std::to_string(plan.prompts.size()) + " sequences", "one",
                      "ask the questions of one prompt at a time");
  for (Question& question : read_questions(options.questions_file)) {
    PlannedQuestion planned;
    planned.tokens =
        encode(*plan.tokenizer, question.text, {options.questions_file}, plan.config.vocab_size);
    planned.question = std::move(question);
    plan.questions.push_back(std::move(planned));
  }
}

void plan_steps(const CaptureOptions& options, CapturePlan& plan) {
  plan.max_new = options.max_new.value_or(plan.questions.empty() ? kDefaultMaxNew : 0);
  std::uint64_t steps = plan.max_new;
  for (const PlannedQuestion& question : plan.questions)
    steps += question.tokens.size() + question.question.generate;
  if (steps == 0)
    throw usage_error({"--max-new"}, "0 tokens and no questions", "something to decode");
  const auto& paths = options.prompt_files.empty() ? options.tokens_files : options.prompt_files;
  for (std::size_t i = 0; i < plan.prompts.size(); ++i) {
    const std::uint64_t context = plan.prompts[i].size() + steps;
    if (context > plan.config.max_position_embeddings) {
      throw usage_error({paths[i % paths.size()]},
                        std::to_string(plan.prompts[i].size()) + " prompt tokens and " +
                            std::to_string(steps) + " decode steps make a context of " +
                            std::to_string(context),
                        "at most " + std::to_string(plan.config.max_position_embeddings) +
                            " (max_position_embeddings of the model)",
                        "shorten the prompt, or ask for fewer tokens");
    }
    plan.largest_context = std::max(plan.largest_context, static_cast<std::uint32_t>(context));
  }
  plan.steps = static_cast<std::uint32_t>(steps);
}

// "fp32,bf16" or "all"; an int32 accumulator needs an int8 cache, which no capture has.
std::vector<AccumulatorFormat> parse_accumulators(const std::string& text) {
  if (text == "all") {
    return {AccumulatorFormat::kFp32, AccumulatorFormat::kBf16, AccumulatorFormat::kShared24};
  }
  std::vector<AccumulatorFormat> formats;
  for (std::size_t begin = 0; !text.empty() && begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    const AccumulatorFormat format = accumulator_from_name(name);
    if (std::find(formats.begin(), formats.end(), format) != formats.end())
      throw usage_error({"--accumulator"}, name + " twice", "each format once");
    formats.push_back(format);
    if (formats.back() == AccumulatorFormat::kInt32) {
      throw usage_error({"--accumulator"}, "int32 on a bf16 cache", "fp32, bf16 or shared24");
    }
    begin = end + 1;
  }
  return formats;
}

void plan_recording(const CaptureOptions& options, CapturePlan& plan) {
  RecordingOptions& recording = plan.recording;
  const std::uint32_t n_layers = plan.config.n_layers;
  recording.method = options.method;
  recording.score_kind = options.score_kind;
  recording.ternary = options.ternary;
  recording.full_stats = options.full_stats;
  recording.seed = options.seed;
  if (!options.score_layers.empty())
    recording.score_layers = parse_layers(options.score_layers, n_layers);
  if (!options.probe_budgets.empty())
    recording.probe_budgets = parse_budget_list(options.probe_budgets);
  recording.accumulators = parse_accumulators(options.accumulators);
  if (options.method == Method::kDense) {
    if (!recording.probe_budgets.empty()) {
      throw usage_error({"--probe-budgets"}, "--method dense", "a method that has a budget");
    }
    if (!options.budget.empty())
      plan.notes.push_back("dense reads every row: --budget has no effect");
  } else {
    recording.budgets =
        resolve_budgets(options.budget.empty() ? kDefaultBudget : options.budget, n_layers);
  }
  if (options.method == Method::kFlash) {
    ensure_flash_fits(recording.budgets, recording.probe_budgets, plan.largest_context);
  }
  if (options.score_kind == ScoreKind::kTernary) {
    if (options.ternary.draws == 0 || options.ternary.draws > 64) {
      throw usage_error({"--ternary-draws"}, std::to_string(options.ternary.draws), "1 to 64");
    }
    if (plan.config.head_dim % 8 != 0) {
      throw usage_error({plan.model_folder + "/config.json"},
                        "head_dim " + std::to_string(plan.config.head_dim),
                        "a multiple of 8 for --score ternary");
    }
  }
}

void plan_model(const CaptureOptions& options, CapturePlan& plan) {
  if (options.random_weights.empty()) {
    plan.model_folder = resolve_model_folder(options.model);
    plan.config = read_model_config(plan.model_folder + "/config.json");
    return;
  }
  const ModelShape shape = shape_from(options.random_weights);
  plan.random_weights = true;
  plan.model_folder = shape.name + "-random";
  plan.config = config_of_shape(shape);
}

void plan_backend(const CaptureOptions& options, CapturePlan& plan) {
  plan.page_size = options.page_size;
  const CudaWork work{plan.largest_context, static_cast<std::uint32_t>(plan.prompts.size()),
                      plan.page_size};
  plan.backend = choose_backend(options.backend, cuda_refusal(plan.config, plan.recording, work));
  if (!plan.backend.why.empty()) plan.notes.push_back(plan.backend.why);
  if (plan.page_size > 0 && plan.backend.name != "cuda")
    throw usage_error({"--page-size"},
                      plan.backend.why.empty() ? "--backend cpu" : plan.backend.why,
                      "the CUDA backend", "the CPU's cache has no pages");
  if (plan.random_weights && options.backend == Backend::kCpu)
    throw usage_error({"--random-weights"}, "--backend cpu", "the CUDA backend",
                      "random weights are made on the device");
  if (plan.random_weights && plan.backend.name != "cuda")
    throw resource_error({"--random-weights"}, plan.backend.why, "the CUDA backend",
                         "random weights are made on the device");
}

// Of one prompt: of its token ids. Of several: of their hashes.
std::string hash_of_prompts(const std::vector<std::vector<std::int32_t>>& prompts) {
  std::string hashes;
  for (const auto& prompt : prompts)
    hashes += hash_text(
        {reinterpret_cast<const char*>(prompt.data()), prompt.size() * sizeof(prompt.front())});
  return prompts.size() == 1 ? hashes : hash_text(hashes);
}

TraceHeader plan_header(const CaptureOptions& options, const CapturePlan& plan) {
  namespace fs = std::filesystem;
  TraceHeader header;
  // "models/" and "." name folders too: the last part of the full path is the model's name.
  fs::path folder = fs::absolute(plan.model_folder).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  header.model_name = folder.filename().string();
  header.model_config_hash = plan.config.hash;
  header.tokenizer = plan.tokenizer ? plan.tokenizer->name() : "";
  header.prompt_hash = hash_of_prompts(plan.prompts);
  header.seed = options.seed;
  header.method = options.method;
  header.budgets = plan.recording.budgets;
  header.score_kind = options.score_kind;
  header.ternary = options.ternary;
  header.row_bytes = plan.config.head_dim * kRowElementBytes;
  header.n_layers = plan.config.n_layers;
  header.n_q_heads = plan.config.n_q_heads;
  header.n_kv_heads = plan.config.n_kv_heads;
  header.head_dim = plan.config.head_dim;
  return header;
}

}  // namespace

void ensure_flash_fits(const std::vector<std::uint32_t>& budgets,
                       const std::vector<std::uint32_t>& probe_budgets,
                       std::uint32_t largest_context) {
  const std::uint32_t tiles = tiles_of_context(largest_context);
  const auto check = [&](const std::vector<std::uint32_t>& list, const char* option) {
    for (const std::uint32_t budget : list) {
      if (budget >= tiles) continue;
      throw usage_error({option}, "budget " + std::to_string(budget),
                        "at least " + std::to_string(tiles) +
                            ": flash needs a sample in every 256-row tile of the " +
                            "largest context, " + std::to_string(largest_context) + " rows",
                        "raise it, or use --method prop");
    }
  };
  check(budgets, "--budget");
  check(probe_budgets, "--probe-budgets");
}

CapturePlan plan_capture(const CaptureOptions& options) {
  CapturePlan plan;
  ensure_outputs_are_no_inputs(options);
  ensure_output_free(options.output, options.force);
  ensure_valid(options.choice);
  plan.choice = options.choice;
  plan_model(options, plan);
  plan.tokenizer = load_tokenizer(options, plan);
  plan_prompts(options, plan);
  plan_questions(options, plan);
  plan_steps(options, plan);
  plan_recording(options, plan);
  plan_backend(options, plan);
  plan.header = plan_header(options, plan);
  return plan;
}

}  // namespace stoat
