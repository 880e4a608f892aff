// The program: verbs of its own, and `stoat VERB` for programs stoat-VERB that lie beside it
// (design decision 8).
//
// To add a verb: its add_..._verb function and one line in kVerbs.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <systemc>

#include "models/command_line.h"
#include "models/data_path.h"
#include "models/error.h"
#include "models/streams.h"
#include "models/version.h"
#include "sim/verb.h"
#include "sim/verb_arch.h"
#include "sim/verb_demo.h"
#include "sim/verb_doctor.h"
#include "sim/verb_memory.h"
#include "sim/verb_report.h"
#include "sim/verb_sim.h"
#include "sim/verb_sweep.h"

namespace stoat::sim {
namespace {

using AddVerb = void (*)(CLI::App&, VerbResult&);
constexpr AddVerb kVerbs[] = {add_sim_verb,    add_sweep_verb, add_arch_verb,  add_memory_verb,
                              add_report_verb, add_demo_verb,  add_doctor_verb};

constexpr int kBugExit = 70;  // EX_SOFTWARE of sysexits.h, as stoat-trace

struct SisterProgram {
  const char* verb;
  const char* summary;
};
constexpr SisterProgram kSisters[] = {
    {"capture", "Decode with a model and record what each step touches"},
    {"trace", "Look at, check, repair, export and synthesise traces"},
};

std::string sister_path(const std::string& verb) { return program_folder() + "/stoat-" + verb; }

bool plain_word(const std::string& text) {
  return !text.empty() && text.front() != '-' && text.find('/') == std::string::npos;
}

// Becomes stoat-VERB when there is one. Returns when there is none.
void try_sister(const std::vector<std::string>& words) {
  if (words.size() < 2 || !plain_word(words[1])) return;
  const std::string path = sister_path(words[1]);
  if (::access(path.c_str(), X_OK) != 0) {
    for (const SisterProgram& sister : kSisters) {
      if (words[1] == sister.verb) {
        throw usage_error({}, "no program stoat-" + words[1] + " beside stoat", path,
                          "build it: cmake --build BUILD --target stoat-" + words[1]);
      }
    }
    return;
  }
  std::vector<char*> arguments;
  std::vector<std::string> copy(words.begin() + 1, words.end());
  copy[0] = path;
  for (std::string& word : copy) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execv(path.c_str(), arguments.data());
  throw resource_error({}, "cannot start " + path + ": " + std::strerror(errno));
}

std::vector<std::string> own_verbs(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands({})) names.push_back(verb->get_name());
  return names;
}

// A mistake in the command line as one line with the nearest word that is known.
std::string problem(const CLI::App& app, const std::vector<std::string>& words,
                    const std::string& parser_said) {
  const std::vector<std::string> given(words.begin() + (words.empty() ? 0 : 1), words.end());
  KnownWords known;
  std::string program = "stoat";
  add_options(known, app);
  known.verbs = own_verbs(app);
  for (const SisterProgram& sister : kSisters) known.verbs.emplace_back(sister.verb);
  if (given.empty()) {
    return program + ": no verb; " + nearest_name_hint("", known.verbs) + "; see 'stoat --help'";
  }
  for (const CLI::App* verb : app.get_subcommands({})) {
    if (verb->get_name() != given[0]) continue;
    known.options.clear();
    add_options(known, *verb);
    program += " " + given[0];
    const std::vector<std::string> inner = own_verbs(*verb);
    if (inner.empty()) continue;
    const std::vector<std::string> rest(given.begin() + 1, given.end());
    if (rest.empty() || std::find(inner.begin(), inner.end(), rest[0]) == inner.end()) {
      return program + ": " + (rest.empty() ? "no verb" : "unknown verb '" + rest[0] + "'") + "; " +
             nearest_name_hint(rest.empty() ? "" : rest[0], inner) + "; see '" + program +
             " --help'";
    }
    known.options.clear();
    known.verbs = inner;
    add_options(known, *verb->get_subcommand(rest[0]));
    return command_line_problem(program, rest, known, parser_said);
  }
  return command_line_problem(program, given, known, parser_said);
}

std::string version_text(bool json) {
  if (!json) return "stoat " + std::string(tool_version()) + " (" + std::string(build_id()) + ")";
  return nlohmann::json{{"version", tool_version()}, {"build_id", build_id()}}.dump();
}

int run(const std::vector<std::string>& words) {
  VerbResult result;
  result.command_line = words;
  CLI::App app{"stoat: stochastic attention from a prompt to a report"};
  app.name("stoat");
  app.require_subcommand(1);
  app.set_version_flag("--version", version_text(false));
  for (const AddVerb add : kVerbs) add(app, result);
  std::string footer = "Programs beside this one:\n";
  for (const SisterProgram& sister : kSisters) {
    footer += "  " + std::string(sister.verb) + std::string(28 - std::strlen(sister.verb), ' ') +
              sister.summary + "\n";
  }
  app.footer(footer + "\nstoat VERB --help says more.");
  const std::vector<std::string> own = own_verbs(app);
  if (words.size() > 1 && std::find(own.begin(), own.end(), words[1]) == own.end()) {
    try_sister(words);
  }
  ::signal(SIGPIPE, SIG_IGN);  // a closed pager must not end a simulation
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend() - (words.empty() ? 0 : 1));
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    say(problem(app, words, error.what()) + "\n");
    return static_cast<int>(ExitCode::kUsage);
  }
  return static_cast<int>(result.code);
}

int guarded(const std::vector<std::string>& words) {
  try {
    const int code = run(words);
    flush_results();
    return code;
  } catch (const Error& error) {
    say("stoat: " + std::string(error.what()) + "\n");
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    say("stoat: out of memory\n");
    return static_cast<int>(ExitCode::kResource);
  } catch (const std::exception& error) {
    say("stoat: this is a bug in stoat: " + std::string(error.what()) + "\n");
    return kBugExit;
  }
}

}  // namespace
}  // namespace stoat::sim

int sc_main(int argc, char* argv[]) {
  return stoat::sim::guarded(std::vector<std::string>(argv, argv + argc));
}

int main(int argc, char* argv[]) {
  stoat::guard_standard_streams();
  ::setenv("SYSTEMC_DISABLE_COPYRIGHT_MESSAGE", "1", 0);
  ::setenv("SC_COPYRIGHT_MESSAGE", "DISABLE", 0);
  return sc_core::sc_elab_and_sim(argc, argv);
}
