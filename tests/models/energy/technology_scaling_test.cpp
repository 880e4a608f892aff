#include "models/energy/technology_scaling.h"

#include <gtest/gtest.h>

#include "models/error.h"

namespace stoat {
namespace {

// V09: the worked example with the published correction to section 4.2.1.
TEST(TechnologyScaling, WorkedExampleOfTheSource) {
  const TechnologyPoint from{65, "", 1.3}, to{32, "HP", 0.9};
  EXPECT_NEAR(energy_factor(from), 2.604, 0.001);
  EXPECT_NEAR(energy_factor(to), 0.4571, 0.0001);
  EXPECT_NEAR(scale_energy(1.0, from, to), 0.1755, 0.001 * 0.1755);
}

TEST(TechnologyScaling, IsARatioOfFactors) {
  const TechnologyPoint a{45, "HP", 0.9}, b{7, "HP", 0.7};
  EXPECT_NEAR(scale_energy(1.0, a, b), 0.068, 0.001);
  EXPECT_NEAR(scale_energy(scale_energy(2.0, a, b), b, a), 2.0, 1e-12);
  EXPECT_EQ(scale_energy(3.0, a, a), 3.0);
}

TEST(TechnologyScaling, RefusesWhatTheTableDoesNotHold) {
  EXPECT_THROW(energy_factor({5, "HP", 0.8}), Error);
  EXPECT_THROW(energy_factor({45, "", 0.9}), Error) << "HP or LP";
  EXPECT_THROW(energy_factor({45, "XX", 0.9}), Error);
  EXPECT_THROW(energy_factor({45, "HP", 0.0}), Error);
  EXPECT_THROW(energy_factor({45, "HP", 12.0}), Error);
  EXPECT_THROW(energy_factor({180, "bulk", 0.5}), Error) << "the polynomial is negative there";
}

}  // namespace
}  // namespace stoat
