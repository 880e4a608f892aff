// Reading and judging questions.
#include "gpu/questions.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "models/files.h"
#include "models/llm/json_read.h"

namespace stoat {
namespace {

const std::vector<std::string>& question_keys() {
  static const std::vector<std::string> keys{"text", "generate", "expect", "kind"};
  return keys;
}

std::string text_value(const nlohmann::json& object, const char* key, const Place& place) {
  const auto found = object.find(key);
  if (found == object.end()) return {};
  if (!found->is_string())
    throw usage_error(place, std::string("'") + key + "' is not text", "a JSON string");
  return found->get<std::string>();
}

Question parse_question(std::string_view line, const Place& place) {
  nlohmann::json object;
  try {
    object = parse_json(line, place.file, place.line);
  } catch (const Error& error) {
    throw Error(ExitCode::kUsage, error.what());
  }
  if (!object.is_object()) {
    throw usage_error(
        place, "not a JSON object",
        R"({"text": "...", "generate": N, "expect": "...", "kind": "..."} on every line)");
  }
  for (const auto& item : object.items()) {
    const auto& keys = question_keys();
    if (std::find(keys.begin(), keys.end(), item.key()) == keys.end()) {
      throw usage_error(place, "unknown key '" + item.key() + "'", "",
                        nearest_name_hint(item.key(), keys));
    }
  }
  Question question;
  question.text = text_value(object, "text", place);
  if (question.text.empty()) throw usage_error(place, "no 'text'", "the question's text");
  question.expect = text_value(object, "expect", place);
  if (object.contains("kind")) question.kind = text_value(object, "kind", place);
  const auto generate = object.find("generate");
  if (generate == object.end() || !generate->is_number_unsigned() ||
      generate->get<std::uint64_t>() == 0 || generate->get<std::uint64_t>() > 1'000'000) {
    throw usage_error(
        place, generate == object.end() ? "no 'generate'" : "'generate': " + generate->dump(),
        "the number of tokens to decode, 1 to 1000000");
  }
  question.generate = generate->get<std::uint32_t>();
  return question;
}

}  // namespace

std::vector<Question> parse_questions(std::string_view content, const std::string& path) {
  std::vector<Question> questions;
  std::uint64_t line = 0;
  while (!content.empty()) {
    const auto end = std::min(content.find('\n'), content.size());
    const std::string_view text = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    ++line;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    questions.push_back(parse_question(text, {path, line}));
  }
  if (questions.empty()) throw usage_error({path}, "no questions", "one JSON object a line");
  return questions;
}

std::vector<Question> read_questions(const std::string& path) {
  return parse_questions(read_file(path, std::uint64_t{1} << 26), path);
}

bool answer_matches(std::string_view decoded, std::string_view expected) {
  const auto begin = decoded.find_first_not_of(" \t\r\n");
  return begin != std::string_view::npos && decoded.substr(begin).starts_with(expected);
}

std::vector<KindScore> scores_by_kind(const std::vector<Answer>& answers) {
  std::vector<KindScore> scores;
  for (const Answer& answer : answers) {
    auto score = std::find_if(scores.begin(), scores.end(),
                              [&](const KindScore& s) { return s.kind == answer.question.kind; });
    if (score == scores.end())
      score = scores.insert(scores.end(), KindScore{answer.question.kind, 0, 0});
    score->judged += answer.judged ? 1U : 0U;
    score->correct += answer.correct ? 1U : 0U;
  }
  return scores;
}

}  // namespace stoat
