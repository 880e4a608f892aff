// main() of tests that all need a device: without one every test is skipped and says why, before a
// fixture asks for device memory. Listing tests needs none.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "gpu/attention/select_check.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!testing::GTEST_FLAG(list_tests)) {
    if (const std::string obstacle = stoat::gpu::device_obstacle(); !obstacle.empty()) {
      std::printf("[  SKIPPED ] all tests: %s\n", obstacle.c_str());
      return 0;
    }
  }
  return RUN_ALL_TESTS();
}
