// Questions asked after the prompt: their text is fed token by token, then the answer is decoded
// and judged.
//
// A file of JSON lines, as scripts/needle_tasks.py writes it: {"text", "generate", "expect",
// "kind"}.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stoat {

struct Question {
  std::string text;            // fed by decoding, not empty
  std::uint32_t generate = 0;  // tokens to decode afterwards, >= 1
  std::string expect;          // empty: the answer is not judged
  std::string kind = "question";
};

struct Answer {
  Question question;
  std::string text;     // what was decoded
  bool judged = false;  // whether there was anything to expect
  bool correct = false;
};

// Throws Error with file and line for everything that is not such an object.
std::vector<Question> parse_questions(std::string_view content, const std::string& path);
std::vector<Question> read_questions(const std::string& path);

// Correct when the decoded text, leading white space aside, starts with what was expected.
bool answer_matches(std::string_view decoded, std::string_view expected);

// Correct and judged answers by kind, in order of appearance.
struct KindScore {
  std::string kind;
  std::uint32_t correct = 0;
  std::uint32_t judged = 0;
};
std::vector<KindScore> scores_by_kind(const std::vector<Answer>& answers);

}  // namespace stoat
