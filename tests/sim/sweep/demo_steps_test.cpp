// The demo's folder, its memory of finished steps and its children.
#include "sim/sweep/demo_steps.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "models/error.h"
#include "tests/sim/sweep/result_folder.h"

namespace stoat::sim {
namespace {

using test::new_folder;

TEST(DemoFolder, ANewOrEmptyOneIsTakenAndTakenAgain) {
  const std::string folder = new_folder("demo-new");
  EXPECT_NO_THROW(claim_demo_folder(folder));
  EXPECT_NO_THROW(claim_demo_folder(folder));
  EXPECT_NO_THROW(claim_demo_folder(folder + "/deeper/still"));
  EXPECT_TRUE(std::filesystem::is_directory(folder + "/deeper/still/log"));
}

TEST(DemoFolder, SomebodyElsesIsRefusedAndLeftAsItIs) {
  const std::string folder = new_folder("demo-foreign");
  std::ofstream(folder + "/thesis.tex") << "x";
  EXPECT_THROW(claim_demo_folder(folder), Error);
  EXPECT_FALSE(std::filesystem::exists(folder + "/demo.json"));
  EXPECT_THROW(claim_demo_folder(folder + "/thesis.tex"), Error);
  std::ofstream(folder + "/demo.json") << R"({"format": "another"})";
  EXPECT_THROW(claim_demo_folder(folder), Error);
}

TEST(DemoFolder, CanBeTakenAgainAfterAFullDisk) {
  const std::string folder = new_folder("demo-full") + "/d";
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* const handler = ::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit none { 0, before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
  EXPECT_THROW(claim_demo_folder(folder), Error);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_NO_THROW(claim_demo_folder(folder));
}

TEST(DemoState, RemembersKeysOverRunsAndForgetsNothingElse) {
  const std::string folder = new_folder("demo-state");
  claim_demo_folder(folder);
  DemoState(folder).set("dense", "k1");
  DemoState(folder).set("prop", "k2");
  const DemoState state(folder);
  EXPECT_TRUE(state.has("dense", "k1"));
  EXPECT_TRUE(state.has("prop", "k2"));
  EXPECT_FALSE(state.has("dense", "k2"));
  EXPECT_FALSE(state.has("ternary", "k1"));
}

TEST(RunLogged, PassesOnTheExitCodeTheLastLineAndTheLog) {
  const std::string log = new_folder("demo-run") + "/x.log";
  DemoProgress progress(1);
  EXPECT_NO_THROW(run_logged({"/bin/sh", "-c", "echo fine"}, log, progress));
  try {
    run_logged({"/bin/sh", "-c", "echo first; echo 'disk full' >&2; exit 4"}, log, progress);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kResource);
    EXPECT_NE(std::string(error.what()).find("disk full"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(log), std::string::npos) << error.what();
  }
}

TEST(RunLogged, AnInterruptedChildMakesTheDemoInterrupted) {
  const std::string log = new_folder("demo-int") + "/x.log";
  DemoProgress progress(1);
  for (const char* command : {"exit 130", "kill -INT $$"}) {
    try {
      run_logged({"/bin/sh", "-c", command}, log, progress);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kInterrupted) << command;
    }
  }
}

TEST(RunLogged, AProgramThatIsNotThereIsAnError) {
  const std::string log = new_folder("demo-none") + "/x.log";
  DemoProgress progress(1);
  EXPECT_THROW(run_logged({"/nowhere/program"}, log, progress), Error);
}

}  // namespace
}  // namespace stoat::sim
