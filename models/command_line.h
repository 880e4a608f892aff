// What every program says about a command line that it does not understand: one line that names
// the word, the nearest word that is known, and where the help is.
//
// Not a parser: the programs parse with CLI11 and hand over its words here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace stoat {

struct KnownWords {
  std::vector<std::string> options;  // "--method"
  std::vector<std::string> verbs;    // of a program that has some; the first word must be one
};

// Adds the long options of a parser, CLI11's App.
template <class App>
void add_options(KnownWords& known, const App& app) {
  for (const auto* option : app.get_options())
    for (const std::string& name : option->get_lnames()) known.options.push_back("--" + name);
}

// `words` are the arguments after the program's name; `parser_said` is the parser's own message,
// used when no word is unknown. Example:
// "stoat capture: unknown option '--methd'; did you mean '--method'?"
std::string command_line_problem(std::string_view program, const std::vector<std::string>& words,
                                 const KnownWords& known, std::string_view parser_said);

}  // namespace stoat
