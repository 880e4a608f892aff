// The decode loop. A step is one token fed: decode it with the recording attention (and with the
// dense twin), append the frame, choose the next token.
#include "gpu/capture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <new>
#include <utility>

#include "gpu/result_text.h"
#include "models/error.h"
#include "models/files.h"
#include "models/llm/transformer.h"
#include "models/progress.h"
#include "models/streams.h"
#include "traces/writer.h"

namespace stoat {
namespace {

struct StoppedInPrefill {};

class Session {
 public:
  Session(const CapturePlan& plan, const CaptureTalk& talk, const CaptureOptions& options)
      : plan_(plan), talk_(talk), options_(options), pool_(options.threads) {}

  CaptureResult run();

 private:
  void load();
  void prefill();
  bool feed(std::int32_t token);  // false: stop now
  void ask_questions();
  void generate();
  void decode_all();
  [[noreturn]] void fail(const Error& error);
  bool stopped() const { return talk_.stop != nullptr && talk_.stop->load(); }
  std::string text_of(std::span<const std::int32_t> tokens) const {
    return plan_.tokenizer ? plan_.tokenizer->decode(tokens) : std::string();
  }

  const CapturePlan& plan_;
  const CaptureTalk& talk_;
  const CaptureOptions& options_;
  ThreadPool pool_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<KvCache> cache_, twin_cache_;
  std::unique_ptr<RecordingAttention> attention_;
  DecodeAttention attend_, attend_densely_;
  std::unique_ptr<TraceWriter> writer_;
  std::unique_ptr<SummaryBuilder> summary_;
  std::unique_ptr<Progress> progress_;
  std::vector<float> logits_;  // [vocab] of the next token
  CaptureResult result_;
};

void Session::load() {
  const Progress clock("load", "", 1, true);
  model_ = std::make_unique<Transformer>(Transformer::load(plan_.model_folder, pool_));
  result_.header = plan_.header;
  result_.header.model_weights_hash = model_->weights_hash();
  result_.header.weight_bytes_per_token = model_->weight_bytes_per_token();
  cache_ = std::make_unique<KvCache>(model_->make_cache(plan_.largest_context));
  attention_ = std::make_unique<RecordingAttention>(model_->config(), model_->attention_scale(),
                                                    plan_.recording, pool_);
  attend_ = attention_->callback();
  attend_densely_ = dense_attention(model_->config(), model_->attention_scale(), pool_);
  summary_ = std::make_unique<SummaryBuilder>(result_.header);
  result_.times.load = clock.seconds();
}

void Session::prefill() {
  const auto total = static_cast<double>(plan_.prompt.size());
  Progress progress("prefill", "tokens", plan_.prompt.size(), talk_.verbosity < 0);
  // A chunk costs its projections plus attention over everything before it. The two meet where the
  // context reaches about six times the width of the model.
  const double quadratic = 1.0 / (6.0 * plan_.config.hidden_size);
  const auto cost = [&](double n) { return n + quadratic * n * n; };
  logits_ = model_->prefill(plan_.prompt, *cache_, [&](std::uint32_t done) {
    if (stopped()) throw StoppedInPrefill{};
    progress.at(done, cost(done), cost(total));
  });
  if (plan_.recording.full_stats) twin_cache_ = std::make_unique<KvCache>(*cache_);
  result_.times.prefill = progress.seconds();
}

bool Session::feed(std::int32_t token) {
  attention_->begin_step(static_cast<std::uint32_t>(result_.steps.size()), token);
  logits_ = model_->decode(token, *cache_, attend_);
  greedy_token(logits_);  // refuses NaN and infinity before the step is recorded
  if (twin_cache_) {
    const std::vector<float> twin = model_->decode(token, *twin_cache_, attend_densely_);
    attention_->set_twin(total_variation(logits_, twin), same_top1(logits_, twin));
  }
  const TraceRecords records = attention_->take_records(result_.header);
  writer_->append(records);
  result_.steps.push_back(summary_->add_step(records));
  const StepSummary& step = result_.steps.back();
  if (talk_.verbosity > 0) {
    say(fmt::format("step {}: token {}, context {}, {:.1f} rows a head, {:.1f} a KV group\n",
                    step.step, step.token, step.context, step.rows_per_head, step.rows_per_group));
  }
  progress_->at(result_.steps.size());
  return !stopped();
}

void Session::ask_questions() {
  for (const PlannedQuestion& planned : plan_.questions) {
    for (const std::int32_t token : planned.tokens) {
      if (!feed(token)) return;
    }
    std::vector<std::int32_t> tokens;
    for (std::uint32_t i = 0; i < planned.question.generate; ++i) {
      tokens.push_back(greedy_token(logits_));
      if (!feed(tokens.back()) && i + 1 < planned.question.generate) return;
    }
    Answer answer;
    answer.question = planned.question;
    answer.text = text_of(tokens);
    answer.judged = !planned.question.expect.empty();
    answer.correct = answer.judged && answer_matches(answer.text, planned.question.expect);
    result_.answers.push_back(std::move(answer));
    if (stopped()) return;
  }
}

void Session::generate() {
  for (std::uint32_t i = 0; i < plan_.max_new && !stopped(); ++i) {
    const std::int32_t token = greedy_token(logits_);
    if (!options_.ignore_eos && plan_.config.eos_token == token) return;
    result_.generated.push_back(token);
    feed(token);
  }
}

void Session::decode_all() {
  progress_ = std::make_unique<Progress>("decode", "tokens", plan_.steps, talk_.verbosity < 0);
  ask_questions();
  generate();
  result_.times.decode = progress_->seconds();
  progress_.reset();
}

// Without a recorded step there is nothing to keep; with some, the message says where they are.
void Session::fail(const Error& error) {
  const std::string spool = writer_ ? writer_->spool_path() : std::string();
  progress_.reset();
  writer_.reset();
  std::string message = error.what();
  if (result_.steps.empty()) {
    std::error_code ignored;
    if (!spool.empty()) std::filesystem::remove(spool, ignored);
  } else if (message.find("recover") == std::string::npos) {
    message += fmt::format("; {} steps are kept in {}: stoat trace recover {} -o {}",
                           result_.steps.size(), spool, spool, options_.output);
  }
  throw Error(error.code(), message);
}

CaptureResult Session::run() {
  result_.path = options_.output;
  result_.backend = plan_.backend.name;
  result_.threads = pool_.threads();
  result_.prompt_tokens = plan_.prompt.size();
  result_.has_text = plan_.tokenizer != nullptr;
  load();
  writer_ = std::make_unique<TraceWriter>(options_.output, result_.header);
  try {
    // Another capture may have finished this file while the model was loading; with the spool ours,
    // nobody else will.
    ensure_output_file(options_.output, options_.force);
    prefill();
    decode_all();
    result_.interrupted = stopped();
    if (result_.steps.empty()) {  // the model ended the text at once
      throw Error(ExitCode::kUsage,
                  "nothing was decoded: the model's first token ends the text; use --ignore-eos");
    }
    const Progress clock("finish", "", 1, true);
    result_.content_hash = writer_->finish();
    result_.times.finish = clock.seconds();
  } catch (const StoppedInPrefill&) {
    result_.interrupted = true;
    std::filesystem::remove(writer_->spool_path());
    return std::move(result_);
  } catch (const Error& error) {
    fail(error);
  } catch (const std::bad_alloc&) {
    fail(resource_error({}, "not enough memory for this model and context", {},
                        "shorten the prompt"));
  }
  result_.generated_text = text_of(result_.generated);
  result_.summary = summary_->result();
  result_.touched = attention_->touched();
  try {
    write_file_whole(options_.output + ".run.json", run_file_json(result_, options_));
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("{}; the trace {} is whole", error.what(), options_.output));
  }
  return std::move(result_);
}

}  // namespace

std::int32_t greedy_token(const std::vector<float>& logits) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) {
      throw damaged_error({"logits"}, "the logit of token " + std::to_string(i) + " is not finite",
                          "finite logits", "look for damaged weights");
    }
  }
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

CaptureResult capture(const CaptureOptions& options, const CaptureTalk& talk) {
  const CapturePlan plan = plan_capture(options);
  if (talk.verbosity >= 0) {
    for (const std::string& note : plan.notes) say(fmt::format("stoat capture: {}\n", note));
  }
  return Session(plan, talk, options).run();
}

}  // namespace stoat
