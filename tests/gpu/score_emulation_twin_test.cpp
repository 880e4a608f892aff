// A score kernel that is wrong in what only some orders of the warps show, which tests/gpu's
// CMakeLists.txt makes of the right one: the emulation has to find it.
#include <gtest/gtest.h>

#include "tests/gpu/emulation/score_case.h"

namespace stoat::emulation {
namespace {

TEST(EmulatedScorePassTwin, IsFoundWrongInSomeOrderOfTheWarps) {
  std::uint32_t found = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed)
    found +=
        what_is_wrong({.contexts = {700, 1500}, .blocks = 3}, {1, seed, false}).empty() ? 0 : 1;
  EXPECT_GE(found, 4U);
}

}  // namespace
}  // namespace stoat::emulation
