// stoat-trace: looks into, proves, recovers, exports, makes and compares traces. Here is only the
// command line; what the verbs do stands in verbs.cpp.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdint>
#include <new>
#include <system_error>

#include "models/command_line.h"
#include "models/error.h"
#include "models/streams.h"
#include "models/units.h"
#include "models/version.h"
#include "traces/shapes.h"
#include "traces/verbs.h"

namespace {

using stoat::SynthOptions;

struct SynthArguments {
  SynthOptions options;
  std::string out, shape, method = "prop", score = "exact", coupling = "independent",
                          normaliser = "max";
  std::string participation = "flat";
};

// CLI11 reads numbers with strtoull: "-1" would become 2^64 - 1, "010" eight and 2^64 its
// neighbour.
std::string whole_number(const std::string& text) {
  try {
    return std::to_string(stoat::parse_count(text, ""));
  } catch (const stoat::Error& error) {
    throw CLI::ValidationError(error.what());
  }
}

double participation_of(const std::string& text) {
  if (text == "flat") return 0;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 1)) {
    throw stoat::usage_error({"--participation"}, "'" + text + "'",
                             "a number of at least 1, or flat");
  }
  return value;
}

int run_synth(const CLI::App& verb, SynthArguments& a, bool force, bool json) {
  SynthOptions o = a.options;
  if (!a.shape.empty()) {
    stoat::ModelShape shape = stoat::model_shape(a.shape);
    // What was given by hand wins, and the weights are those of the changed shape.
    if (verb.count("--layers") != 0) shape.n_layers = o.n_layers;
    if (verb.count("--q-heads") != 0) shape.n_q_heads = o.n_q_heads;
    if (verb.count("--kv-heads") != 0) shape.n_kv_heads = o.n_kv_heads;
    if (verb.count("--head-dim") != 0) shape.head_dim = o.head_dim;
    o.n_layers = shape.n_layers;
    o.n_q_heads = shape.n_q_heads;
    o.n_kv_heads = shape.n_kv_heads;
    o.head_dim = shape.head_dim;
    o.model_name = shape.name;
    o.weight_bytes_per_token = stoat::decode_weight_bytes(shape, 2);
  }
  o.method = stoat::method_from_name(a.method);
  o.participation = participation_of(a.participation);
  if (a.score != "exact" && a.score != "ternary") {
    throw stoat::usage_error({"--score"}, "'" + a.score + "'", "exact or ternary");
  }
  o.score_kind = a.score == "ternary" ? stoat::ScoreKind::kTernary : stoat::ScoreKind::kExact;
  for (const char* option : {"--ternary-draws", "--ternary-coupling", "--ternary-normaliser"}) {
    if (o.score_kind == stoat::ScoreKind::kExact && verb.count(option) != 0) {
      throw stoat::usage_error({option}, "given without --score ternary", "",
                               "add --score ternary");
    }
  }
  o.ternary.coupling = stoat::coupling_from_name(a.coupling);
  o.ternary.normaliser = stoat::normaliser_from_name(a.normaliser);
  return stoat::verb_synth(o, a.out, force, json);
}

void add_synth(CLI::App& verb, SynthArguments& a) {
  SynthOptions& o = a.options;
  verb.add_option("-o,--out", a.out, "the trace to write")->required();
  verb.add_option("--shape", a.shape,
                  "a model of models/llm/shapes.csv, e.g. llama-3.1-8b; options below override it");
  verb.add_option("--layers", o.n_layers, "layers")->capture_default_str()->transform(whole_number);
  verb.add_option("--q-heads", o.n_q_heads, "query heads a layer")
      ->capture_default_str()
      ->transform(whole_number);
  verb.add_option("--kv-heads", o.n_kv_heads, "KV heads a layer")
      ->capture_default_str()
      ->transform(whole_number);
  verb.add_option("--head-dim", o.head_dim, "elements of a K or V row")
      ->capture_default_str()
      ->transform(whole_number);
  verb.add_option("--kv-dtype", o.kv_dtype, "bf16, fp16, fp8 or int8")->capture_default_str();
  verb.add_option("--context", o.contexts,
                  "rows at the first step, one number a sequence: 4096,1024")
      ->delimiter(',')
      ->transform(whole_number)
      ->capture_default_str();
  verb.add_option("--steps", o.steps, "decode steps; the context grows by one each")
      ->capture_default_str()
      ->transform(whole_number);
  verb.add_option("--method", a.method, "dense, iid, strat, sys, prop, flash or topk")
      ->capture_default_str();
  verb.add_option("--budget", o.budgets, "rows drawn, S: one number, or one a layer: 128,64")
      ->delimiter(',')
      ->transform(whole_number)
      ->capture_default_str();
  verb.add_option("--participation", a.participation,
                  "1 / sum p^2 to reach, or flat for equal weights")
      ->capture_default_str();
  verb.add_option("--sinks", o.sinks, "first rows that attract attention")
      ->capture_default_str()
      ->transform(whole_number);
  verb.add_option("--recency", o.recency,
                  "decay length of a ramp towards the last row, in tokens; 0: none")
      ->capture_default_str();
  verb.add_option("--group-correlation", o.group_correlation,
                  "of the logits of heads that share a KV head, 0 to 1")
      ->capture_default_str();
  verb.add_option("--seed", o.seed, "of everything random")
      ->capture_default_str()
      ->transform(whole_number);
  verb.add_option("--score", a.score, "exact, or ternary with Gaussian queries")
      ->capture_default_str();
  verb.add_option("--ternary-draws", o.ternary.draws, "draws of a ternary query, 1 to 64")
      ->capture_default_str()
      ->transform(whole_number);
  verb.add_option("--ternary-coupling", a.coupling, "independent, coupled or group-mean")
      ->capture_default_str();
  verb.add_option("--ternary-normaliser", a.normaliser, "max or pow2")->capture_default_str();
  verb.add_flag("--scores", o.scores,
                "keep the score codes: any method and S can be drawn again from them");
}

// "3:7" = steps with index 3 to 6; "3" = step 3 only.
void parse_steps(const std::string& text, stoat::ExportOptions& options) {
  if (text.empty()) return;
  std::uint32_t first = 0, last = 0;
  const char* end = text.data() + text.size();
  auto at = std::from_chars(text.data(), end, first);
  bool good = at.ec == std::errc();
  last = first + 1;
  if (good && at.ptr != end) {
    good = *at.ptr == ':';
    at = std::from_chars(at.ptr + 1, end, last);
    good = good && at.ec == std::errc() && at.ptr == end;
  }
  if (!good || last <= first)
    throw stoat::usage_error({"--steps"}, "'" + text + "'",
                             "FIRST:LAST, e.g. 0:16 for the first 16");
  options.first_step = first;
  options.steps = last - first;
}

// Help and version go out as they are; a mistake becomes one line.
int refuse(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  if (error.get_exit_code() == 0) return app.exit(error);
  stoat::KnownWords known;
  const std::vector<std::string> words{argv + 1, argv + argc};
  stoat::add_options(known, app);
  std::string program = "stoat trace";
  for (const CLI::App* verb : app.get_subcommands({})) {
    known.verbs.push_back(verb->get_name());
    if (words.empty() || verb->get_name() != words[0]) continue;
    stoat::add_options(known, *verb);
    program += " " + words[0];
  }
  stoat::say(stoat::command_line_problem(program, words, known, error.what()) + "\n");
  return static_cast<int>(stoat::ExitCode::kUsage);
}

int run(int argc, char** argv) {
  CLI::App app{
      "Traces of what each decode step touched: look into, prove, recover, export, make, compare.",
      "stoat trace"};
  app.set_version_flag("--version", std::string(stoat::tool_version()) + " (" +
                                        std::string(stoat::build_id()) + ")");
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 1 diff found differences, 2 usage, 3 damaged or dishonest trace, 4 disk "
      "or memory.");
  bool json = false;
  std::string path, other, out, format = "csv", steps;
  std::size_t limit = 10;
  bool before_damage = false, keep = false, force = false;
  stoat::ExportOptions export_options;
  SynthArguments synth;
  const auto verb = [&](const char* name, const char* help) {
    CLI::App* sub = app.add_subcommand(name, help);
    sub->add_flag("--json", json, "one JSON object on stdout");
    return sub;
  };
  const auto add_force = [&](CLI::App* sub) {
    sub->add_flag("--force", force, "replace the output when it exists");
  };
  CLI::App* info = verb("info", "What a trace (or a spool) holds: model, method, sizes, hashes.");
  info->add_option("trace", path, "a trace or a spool")->required();
  CLI::App* check = verb(
      "check",
      "Prove again what a trace promises; exit 3 with dataset and record where it does not hold.");
  check->add_option("trace", path, "a trace")->required();
  check->add_option("--max", limit, "violations to list")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  CLI::App* recover =
      verb("recover", "Turn the spool of a killed recording into a trace, as a normal end does.");
  recover->add_option("spool", path, "FILE.spool")->required();
  recover->add_option("-o,--out", out,
                      "the trace to write (default: the spool's name without .spool)");
  recover->add_flag("--before-damage", before_damage, "keep the whole frames before a damaged one");
  recover->add_flag("--keep", keep, "leave the spool");
  add_force(recover);
  CLI::App* exporting =
      verb("export", "Write the trace for other tools: csv, stl (DRAM simulators), npz (numpy).");
  exporting->add_option("trace", path, "a trace")->required();
  exporting->add_option("--to", format, "csv, stl or npz")->required();
  exporting->add_option("-o,--out", out, "the file to write")->required();
  add_force(exporting);
  exporting->add_option("--steps", steps, "FIRST:LAST step index, LAST excluded (default: all)");
  exporting
      ->add_option("--access-bytes", export_options.access_bytes, "stl: bytes of one memory access")
      ->capture_default_str()
      ->transform(whole_number);
  exporting
      ->add_option("--step-cycles", export_options.step_cycles,
                   "stl: cycles from one step to the next")
      ->capture_default_str()
      ->transform(whole_number);
  CLI::App* synthesizing =
      verb("synth",
           "Make a trace without a model: chosen participation ratio, sinks, recency; real draws.");
  add_synth(*synthesizing, synth);
  add_force(synthesizing);
  CLI::App* diff =
      verb("diff", "Compare two traces: header, records, rows; exit 1 when they differ.");
  diff->add_option("left", path, "a trace")->required();
  diff->add_option("right", other, "a trace")->required();
  diff->add_option("--max", limit, "differences to list")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return refuse(app, e, argc, argv);
  }
  if (*info) return stoat::verb_info(path, json);
  if (*check) return stoat::verb_check(path, limit, json);
  if (*recover) {
    if (out.empty()) {
      if (!path.ends_with(".spool"))
        throw stoat::usage_error({path}, "no -o, and the name does not end in .spool");
      out = path.substr(0, path.size() - 6);
    }
    return stoat::verb_recover(path, out, {before_damage, keep, force}, json);
  }
  if (*exporting) {
    export_options.format = stoat::export_format_from_name(format);
    parse_steps(steps, export_options);
    return stoat::verb_export(path, export_options, out, force, json);
  }
  if (*synthesizing) return run_synth(*synthesizing, synth, force, json);
  return stoat::verb_diff(path, other, limit, json);
}

}  // namespace

int main(int argc, char** argv) {
  stoat::guard_standard_streams();
  spdlog::set_default_logger(spdlog::stderr_color_st("stoat"));
  spdlog::set_pattern("stoat trace: %^%l%$: %v");
  spdlog::set_error_handler([](const std::string&) {});  // a closed stderr is no failure
  try {
    const int code = run(argc, argv);
    stoat::flush_results();
    return code;
  } catch (const stoat::Error& e) {
    spdlog::error("{}", e.what());
    return static_cast<int>(e.code());
  } catch (const std::bad_alloc&) {
    spdlog::error("out of memory");
    return static_cast<int>(stoat::ExitCode::kResource);
  } catch (const std::system_error& e) {  // fmt::print, of stdout
    spdlog::error("standard output: the result could not be written: {}", e.code().message());
    return static_cast<int>(stoat::ExitCode::kResource);
  } catch (const std::exception& e) {
    spdlog::critical("this is a bug of stoat: {}", e.what());
    return 70;
  }
}
