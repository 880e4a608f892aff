// stoat-capture: the command line of a capture. Parses, handles signals, prints; the work is in
// gpu/capture.h.
//
// Reached as `stoat capture`. Results go to stdout, talk to stderr; exit codes as in
// models/error.h.
#include <fmt/format.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>

#include "gpu/accuracy.h"
#include "gpu/capture.h"
#include "gpu/llm/step_bench.h"
#include "gpu/result_text.h"
#include "models/command_line.h"
#include "models/error.h"
#include "models/streams.h"
#include "models/units.h"
#include "models/version.h"

namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

// The first signal ends after the current step; the second one ends at once (the spool stays
// recoverable).
void request_stop(int signal) {
  stop_requested.store(true);
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, nullptr);
}

void handle_signals() {
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  struct sigaction before {};  // under nohup the loss of the terminal is no reason to stop
  if (::sigaction(SIGHUP, nullptr, &before) == 0 && before.sa_handler != SIG_IGN)
    ::sigaction(SIGHUP, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // a closed pager must not end a recording
}

constexpr unsigned kMostThreads =
    1024;  // beyond it a typing error, and a machine that stands still

// CLI11 reads numbers with strtoull: "-1" would become 2^64 - 1, "010" eight and 2^64 its
// neighbour.
std::string whole_number(const std::string& text) {
  try {
    return std::to_string(stoat::parse_count(text, ""));
  } catch (const stoat::Error& error) {
    throw CLI::ValidationError(error.what());
  }
}

// The same for what is kept in 32 bits.
std::string whole_number_32(const std::string& text) {
  constexpr std::uint64_t kMost = 4294967295;
  const std::string value = whole_number(text);
  if (stoat::parse_count(value, "") > kMost)
    throw CLI::ValidationError("'" + text + "'; expected a whole number from 0 to " +
                               std::to_string(kMost));
  return value;
}

// A list that is named and empty, as an unset variable of a shell leaves it, asks for nothing.
std::string not_empty(const std::string& text) {
  if (text.empty())
    throw CLI::ValidationError("an empty text; expected a value, or leave the option out");
  return text;
}

// Text of options that become typed values after parsing.
struct Words {
  std::string method = "prop", score = "exact", stats = "fast", backend = "auto";
  std::string coupling = "independent", normaliser = "max";
  std::uint32_t max_new = 0;
  bool json = false, quiet = false, verbose = false;
};

struct TernaryFlags {
  CLI::Option* draws = nullptr;
  CLI::Option* coupling = nullptr;
  CLI::Option* normaliser = nullptr;
};

void add_model_options(CLI::App& app, stoat::CaptureOptions& options, Words& words) {
  app.add_option("--model", options.model, "model folder, or a shipped model")
      ->capture_default_str();
  app.add_option("--prompt", options.prompt_files,
                 "text file to decode from; several: sequences side by side")
      ->allow_extra_args(false);
  app.add_option("--tokens", options.tokens_files, "token ids instead: text or .npy")
      ->allow_extra_args(false);
  app.add_option("--batch", options.batch, "sequences, the prompts in turn (one a prompt)")
      ->transform(whole_number_32);
  app.add_option("--questions", options.questions_file,
                 R"(JSON lines {"text", "generate", "expect", "kind"}, asked after the prompt)")
      ->transform(not_empty);
  app.add_option("--max-new", words.max_new, "tokens to decode after that (32; with --questions 0)")
      ->transform(whole_number_32);
  app.add_flag("--ignore-eos", options.ignore_eos, "decode on after the end-of-text token");
  app.add_option("--random-weights", options.random_weights,
                 "a shape's name (models/llm/shapes.csv) or a table: random numbers, for timing")
      ->transform(not_empty);
  app.add_option("--temperature", options.choice.temperature, "0: greedy; above: draw the tokens")
      ->capture_default_str();
  app.add_option("--top-p", options.choice.top_p, "draw among the tokens of this share")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "seed of all draws")
      ->capture_default_str()
      ->transform(whole_number);
}

TernaryFlags add_method_options(CLI::App& app, stoat::CaptureOptions& options, Words& words) {
  app.add_option("--method", words.method,
                 "dense iid strat sys prop flash topk; one-hot: sys with one sample")
      ->capture_default_str();
  app.add_option("--budget", options.budget,
                 "rows drawn a head: a number, or a file with one a layer")
      ->default_str(stoat::kDefaultBudget);
  app.add_option("--score", words.score, "exact or ternary")->capture_default_str();
  TernaryFlags flags;
  flags.draws = app.add_option("--ternary-draws", options.ternary.draws, "draws a query, 1 to 64")
                    ->capture_default_str()
                    ->transform(whole_number_32);
  flags.coupling =
      app.add_option("--ternary-coupling", words.coupling, "independent coupled group-mean")
          ->capture_default_str();
  flags.normaliser = app.add_option("--ternary-normaliser", words.normaliser, "max or pow2")
                         ->capture_default_str();
  app.add_option("--stats", words.stats,
                 "fast, or full: errors against exact attention and a dense twin")
      ->capture_default_str();
  app.add_option("--scores", options.score_layers,
                 "layers whose score codes are kept, e.g. 0,2 or all")
      ->transform(not_empty);
  app.add_option("--accumulator", options.accumulators,
                 "report what summing values in these formats costs: fp32,bf16,shared24 or all")
      ->transform(not_empty);
  app.add_option("--probe-budgets", options.probe_budgets,
                 "output error at these budgets too, e.g. 4,16,64")
      ->transform(not_empty);
  return flags;
}

void add_run_options(CLI::App& app, stoat::CaptureOptions& options, Words& words) {
  app.add_option("--backend", words.backend, "auto cpu cuda")->capture_default_str();
  app.add_option("--page-size", options.page_size,
                 "rows of a page of the device's KV cache, a power of two; 0: contiguous")
      ->transform(whole_number_32);
  app.add_option("--threads", options.threads, "0: all cores; results do not depend on it")
      ->capture_default_str()
      ->transform(whole_number_32);
  app.add_option("-o,--output", options.output, "trace file to write; times go to FILE.run.json")
      ->required();
  app.add_flag("--force", options.force, "replace the output when it exists");
  app.add_flag("--json", words.json, "print the result as JSON");
  auto* quiet = app.add_flag("-q,--quiet", words.quiet, "no talk but errors");
  app.add_flag("-v,--verbose", words.verbose, "a line a step")->excludes(quiet);
  app.set_version_flag(
      "--version", fmt::format("stoat capture {} ({})", stoat::tool_version(), stoat::build_id()));
}

// "exact" or "ternary", "fast" or "full": is it the second?
bool second_of(const std::string& found, const char* option,
               const std::vector<std::string>& names) {
  if (found == names[0]) return false;
  if (found == names[1]) return true;
  throw stoat::usage_error({option}, "'" + found + "'", names[0] + " or " + names[1],
                           stoat::nearest_name_hint(found, names));
}

void resolve_words(const CLI::App& app, const Words& words, const TernaryFlags& ternary,
                   stoat::CaptureOptions& options) {
  if (app.count("--random-weights") > 0 && app.count("--model") > 0)
    throw stoat::usage_error({"--random-weights"}, "--model " + options.model, "one of the two",
                             "random numbers take the place of a model");
  if (options.threads > kMostThreads)
    throw stoat::usage_error({"--threads"}, std::to_string(options.threads),
                             "at most " + std::to_string(kMostThreads), "0 takes all cores");
  if (words.method == "one-hot") {  // with one sample iid, strat, sys and prop draw the same row
    if (!options.budget.empty() && options.budget != "1")
      throw stoat::usage_error({"--budget"}, options.budget + " with --method one-hot",
                               "1 or none");
    options.method = stoat::Method::kSystematic;
    options.budget = "1";
  } else {
    options.method = stoat::method_from_name(words.method);
  }
  options.backend = stoat::backend_from_name(words.backend);
  options.full_stats = second_of(words.stats, "--stats", {"fast", "full"});
  if (second_of(words.score, "--score", {"exact", "ternary"}))
    options.score_kind = stoat::ScoreKind::kTernary;
  options.ternary.coupling = stoat::coupling_from_name(words.coupling);
  options.ternary.normaliser = stoat::normaliser_from_name(words.normaliser);
  if (app.count("--max-new") > 0) options.max_new = words.max_new;
  if (options.score_kind == stoat::ScoreKind::kTernary) return;
  for (const CLI::Option* option : {ternary.draws, ternary.coupling, ternary.normaliser}) {
    if (option->count() > 0) {
      throw stoat::usage_error({option->get_name()}, "given without --score ternary", "",
                               "add --score ternary");
    }
  }
}

int finish(const stoat::CaptureResult& result, const Words& words) {
  if (!result.content_hash.empty()) {
    try {
      stoat::print_result(words.json ? stoat::result_json(result) : stoat::result_table(result));
    } catch (const stoat::Error& error) {
      throw stoat::Error(error.code(),
                         fmt::format("{}; the trace {} is whole", error.what(), result.path));
    }
  }
  if (!result.interrupted) return static_cast<int>(stoat::ExitCode::kOk);
  if (result.content_hash.empty()) {
    stoat::say("stoat capture: interrupted before the first step; nothing was written\n");
  } else {
    stoat::say(fmt::format("stoat capture: interrupted; {} is whole and holds the {} steps done\n",
                           result.path, result.steps.size()));
  }
  return static_cast<int>(stoat::ExitCode::kInterrupted);
}

// Help and version go out as they are; a mistake becomes one line.
int refuse(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  if (error.get_exit_code() == 0) return app.exit(error);
  stoat::KnownWords known;
  stoat::add_options(known, app);
  stoat::say(
      stoat::command_line_problem("stoat capture", {argv + 1, argv + argc}, known, error.what()) +
      "\n");
  return static_cast<int>(stoat::ExitCode::kUsage);
}

int run(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "bench")
    return stoat::step_bench_main(argc - 1, argv + 1);
  if (argc > 1 && std::string_view(argv[1]) == "accuracy") {
    handle_signals();
    return stoat::accuracy_main(argc - 1, argv + 1, &stop_requested);
  }
  CLI::App app{"Decode a prompt with a trained model and record which KV rows every step touches.",
               "stoat capture"};
  app.footer(
      "Exit codes: 0 done, 2 usage, 3 damaged model or input, 4 disk, memory or GPU, 130 "
      "interrupted (the trace is whole).\n"
      "`stoat capture bench --help`: timing of decode steps on a GPU; `stoat capture accuracy "
      "--help`: tasks and text against the budget.\n"
      "Example: stoat capture --prompt notes.txt --method prop --budget 64 -o notes.trace");
  stoat::CaptureOptions options;
  Words words;
  add_model_options(app, options, words);
  const TernaryFlags ternary = add_method_options(app, options, words);
  add_run_options(app, options, words);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return refuse(app, error, argc, argv);
  }
  resolve_words(app, words, ternary, options);
  handle_signals();
  return finish(stoat::capture(options, {words.quiet     ? -1
                                         : words.verbose ? 1
                                                         : 0,
                                         &stop_requested}),
                words);
}

}  // namespace

int main(int argc, char** argv) {
  stoat::guard_standard_streams();
  // Large blocks go back to the system when they are freed: a recording's threads each hold some,
  // and heaps of their own would keep the sum of their largest.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
  const std::string_view verb = argc > 1 ? argv[1] : "";
  const std::string program = verb == "bench"      ? "stoat capture bench"
                              : verb == "accuracy" ? "stoat capture accuracy"
                                                   : "stoat capture";
  try {
    const int code = run(argc, argv);
    stoat::flush_results();
    return code;
  } catch (const stoat::Error& error) {
    stoat::say(fmt::format("{}: {}\n", program, error.what()));
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    stoat::say(fmt::format("{}: not enough memory for this model and context; shorten the prompt\n",
                           program));
    return static_cast<int>(stoat::ExitCode::kResource);
  } catch (const std::exception& error) {
    stoat::say(fmt::format("{}: internal error, please report: {}\n", program, error.what()));
    return 1;
  }
}
