// The bar, the line and the estimate of a long job; that stderr may be gone.
#include "models/progress.h"

#include <gtest/gtest.h>

namespace stoat {
namespace {

TEST(Progress, DurationsReadLikeSpeech) {
  EXPECT_EQ(duration_text(-1), "0 s");
  EXPECT_EQ(duration_text(0.4), "0 s");
  EXPECT_EQ(duration_text(59.4), "59 s");
  EXPECT_EQ(duration_text(59.6), "1 min 00 s");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
  EXPECT_EQ(duration_text(3900), "1 h 05 min");
}

TEST(Progress, TheBarShowsTheShareOfTheWorkAndTheTimeLeft) {
  const std::string bar = progress_bar({"simulate", "layer steps", 5, 10, 0.5, 40});
  EXPECT_EQ(bar, "simulate [===============               ] 5/10 layer steps  ETA 40 s");
}

TEST(Progress, TheLineEndsAndCarriesTheUnit) {
  EXPECT_EQ(progress_line({"prefill", "tokens", 3, 4, 0.75, 30}),
            "prefill: 3 of 4 tokens, ETA 10 s\n");
}

TEST(Progress, GuessesNoTimeBeforeThereIsSomethingToGuessFrom) {
  EXPECT_NE(progress_bar({"x", "steps", 0, 9, 0, 100}).find("ETA ..."), std::string::npos);
  EXPECT_NE(progress_line({"x", "steps", 1, 9, 0.1, 0.2}).find("ETA ..."), std::string::npos);
}

TEST(Progress, FullAndEmptyBarsHaveTheSameWidth) {
  const std::string full = progress_bar({"x", "u", 9, 9, 1, 1});
  const std::string empty = progress_bar({"x", "u", 0, 9, 0, 1});
  EXPECT_EQ(full.find(']'), empty.find(']'));
  EXPECT_NE(full.find(std::string(30, '=')), std::string::npos);
  EXPECT_EQ(empty.find('='), std::string::npos);
}

}  // namespace
}  // namespace stoat
