// The energy counter against libraries that pretend to be NVML. No GPU.
#include "gpu/bench/energy_counter.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "models/error.h"

namespace stoat::gpu {
namespace {

std::string fake(int kind) { return STOAT_FAKE_NVML + std::to_string(kind) + ".so"; }

void expect_refusal(const std::string& library, const std::string& words) {
  try {
    const EnergyCounter counter(library);
    FAIL() << "no error; expected: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kResource);
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

TEST(EnergyCounter, ReadsWhatTheLibraryCounts) {
  const EnergyCounter counter(fake(0));
  const std::uint64_t first = counter.millijoules();
  EXPECT_EQ(counter.millijoules(), first + 250);
  EXPECT_EQ(counter.device(), "F");
  EXPECT_EQ(counter.driver(), "9");
}

TEST(EnergyCounter, NamesAMissingLibraryAndWhereToNameAnother) {
  expect_refusal("/nowhere/libnvidia-ml.so.1", "/nowhere/libnvidia-ml.so.1: cannot open");
  ASSERT_EQ(setenv("STOAT_NVML", "/elsewhere/nvml.so", 1), 0);
  expect_refusal("", "/elsewhere/nvml.so: cannot open");
  ASSERT_EQ(unsetenv("STOAT_NVML"), 0);
  expect_refusal("/proc/self/status", "/proc/self/status: ");
}

TEST(EnergyCounter, SaysWhenTheDeviceHasNoCounter) {
  expect_refusal(fake(1), "F has no energy counter");
}
TEST(EnergyCounter, SaysWhenThereIsNoDevice) {
  expect_refusal(fake(2), "finding the first GPU: Not Found");
}
TEST(EnergyCounter, SaysWhichFunctionTheLibraryLacks) {
  expect_refusal(fake(3), "has no nvmlDeviceGetTotalEnergyConsumption");
}

}  // namespace
}  // namespace stoat::gpu
