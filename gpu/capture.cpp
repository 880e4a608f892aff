// The decode loop. A step is one token fed to the decoder (CPU or GPU); what it recorded is
// appended to the spool before the next token is looked at.
#include "gpu/capture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <new>
#include <utility>

#include "gpu/decoder.h"
#include "gpu/recorder.h"
#include "gpu/result_text.h"
#include "models/error.h"
#include "models/files.h"
#include "models/progress.h"
#include "models/streams.h"

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
  std::vector<std::int32_t> record();
  void written(const StepSummary& step);
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
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<Progress> progress_;
  CaptureResult result_;
};

void Session::load() {
  const Progress clock("load", "", 1, true);
  decoder_ = plan_.backend.name == "cuda" ? make_cuda_decoder(plan_, pool_)
                                          : make_cpu_decoder(plan_, pool_);
  result_.header = plan_.header;
  result_.header.model_weights_hash = decoder_->weights_hash();
  result_.header.weight_bytes_per_token = decoder_->weight_bytes_per_token();
  result_.times.load = clock.seconds();
}

void Session::prefill() {
  // A chunk costs its projections plus attention over everything before it. The two meet where the
  // context reaches about six times the width of the model.
  const double quadratic = 1.0 / (6.0 * plan_.config.hidden_size);
  const auto cost = [&](double n) { return n + quadratic * n * n; };
  double total = 0, before = 0;
  for (const auto& prompt : plan_.prompts) total += cost(static_cast<double>(prompt.size()));
  Progress progress("prefill", "tokens", result_.prompt_tokens, talk_.verbosity < 0);
  std::uint64_t tokens = 0;
  for (std::uint32_t i = 0; i < plan_.prompts.size(); ++i) {
    decoder_->prefill(i, plan_.prompts[i], [&](std::uint32_t done) {
      if (stopped()) throw StoppedInPrefill{};
      progress.at(tokens + done, before + cost(done), total);
    });
    tokens += plan_.prompts[i].size();
    before += cost(static_cast<double>(plan_.prompts[i].size()));
  }
  result_.times.prefill = progress.seconds();
}

// Collects the oldest submitted step and hands it to the recorder. Returns the tokens that were
// fed.
std::vector<std::int32_t> Session::record() {
  DecodedStep step = decoder_->collect();
  std::vector<std::int32_t> tokens = step.tokens;
  recorder_->add(std::move(step), [this](const StepSummary& done) { written(done); });
  return tokens;
}

void Session::written(const StepSummary& step) {
  if (talk_.verbosity > 0) {
    say(fmt::format("step {}: token {}, context {}, {:.1f} rows a head, {:.1f} a KV group\n",
                    step.step, step.token, step.context, step.rows_per_head, step.rows_per_group));
  }
  progress_->at(recorder_->steps().size());
}

bool Session::feed(std::int32_t token) {
  decoder_->submit({&token, 1});
  record();
  return !stopped();
}

void Session::ask_questions() {
  for (const PlannedQuestion& planned : plan_.questions) {
    for (const std::int32_t token : planned.tokens) {
      if (!feed(token)) return;
    }
    std::vector<std::int32_t> tokens;
    for (std::uint32_t i = 0; i < planned.question.generate; ++i) {
      tokens.push_back(decoder_->next_token(0));
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

// A device runs ahead with the tokens that it chose itself; what it decoded past the end of the
// text is not recorded. A sequence whose text has ended is decoded on until all have.
void Session::generate() {
  std::vector<bool> ended(plan_.prompts.size());
  const auto all_ended = [&] {
    for (std::uint32_t i = 0; i < ended.size() && !options_.ignore_eos; ++i)
      if (plan_.config.eos_token == decoder_->next_token(i)) ended[i] = true;
    return std::find(ended.begin(), ended.end(), false) == ended.end();
  };
  std::uint32_t submitted = 0, collected = 0;
  while (collected < plan_.max_new && !stopped() && !all_ended()) {
    while (submitted < plan_.max_new && submitted - collected < decoder_->depth()) {
      decoder_->submit({});
      ++submitted;
    }
    const std::vector<std::int32_t> tokens = record();
    for (std::size_t i = 0; i < ended.size(); ++i)
      if (!ended[i]) result_.sequences[i].generated.push_back(tokens[i]);
    ++collected;
  }
}

void Session::decode_all() {
  progress_ = std::make_unique<Progress>("decode", "tokens", plan_.steps, talk_.verbosity < 0);
  ask_questions();
  generate();
  recorder_->drain([this](const StepSummary& done) { written(done); });
  result_.times.decode = progress_->seconds();
  progress_.reset();
}

// Without a recorded step there is nothing to keep; with some, the message says where they are.
void Session::fail(const Error& error) {
  const std::string spool = recorder_->spool_path();
  recorder_->keep_finished_steps();  // those that were decoded before the failure
  progress_.reset();
  result_.steps = recorder_->steps();
  recorder_.reset();
  std::string message = error.what();
  if (result_.steps.empty()) {
    std::error_code ignored;
    std::filesystem::remove(spool, ignored);
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
  for (const auto& prompt : plan_.prompts) {
    result_.prompt_tokens += prompt.size();
    result_.sequences.push_back({prompt.size(), {}, {}});
  }
  result_.has_text = plan_.tokenizer != nullptr;
  load();
  recorder_ = std::make_unique<Recorder>(options_.output, result_.header, decoder_->bytes_a_step(),
                                         pool_.threads());
  try {
    // Another capture may have finished this file while the model was loading; with the spool ours,
    // nobody else will.
    ensure_output_file(options_.output, options_.force);
    prefill();
    decode_all();
    result_.interrupted = stopped();
    result_.steps = recorder_->steps();
    if (result_.steps.empty()) {  // the model ended the text at once
      throw Error(ExitCode::kUsage,
                  "nothing was decoded: the model's first token ends the text; use --ignore-eos");
    }
    const Progress clock("finish", "", 1, true);
    result_.content_hash = recorder_->finish();
    result_.times.finish = clock.seconds();
  } catch (const StoppedInPrefill&) {
    result_.interrupted = true;
    std::filesystem::remove(recorder_->spool_path());
    return std::move(result_);
  } catch (const Error& error) {
    fail(error);
  } catch (const std::bad_alloc&) {
    fail(resource_error({}, "not enough memory for this model and context", {},
                        "shorten the prompt"));
  }
  for (SequenceResult& sequence : result_.sequences) sequence.text = text_of(sequence.generated);
  result_.summary = recorder_->summary();
  result_.touched = decoder_->touched();
  result_.accumulator_errors = decoder_->accumulator_errors();
  try {
    write_file_whole(options_.output + ".run.json", run_file_json(result_, options_));
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("{}; the trace {} is whole", error.what(), options_.output));
  }
  return std::move(result_);
}

}  // namespace

CaptureResult capture(const CaptureOptions& options, const CaptureTalk& talk) {
  const CapturePlan plan = plan_capture(options);
  if (talk.verbosity >= 0) {
    for (const std::string& note : plan.notes) say(fmt::format("stoat capture: {}\n", note));
  }
  return Session(plan, talk, options).run();
}

}  // namespace stoat
