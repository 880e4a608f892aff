// The small functions behind the command line: budgets, token files, layer lists, questions,
// budgets under flash.
#include "gpu/inputs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "gpu/capture_plan.h"
#include "gpu/questions.h"
#include "models/error.h"
#include "tests/gpu/fixtures.h"

namespace stoat {
namespace {

using test::TempFolder;

// The message of the Error that `body` throws; fails when it throws none.
template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return {};
}

void expect_parts(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
}

std::string npy(const std::string& header, const std::string& data) {
  std::string text = header;
  while ((10 + text.size() + 1) % 64 != 0) text += ' ';
  text += '\n';
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(text.size() & 255) +
         static_cast<char>(text.size() >> 8) + text + data;
}

TEST(Budgets, AreOneNumberOrOneALayer) {
  const TempFolder folder;
  EXPECT_EQ(resolve_budgets("128", 4), std::vector<std::uint32_t>{128});
  EXPECT_EQ(resolve_budgets("65535", 4), std::vector<std::uint32_t>{65535});
  EXPECT_EQ(resolve_budgets(folder.write("b", "# layers\n1\n\n 20 \r\n300\n"), 3),
            (std::vector<std::uint32_t>{1, 20, 300}));
}

TEST(Budgets, RefuseZeroNegativeTooLargeAndFractions) {
  for (const char* text : {"0", "-1", "65536", "1.5", "99999999999999999999"}) {
    expect_parts(error_of([&] { resolve_budgets(text, 4); }), {"--budget", text, "1 to 65535"});
  }
}

TEST(Budgets, FileWithTheWrongNumberOfLinesNamesBothNumbers) {
  const TempFolder folder;
  const std::string path = folder.write("budgets.txt", "1\n2\n3\n");
  expect_parts(error_of([&] { resolve_budgets(path, 4); }), {path, "3 budgets", "4"});
}

TEST(Budgets, FileWithABadLineNamesTheLine) {
  const TempFolder folder;
  const std::string path = folder.write("budgets.txt", "1\n2\nmany\n4\n");
  expect_parts(error_of([&] { resolve_budgets(path, 4); }), {path + ":3", "many"});
  expect_parts(error_of([] { resolve_budgets("no-such-file", 4); }),
               {"no-such-file", "neither a number nor a file"});
}

TEST(MethodsWithBudgets, AreDenseOrANameAndANumber) {
  using Pair = std::pair<Method, std::uint32_t>;
  EXPECT_EQ(parse_method_and_budget("dense", "--m"), Pair(Method::kDense, 0U));
  EXPECT_EQ(parse_method_and_budget("prop:128", "--m"), Pair(Method::kProp, 128U));
  for (const char* text : {"prop", "dense:4", "prop:0", "prop:", "prop:x", "prop:65536", "prp:1"})
    EXPECT_THROW(parse_method_and_budget(text, "--m"), Error) << text;
}

TEST(BudgetLists, MustIncrease) {
  EXPECT_EQ(parse_budget_list("4, 16,64"), (std::vector<std::uint32_t>{4, 16, 64}));
  expect_parts(error_of([] { parse_budget_list("4,4"); }), {"--probe-budgets", "4 after 4"});
  expect_parts(error_of([] { parse_budget_list("4,,16"); }), {"--probe-budgets", "''"});
}

TEST(Layers, AreAllOrAList) {
  EXPECT_EQ(parse_layers("all", 3), (std::vector<bool>{true, true, true}));
  EXPECT_EQ(parse_layers("0,2", 3), (std::vector<bool>{true, false, true}));
  expect_parts(error_of([] { parse_layers("0,3", 3); }), {"--scores", "'3'", "0 to 2"});
  expect_parts(error_of([] { parse_layers("", 3); }), {"--scores"});
}

TEST(TokenFiles, TextMayUseAnyWhiteSpace) {
  EXPECT_EQ(parse_token_text(" 1 2\t3\r\n\n255 ", "t", 256),
            (std::vector<std::int32_t>{1, 2, 3, 255}));
  EXPECT_TRUE(parse_token_text(" \n", "t", 256).empty());
}

TEST(TokenFiles, TokensOutsideTheVocabularyAreNamedWithTheirLine) {
  expect_parts(error_of([] { parse_token_text("1 2\n3 256\n", "tokens.txt", 256); }),
               {"tokens.txt:2", "256", "0 to 255"});
  expect_parts(error_of([] { parse_token_text("\n\n-1", "tokens.txt", 256); }),
               {"tokens.txt:3", "-1"});
  expect_parts(error_of([] { parse_token_text("1 2x", "tokens.txt", 256); }),
               {"tokens.txt:1", "2x"});
}

constexpr const char* kNarrow = "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }";
constexpr const char* kWide = "{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }";

TEST(TokenFiles, NumpyArraysOfBothWidthsAreRead) {
  EXPECT_EQ(parse_npy_tokens(npy(kNarrow, {"\x01\0\0\0\xff\0\0\0", 8}), "t.npy", 256),
            (std::vector<std::int32_t>{1, 255}));
  EXPECT_EQ(parse_npy_tokens(npy(kWide, {"\x05\0\0\0\0\0\0\0", 8}), "t.npy", 256),
            std::vector<std::int32_t>{5});
}

TEST(TokenFiles, NumpyArraysThatLieAreRefused) {
  const std::string eight(8, '\1');
  expect_parts(error_of([&] {
                 parse_npy_tokens(npy(kWide, {"\0\0\0\0\1\0\0\0", 8}), "t.npy", 256);
               }),
               {"t.npy", "4294967296 at index 0"});
  expect_parts(error_of([&] { parse_npy_tokens(npy(kNarrow, "1234"), "t.npy", 256); }),
               {"t.npy", "4 bytes of data", "2"});
  expect_parts(error_of([&] {
                 parse_npy_tokens(npy("{'descr': '<f4', 'shape': (2,)}", eight), "t.npy", 256);
               }),
               {"'<f4'", "int32 or int64"});
  expect_parts(error_of([&] {
                 parse_npy_tokens(npy("{'descr': '<i4', 'shape': (1, 2)}", eight), "t.npy", 256);
               }),
               {"one dimension"});
  expect_parts(error_of([&] { parse_npy_tokens(npy("{'shape': (2,)}", eight), "t.npy", 256); }),
               {"'descr'"});
  const std::string whole = npy(kNarrow, eight);
  std::string newer = whole;
  newer[6] = 4;
  expect_parts(error_of([&] { parse_npy_tokens(newer, "t.npy", 256); }), {"t.npy", "format 4"});
  for (std::size_t length = 6; length < whole.size(); ++length) {
    EXPECT_THROW(parse_npy_tokens(whole.substr(0, length), "t.npy", 1U << 31), Error) << length;
  }
}

TEST(TokenFiles, ANameInNpyWithoutTheMagicNumberIsRefused) {
  const TempFolder folder;
  expect_parts(error_of([&] { read_token_file(folder.write("t.npy", "1 2 3"), 256); }),
               {"t.npy", "magic"});
  EXPECT_EQ(read_token_file(folder.write("t.txt", "1 2 3"), 256).size(), 3U);
}

TEST(Questions, AreOneObjectALine) {
  const auto questions = parse_questions(
      "{\"text\": \"\\n# is \", \"generate\": 7, \"expect\": \"123\", \"kind\": \"needle\"}\n\n"
      "{\"text\": \"x\", \"generate\": 1}\n",
      "q.jsonl");
  ASSERT_EQ(questions.size(), 2U);
  EXPECT_EQ(questions[0].text, "\n# is ");
  EXPECT_EQ(questions[0].generate, 7U);
  EXPECT_EQ(questions[0].expect, "123");
  EXPECT_EQ(questions[0].kind, "needle");
  EXPECT_EQ(questions[1].expect, "");
  EXPECT_EQ(questions[1].kind, "question");
}

TEST(Questions, MistakesAreNamedWithTheirLine) {
  const auto message = [](const std::string& line) {
    return error_of(
        [&] { parse_questions("{\"text\": \"a\", \"generate\": 1}\n" + line, "q.jsonl"); });
  };
  expect_parts(message("not json"), {"q.jsonl:2:2", "not JSON"});
  expect_parts(message("{\"text\": \"a\", \"text\": \"b\"}"),
               {"q.jsonl:2", "'text' appears twice"});
  expect_parts(message("[1]"), {"q.jsonl:2", "JSON object"});
  expect_parts(message("{\"txet\": \"a\", \"generate\": 1}"), {"q.jsonl:2", "txet", "text"});
  expect_parts(message("{\"generate\": 1}"), {"q.jsonl:2", "no 'text'"});
  expect_parts(message("{\"text\": 5, \"generate\": 1}"), {"q.jsonl:2", "'text' is not text"});
  expect_parts(message("{\"text\": \"a\"}"), {"q.jsonl:2", "no 'generate'"});
  expect_parts(message("{\"text\": \"a\", \"generate\": 0}"), {"q.jsonl:2", "'generate': 0"});
  expect_parts(message("{\"text\": \"a\", \"generate\": -3}"), {"q.jsonl:2", "'generate': -3"});
  expect_parts(error_of([] { parse_questions("\n", "q.jsonl"); }), {"q.jsonl", "no questions"});
}

TEST(Questions, AnAnswerMayHaveLeadingSpaceAndATail) {
  EXPECT_TRUE(answer_matches("1234567", "1234567"));
  EXPECT_TRUE(answer_matches(" 1234567\n#", "1234567"));
  EXPECT_FALSE(answer_matches("1234568", "1234567"));
  EXPECT_FALSE(answer_matches("", "1"));
  EXPECT_FALSE(answer_matches("  ", "1"));
}

TEST(Questions, ScoresAreCountedByKind) {
  std::vector<Answer> answers(4);
  answers[0].question.kind = answers[1].question.kind = "needle";
  answers[0].judged = answers[0].correct = answers[1].judged = true;
  answers[2].question.kind = "aggregate";
  answers[2].judged = answers[2].correct = true;
  const auto scores = scores_by_kind(answers);
  ASSERT_EQ(scores.size(), 3U);
  EXPECT_EQ(scores[0].kind, "needle");
  EXPECT_EQ(scores[0].correct, 1U);
  EXPECT_EQ(scores[0].judged, 2U);
  EXPECT_EQ(scores[1].correct, 1U);
  EXPECT_EQ(scores[2].judged, 0U);
}

TEST(Flash, IsRefusedExactlyWhenATileWouldStayEmpty) {
  EXPECT_EQ(tiles_of_context(256), 1U);
  EXPECT_EQ(tiles_of_context(257), 2U);
  EXPECT_NO_THROW(ensure_flash_fits({2}, {}, 512));
  expect_parts(error_of([] { ensure_flash_fits({2}, {}, 513); }),
               {"--budget", "budget 2", "at least 3", "513"});
  expect_parts(error_of([] { ensure_flash_fits({9, 2}, {}, 513); }), {"--budget", "budget 2"});
  expect_parts(error_of([] {
                 ensure_flash_fits({9}, {2, 4}, 513);
               }),
               {"--probe-budgets", "budget 2"});
}

TEST(Models, UnknownNamesGetTheNearestShippedOne) {
  expect_parts(error_of([] { resolve_model_folder("no-such-model-anywhere"); }),
               {"--model", "no-such-model-anywhere"});
  expect_parts(error_of([] { resolve_model_folder("/no/such/folder"); }),
               {"/no/such/folder", "no such folder"});
}

}  // namespace
}  // namespace stoat
