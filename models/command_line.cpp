#include "models/command_line.h"

#include <algorithm>

#include "models/error.h"

namespace stoat {
namespace {

bool contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

}  // namespace

std::string command_line_problem(std::string_view program, const std::vector<std::string>& words,
                                 const KnownWords& known, std::string_view parser_said) {
  const std::string name(program);
  if (!known.verbs.empty() && !words.empty() && !words[0].empty() && words[0][0] != '-' &&
      !contains(known.verbs, words[0])) {
    return name + ": unknown verb '" + words[0] + "'; " + nearest_name_hint(words[0], known.verbs);
  }
  for (const std::string& given : words) {
    const std::string word = given.substr(0, given.find('='));
    if (word == "--") break;
    if (!word.starts_with("--") || contains(known.options, word)) continue;
    return name + ": unknown option '" + word + "'; " + nearest_name_hint(word, known.options);
  }
  std::string said(parser_said.substr(0, parser_said.find_last_not_of(" \n.") + 1));
  std::replace(said.begin(), said.end(), '\n', ' ');
  return name + ": " + said + "; see '" + name + " --help'";
}

}  // namespace stoat
