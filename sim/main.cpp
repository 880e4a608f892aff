// The program: verbs of its own, and `stoat VERB` for programs stoat-VERB that lie beside it
// (design decision 8).
//
// To add a verb: its add_..._verb function and one line in kVerbs.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <systemc>

#include "models/data_path.h"
#include "models/error.h"
#include "models/version.h"
#include "sim/verb.h"
#include "sim/verb_demo.h"
#include "sim/verb_report.h"
#include "sim/verb_sim.h"

namespace stoat::sim {
namespace {

using AddVerb = void (*)(CLI::App&, VerbResult&);
constexpr AddVerb kVerbs[] = {add_sim_verb, add_report_verb, add_demo_verb};

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

void check_verb(const CLI::App& app, const std::vector<std::string>& words) {
  if (words.size() < 2 || !plain_word(words[1])) return;
  std::vector<std::string> known = own_verbs(app);
  for (const SisterProgram& sister : kSisters) known.emplace_back(sister.verb);
  if (std::find(known.begin(), known.end(), words[1]) == known.end()) {
    throw usage_error({}, "unknown verb '" + words[1] + "'", "a verb",
                      nearest_name_hint(words[1], known));
  }
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
    check_verb(app, words);
  }
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend() - (words.empty() ? 0 : 1));
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  return static_cast<int>(result.code);
}

int guarded(const std::vector<std::string>& words) {
  try {
    return run(words);
  } catch (const Error& error) {
    std::cerr << "stoat: " << error.what() << "\n";
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    std::cerr << "stoat: out of memory\n";
    return static_cast<int>(ExitCode::kResource);
  } catch (const std::exception& error) {
    std::cerr << "stoat: this is a bug in stoat: " << error.what() << "\n";
    std::abort();
  }
}

}  // namespace
}  // namespace stoat::sim

int sc_main(int argc, char* argv[]) {
  return stoat::sim::guarded(std::vector<std::string>(argv, argv + argc));
}

int main(int argc, char* argv[]) {
  ::setenv("SYSTEMC_DISABLE_COPYRIGHT_MESSAGE", "1", 0);
  ::setenv("SC_COPYRIGHT_MESSAGE", "DISABLE", 0);
  return sc_core::sc_elab_and_sim(argc, argv);
}
