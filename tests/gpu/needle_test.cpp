// The shipped model answers the demo's needle questions, decoded densely and with prop at the
// default budget.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>

#include "gpu/capture.h"
#include "models/data_path.h"
#include "tests/gpu/fixtures.h"

namespace stoat {
namespace {

void expect_needles_right(Method method) {
  const test::TempFolder folder;
  CaptureOptions options;
  const std::string demo = data_path("llm/needle") + "/demo/";
  options.prompt_files = {demo + "prompt.txt"};
  options.questions_file = demo + "questions.jsonl";
  options.method = method;
  options.output = folder.path("out.stoat");
  const CaptureResult result = test::run_quietly(options);
  std::uint32_t needles = 0;
  for (const Answer& answer : result.answers) {
    if (answer.question.kind != "needle") continue;
    ++needles;
    EXPECT_TRUE(answer.correct) << answer.question.text << " gave " << answer.text << ", expected "
                                << answer.question.expect;
  }
  EXPECT_GT(needles, 0U);
}

TEST(Needle, DenseDecodingAnswersTheDemosQuestions) { expect_needles_right(Method::kDense); }

TEST(Needle, PropAtTheDefaultBudgetAnswersTheDemosQuestions) {
  expect_needles_right(Method::kProp);
}

}  // namespace
}  // namespace stoat
