// The decode loop. A step is one token fed to the decoder (CPU or GPU); what it recorded is
// appended to the spool before the next token is looked at.
#include "gpu/capture.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <future>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "gpu/decoder.h"
#include "gpu/result_text.h"
#include "models/error.h"
#include "models/files.h"
#include "models/progress.h"
#include "models/streams.h"
#include "traces/writer.h"

namespace stoat {
namespace {

constexpr std::size_t kPackingBytes = std::size_t{256} << 20;  // of steps on their way to the spool

struct StoppedInPrefill {};

// A step on its way to the spool.
struct PackedStep {
  TraceRecords records;
  std::optional<PackedSteps> steps;
  std::vector<std::uint64_t> unions;  // [KV groups]
};

class Session {
 public:
  Session(const CapturePlan& plan, const CaptureTalk& talk, const CaptureOptions& options)
      : plan_(plan), talk_(talk), options_(options), pool_(options.threads) {}

  CaptureResult run();

 private:
  void load();
  void prefill();
  std::int32_t record();
  void write_step();
  void keep_finished_steps();
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
  std::unique_ptr<TraceWriter> writer_;
  std::unique_ptr<SummaryBuilder> summary_;
  std::unique_ptr<Progress> progress_;
  CaptureResult result_;
  std::deque<std::future<PackedStep>> packing_;
};

void Session::load() {
  const Progress clock("load", "", 1, true);
  decoder_ = plan_.backend.name == "cuda" ? make_cuda_decoder(plan_, pool_)
                                          : make_cpu_decoder(plan_, pool_);
  result_.header = plan_.header;
  result_.header.model_weights_hash = decoder_->weights_hash();
  result_.header.weight_bytes_per_token = decoder_->weight_bytes_per_token();
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
  decoder_->prefill(plan_.prompt, [&](std::uint32_t done) {
    if (stopped()) throw StoppedInPrefill{};
    progress.at(done, cost(done), cost(total));
  });
  result_.times.prefill = progress.seconds();
}

// Collects the oldest submitted step and has it packed; with a decoder that runs ahead on a thread
// of its own, while the next steps run. Returns the token that was fed.
std::int32_t Session::record() {
  DecodedStep step = decoder_->collect();
  const bool ahead = decoder_->depth() > 1;
  const std::size_t most =
      ahead ? std::clamp<std::size_t>(kPackingBytes / (step.bytes + 1), 1, 2 + pool_.threads()) : 0;
  const std::int32_t token = step.token;
  packing_.push_back(std::async(ahead ? std::launch::async : std::launch::deferred,
                                [make = std::move(step.records), &header = result_.header] {
                                  PackedStep packed{make(), std::nullopt, {}};
                                  packed.steps.emplace(packed.records,
                                                       header);  // checks the records
                                  packed.unions = group_unions(packed.records, header.group());
                                  return packed;
                                }));
  while (packing_.size() > most) write_step();
  while (!packing_.empty() &&
         packing_.front().wait_for(std::chrono::seconds(0)) == std::future_status::ready)
    write_step();
  return token;
}

// The oldest packed step goes to the spool and into the summary.
void Session::write_step() {
  std::future<PackedStep> oldest = std::move(packing_.front());
  packing_.pop_front();
  PackedStep packed;
  try {
    packed = oldest.get();
    writer_->append(std::move(*packed.steps));
  } catch (...) {
    packing_.clear();  // nothing is written behind a gap
    throw;
  }
  result_.steps.push_back(summary_->add_step(packed.records, packed.unions));
  const StepSummary& step = result_.steps.back();
  if (talk_.verbosity > 0) {
    say(fmt::format("step {}: token {}, context {}, {:.1f} rows a head, {:.1f} a KV group\n",
                    step.step, step.token, step.context, step.rows_per_head, step.rows_per_group));
  }
  progress_->at(result_.steps.size());
}

bool Session::feed(std::int32_t token) {
  decoder_->submit(token);
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
      tokens.push_back(decoder_->next_token());
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
// text is not recorded.
void Session::generate() {
  const auto ends = [&](std::int32_t token) {
    return !options_.ignore_eos && plan_.config.eos_token == token;
  };
  std::uint32_t submitted = 0, collected = 0;
  while (collected < plan_.max_new && !stopped() && !ends(decoder_->next_token())) {
    if (submitted == collected) {
      decoder_->submit(decoder_->next_token());
      ++submitted;
    }
    while (submitted < plan_.max_new && submitted - collected < decoder_->depth()) {
      decoder_->submit(std::nullopt);
      ++submitted;
    }
    result_.generated.push_back(record());
    ++collected;
  }
}

void Session::decode_all() {
  progress_ = std::make_unique<Progress>("decode", "tokens", plan_.steps, talk_.verbosity < 0);
  ask_questions();
  generate();
  while (!packing_.empty()) write_step();
  result_.times.decode = progress_->seconds();
  progress_.reset();
}

// Steps that were decoded before the failure; if they cannot be written, the failure is what
// counts.
void Session::keep_finished_steps() {
  try {
    while (!packing_.empty() && progress_) write_step();
  } catch (const std::exception&) {
    packing_.clear();
  }
}

// Without a recorded step there is nothing to keep; with some, the message says where they are.
void Session::fail(const Error& error) {
  const std::string spool = writer_ ? writer_->spool_path() : std::string();
  keep_finished_steps();
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
