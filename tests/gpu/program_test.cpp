// The program stoat-capture as people meet it: bad input, full disks, interruptions. Every failure
// says what to do, has the right exit code and leaves nothing under the final name.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/gpu/fixtures.h"
#include "traces/reader.h"
#include "traces/writer.h"

namespace stoat {
namespace {

namespace fs = std::filesystem;
using test::capture_program;
using test::ProgramResult;
using test::run_program;
using test::TempFolder;

// A folder with a tiny model and a prompt, and a command line that works.
class Program : public testing::Test {
 protected:
  Program() {
    test::write_tiny_model(folder_);
    prompt_ = folder_.write("prompt.txt", test::sample_text(300));
    out_ = folder_.path("out.stoat");
  }

  // Later arguments win over the working ones of the same name.
  std::vector<std::string> command(const std::vector<std::string>& changes) const {
    std::vector<std::pair<std::string, std::string>> options{{"--model", folder_.path("tiny")},
                                                             {"--prompt", prompt_},
                                                             {"--max-new", "4"},
                                                             {"-o", out_},
                                                             {"--threads", "1"},
                                                             {"--backend", "cpu"}};
    std::vector<std::string> flags;
    for (std::size_t i = 0; i < changes.size(); ++i) {
      if (i + 1 == changes.size() || changes[i + 1].starts_with("--")) {
        flags.push_back(changes[i]);
        continue;
      }
      std::erase_if(options, [&](const auto& option) {
        return option.first == changes[i] ||
               (changes[i] == "--tokens" && option.first == "--prompt") ||
               (changes[i] == "--random-weights" && option.first == "--model");
      });
      options.emplace_back(changes[i], changes[i + 1]);
      ++i;
    }
    std::vector<std::string> arguments{capture_program()};
    for (const auto& [name, value] : options) arguments.insert(arguments.end(), {name, value});
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return arguments;
  }

  ProgramResult run(const std::vector<std::string>& changes) {
    return run_program(folder_, command(changes));
  }

  void expect_refused(const std::vector<std::string>& changes, int exit_code,
                      const std::vector<std::string>& parts) {
    const ProgramResult result = run(changes);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    for (const std::string& part : parts)
      EXPECT_NE(result.err.find(part), std::string::npos) << part << " in: " << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_FALSE(fs::exists(out_));
    EXPECT_FALSE(fs::exists(out_ + ".spool"));
    EXPECT_FALSE(fs::exists(out_ + ".run.json"));
  }

  void rewrite_model(const test::TinyModel& model) { test::write_tiny_model(folder_, model); }

  TempFolder folder_;
  std::string prompt_, out_;
};

TEST_F(Program, WorksAndPrintsTheSameJsonTwice) {
  const ProgramResult first = run({"--json"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const nlohmann::json json = nlohmann::json::parse(first.out);
  EXPECT_EQ(json["decoded_tokens"], 4);
  EXPECT_EQ(json["method"], "prop");
  EXPECT_EQ(json["budgets"], nlohmann::json::array({128}));
  const ProgramResult second = run({"--json", "--force"});
  EXPECT_EQ(first.out, second.out);
  EXPECT_FALSE(fs::exists(out_ + ".spool"));
}

TEST_F(Program, RefusesAnOutputThatExists) {
  folder_.write("out.stoat", "precious");
  const ProgramResult result = run({});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("--force"), std::string::npos);
  EXPECT_EQ(fs::file_size(out_), 8U);
}

TEST_F(Program, RefusesASpoolAndSaysHowToRecoverIt) {
  folder_.write("out.stoat.spool", "precious");
  const ProgramResult result = run({"--force"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("stoat trace recover"), std::string::npos) << result.err;
  EXPECT_EQ(fs::file_size(out_ + ".spool"), 8U);
}

TEST_F(Program, RefusesUnknownWordsWithTheNearestName) {
  expect_refused({"--method", "porp"}, 2, {"porp", "prop"});
  expect_refused({"--score", "ternery"}, 2, {"--score", "ternary"});
  expect_refused({"--stats", "ful"}, 2, {"--stats", "full"});
  expect_refused({"--backend", "cuba"}, 2, {"--backend", "cuda"});
  expect_refused({"--methd", "prop"}, 2, {"--methd", "did you mean '--method'"});
  expect_refused({"--max-new", "many"}, 2, {"--max-new"});
}

TEST_F(Program, RefusesMissingModels) {
  expect_refused({"--model", folder_.path("nowhere")}, 2, {"nowhere", "no such folder"});
  expect_refused({"--model", "no-such-shipped-model"}, 2, {"no-such-shipped-model", "shipped"});
  fs::rename(folder_.path("tiny/model.safetensors"), folder_.path("away"));
  expect_refused({}, 2, {"model.safetensors", "no such file"});
  fs::rename(folder_.path("tiny/config.json"), folder_.path("away"));
  expect_refused({}, 2, {"config.json", "no such file"});
}

TEST_F(Program, RefusesAModelWithoutTokenizerUnlessIdsAreGiven) {
  rewrite_model({.byte_tokenizer = false});
  expect_refused({}, 2, {"tokenizer"});
  const ProgramResult result = run({"--tokens", folder_.write("ids.txt", "1 2 3")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("token ids only"), std::string::npos) << result.err;
}

TEST_F(Program, RefusesEmptyMissingAndTooLongPrompts) {
  expect_refused({"--prompt", folder_.write("empty.txt", "")}, 2,
                 {"empty.txt", "empty prompt", "context 0"});
  expect_refused({"--prompt", folder_.path("nowhere.txt")}, 2, {"nowhere.txt"});
  expect_refused({"--max-new", "3797"}, 2, {"4097", "4096", "max_position_embeddings"});
  expect_refused({"--tokens", folder_.write("ids.txt", "1 2\n3 256\n")}, 2, {"ids.txt:2", "256"});
  expect_refused({"--tokens", folder_.write("none.txt", "\n")}, 2, {"none.txt", "context 0"});
  expect_refused({"--max-new", "0"}, 2, {"--max-new"});
}

TEST_F(Program, RefusesBadBudgets) {
  expect_refused({"--budget", "0"}, 2, {"--budget", "'0'"});
  expect_refused({"--budget", folder_.write("budgets.txt", "1\n2\n3\n")}, 2,
                 {"budgets.txt", "3 budgets", "2"});
  expect_refused({"--method", "flash", "--budget", "1"}, 2, {"flash", "at least 2", "304"});
  expect_refused({"--method", "dense", "--probe-budgets", "4"}, 2, {"--probe-budgets", "dense"});
}

TEST_F(Program, TakesOneHotAsSystematicWithOneSample) {
  const ProgramResult one_hot = run({"--json", "--method", "one-hot"});
  ASSERT_EQ(one_hot.exit_code, 0) << one_hot.err;
  const nlohmann::json json = nlohmann::json::parse(one_hot.out);
  EXPECT_EQ(json["method"], "sys");
  EXPECT_EQ(json["budgets"], nlohmann::json::array({1}));
  const ProgramResult prop = run({"--json", "--force", "--method", "prop", "--budget", "1"});
  EXPECT_EQ(nlohmann::json::parse(prop.out)["generated_tokens"], json["generated_tokens"]);
  fs::remove(out_);
  fs::remove(out_ + ".run.json");
  expect_refused({"--method", "one-hot", "--budget", "4"}, 2, {"one-hot", "1 or none"});
}

TEST_F(Program, SaysThatDenseHasNoBudget) {
  const ProgramResult result = run({"--method", "dense", "--budget", "64"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.err.find("--budget has no effect"), std::string::npos) << result.err;
}

TEST_F(Program, RefusesTernaryOptionsWithoutTernaryScores) {
  expect_refused({"--ternary-draws", "4"}, 2, {"--ternary-draws", "--score ternary"});
  expect_refused({"--ternary-coupling", "coupled"}, 2, {"--ternary-coupling", "--score ternary"});
  expect_refused({"--score", "ternary", "--ternary-draws", "65"}, 2, {"65", "1 to 64"});
}

TEST_F(Program, RefusesNanInTheWeights) {
  rewrite_model({.nan_in_embedding = true});
  expect_refused({}, 3, {"model.safetensors", "embed_tokens"});
}

TEST_F(Program, RefusesFoldersThatAreMissingOrReadOnly) {
  expect_refused({"-o", folder_.path("nowhere/out.stoat")}, 2, {"nowhere", "no such folder"});
  expect_refused({"-o", folder_.path("tiny")}, 2, {"a folder"});
  // The kernel's own tree refuses new files to everybody, root too.
  expect_refused({"-o", "/proc/out.stoat"}, 4, {"/proc"});
}

TEST_F(Program, RefusesNumbersThatTheParserWouldBend) {
  expect_refused({"--seed", "-1"}, 2, {"--seed", "'-1'", "whole number"});
  expect_refused({"--seed", "18446744073709551616"}, 2, {"--seed", "18446744073709551616"});
  expect_refused({"--max-new", "0x2"}, 2, {"--max-new", "0x2"});
  const ProgramResult result = run({"--max-new", "010", "--json"});
  EXPECT_EQ(nlohmann::json::parse(result.out)["decoded_tokens"], 10) << result.err;
}

TEST_F(Program, SaysEveryMistakeInOneLine) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--methd", "prop"}, {"--seed", "x"}, {"--quiet", "--verbose"}}) {
    const ProgramResult result = run(words);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_TRUE(result.err.starts_with("stoat capture: ")) << result.err;
  }
}

TEST_F(Program, RefusesNamesUnderWhichNoFileCanAppear) {
  fs::create_symlink(folder_.path("nothing"), folder_.path("link"));
  expect_refused({"-o", folder_.path("link"), "--force"}, 2, {"symbolic link"});
  expect_refused({"-o", "/dev/null", "--force"}, 2, {"/dev/null", "a device"});
  expect_refused({"-o", folder_.path(std::string(250, 'x'))}, 2, {"at most 231"});
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(Program, NeverReplacesWhatItReads) {
  const auto expect_kept = [&](const std::vector<std::string>& changes, const std::string& file) {
    const auto size = fs::file_size(file);
    const ProgramResult result = run(changes);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_NE(result.err.find("the input itself"), std::string::npos) << result.err;
    EXPECT_EQ(fs::file_size(file), size);
  };
  expect_kept({"-o", prompt_, "--force"}, prompt_);
  expect_kept({"-o", folder_.path("./prompt.txt"), "--force"}, prompt_);
  const std::string questions =
      folder_.write("a.run.json", R"({"text": "a", "generate": 1, "expect": "b", "kind": "c"})");
  expect_kept({"-o", folder_.path("a"), "--questions", questions}, questions);
  const std::string plan = folder_.write("plan.json", "{}");
  const ProgramResult result = run_program(
      folder_, {capture_program(), "accuracy", "--plan", plan, "--json", plan, "--force"});
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_NE(result.err.find("the input itself"), std::string::npos) << result.err;
  EXPECT_EQ(fs::file_size(plan), 2U);
}

TEST_F(Program, MeasuringAccuracyEndsOnAnInterruptAndKeepsWhatWasMeasured) {
  folder_.write("texts.bin", test::sample_text(2000));
  nlohmann::json plan{{"model", folder_.path("tiny")},
                      {"texts", "texts.bin"},
                      {"settings", {{{"name", "dense"}, {"method", "dense"}, {"seed", 1}}}}};
  for (int i = 0; i < 5000; ++i) {  // far more than is done in the time
    plan["groups"].push_back({{"name", "text"}, {"length", 1999}, {"decoded", 20}});
    plan["groups"].back()["prompts"].push_back({0, 2000});
  }
  const std::string file = folder_.write("plan.json", plan.dump()), out = folder_.path("r.json");
  const std::string script =
      "\"$0\" \"$@\" & while [ ! -e '" + out + "' ]; do sleep 0.05; done; kill -TERM $!; wait $!";
  const ProgramResult result =
      run_program(folder_, {"sh", "-c", script, capture_program(), "accuracy", "--plan", file,
                            "--json", out, "--quiet", "--backend", "cpu"});
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_NE(result.err.find("interrupted; " + out), std::string::npos) << result.err;
  std::ifstream stream(out);
  const nlohmann::json measured = nlohmann::json::parse(stream);
  EXPECT_EQ(measured.at("interrupted"), true);
  EXPECT_GE(measured.at("groups").size(), 1U);
  EXPECT_LT(measured.at("groups").size(), 5000U);
}

TEST_F(Program, RefusesAccumulatorsTwiceOrMissing) {
  expect_refused({"--accumulator", "fp32,bf16,fp32"}, 2, {"--accumulator", "fp32 twice"});
  expect_refused({"--accumulator", "fp32,"}, 2, {"accumulator format ''"});
}

TEST_F(Program, RefusesNamedListsThatAreEmpty) {
  for (const char* option : {"--scores", "--probe-budgets", "--accumulator", "--questions"})
    expect_refused({option, ""}, 2, {option, "an empty text"});
}

TEST_F(Program, SaysThatTheResultCouldNotBePrintedAndTheTraceIsWhole) {
  std::vector<std::string> arguments{"sh", "-c", "exec \"$0\" \"$@\" >/dev/full"};
  const auto capture = command({"--json"});
  arguments.insert(arguments.end(), capture.begin(), capture.end());
  const ProgramResult result = run_program(folder_, arguments);
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_NE(result.err.find("is whole"), std::string::npos) << result.err;
  EXPECT_EQ(TraceReader(out_).steps(), 4U);
}

TEST_F(Program, RecordsOnWhenNobodyListens) {
  for (const char* streams : {"2>&-", "2>/dev/full", ">&- 2>&- <&-", "2>&1 | head -n 1"}) {
    std::vector<std::string> arguments{"sh", "-c", std::string("\"$0\" \"$@\" ") + streams};
    const auto capture = command({"-v", "--force", "--max-new", "20"});
    arguments.insert(arguments.end(), capture.begin(), capture.end());
    run_program(folder_, arguments);
    EXPECT_FALSE(fs::exists(out_ + ".spool")) << streams;
    ASSERT_TRUE(fs::exists(out_)) << streams;
    EXPECT_EQ(TraceReader(out_).steps(), 20U) << streams;
    fs::remove(out_);
  }
}

TEST_F(Program, SaysThatNothingWasRecordedWhenTheDiskIsFullAtOnce) {
  std::vector<std::string> arguments{"sh", "-c",
                                     "trap '' XFSZ; (ulimit -f 0; exec \"$0\" \"$@\") 2>&1 | cat"};
  const auto capture = command({});
  arguments.insert(arguments.end(), capture.begin(), capture.end());
  const ProgramResult result = run_program(folder_, arguments);
  EXPECT_NE(result.out.find("nothing was recorded yet"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("recover"), std::string::npos) << result.out;
  EXPECT_FALSE(fs::exists(out_ + ".spool"));
}

TEST_F(Program, SaysWhyThereIsNoCuda) {
  if (cuda_obstacle().empty()) GTEST_SKIP() << "this machine has a CUDA device";
  expect_refused({"--backend", "cuda"}, 4, {"CUDA", "--backend cpu"});
  expect_refused({"--random-weights", "llama-3.1-8b", "--tokens",
                  folder_.write("ids.txt", "1 2 3\n"), "--backend", "auto"},
                 4, {"--random-weights", "CUDA"});
  const ProgramResult result = run({"--backend", "auto"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.err.find("backend cpu: "), std::string::npos) << result.err;
}

TEST_F(Program, TimesNothingWithoutADevice) {
  if (cuda_obstacle().empty()) GTEST_SKIP() << "this machine has a CUDA device";
  const ProgramResult result = run_program(folder_, {capture_program(), "bench", "--batch", "1"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_NE(result.err.find("CUDA"), std::string::npos) << result.err;
}

TEST_F(Program, NamesTheVerbInEveryMistake) {
  const ProgramResult accuracy =
      run_program(folder_, {capture_program(), "accuracy", "--plna", "none"});
  EXPECT_EQ(accuracy.exit_code, 2);
  EXPECT_EQ(accuracy.err,
            "stoat capture accuracy: unknown option '--plna'; did you mean '--plan'?\n");
  for (const std::string option : {"--bath", "--shape"}) {
    const ProgramResult result = run_program(folder_, {capture_program(), "bench", option, "none"});
    EXPECT_NE(result.exit_code, 0);
    EXPECT_TRUE(result.err.starts_with("stoat capture bench: ")) << result.err;
    EXPECT_EQ(result.err.find("capture", 20), std::string::npos) << result.err;
  }
}

TEST_F(Program, DecodesSeveralPromptsSideBySide) {
  const std::string other = folder_.write("other.txt", test::sample_text(120));
  const ProgramResult result =
      run_program(folder_, {capture_program(), "--model", folder_.path("tiny"), "--prompt", prompt_,
                            "--prompt", other, "--batch", "3", "--max-new", "4", "--ignore-eos",
                            "--backend", "cpu", "--threads", "1", "-o", out_, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_EQ(json.at("sequences").size(), 3U);
  EXPECT_EQ(json.at("prompt_tokens"), 720);
  EXPECT_EQ(json.at("sequences")[1].at("prompt_tokens"), 120);
  EXPECT_EQ(json.at("sequences")[2].at("generated_tokens").size(), 4U);
}

TEST_F(Program, RefusesRandomWeightsOnTheCpuAndThreadsBeyondReason) {
  expect_refused({"--random-weights", "llama-3.1-8b", "--tokens",
                  folder_.write("ids.txt", "1 2 3\n"), "--backend", "cpu"},
                 2, {"--random-weights", "--backend cpu"});
  expect_refused({"--threads", "1025"}, 2, {"--threads", "1025", "at most 1024"});
}

TEST_F(Program, RefusesRandomWeightsOfAnUnknownShape) {
  expect_refused({"--random-weights", "llama-3.1-8b", "--model", "needle"}, 2,
                 {"--random-weights", "--model needle", "one of the two"});
  expect_refused({"--random-weights", "llama-3.1-8"}, 2, {"llama-3.1-8", "llama-3.1-8b"});
}

TEST_F(Program, RefusesATemperatureOutOfRange) {
  expect_refused({"--temperature", "-1"}, 2, {"--temperature", "0 (greedy)"});
  expect_refused({"--top-p", "0.9"}, 2, {"--top-p", "--temperature"});
}

TEST_F(Program, KeepsTheSpoolWhenTheDiskIsFull) {
  // A limit on the size of a file fails like a full disk: a short write, then an error.
  std::vector<std::string> arguments{"sh", "-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""};
  const auto capture = command({"--max-new", "400"});
  arguments.insert(arguments.end(), capture.begin(), capture.end());
  const ProgramResult result = run_program(folder_, arguments);
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_NE(result.err.find("recover"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(out_));
  ASSERT_TRUE(fs::exists(out_ + ".spool"));
  std::uint64_t lost = 1;
  recover_spool(out_ + ".spool", out_, &lost);
  EXPECT_EQ(lost, 0U);
  EXPECT_GT(TraceReader(out_).steps(), 3U);
}

// Waits until the spool has `bytes` bytes, at most 60 s.
bool spool_reaches(const std::string& path, std::uintmax_t bytes) {
  for (int i = 0; i < 6000; ++i) {
    std::error_code missing;
    const auto size = fs::file_size(path, missing);
    if (!missing && size >= bytes) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

void expect_prefix(const TraceRecords& part, const TraceRecords& whole) {
  ASSERT_GT(part.size(), 0U);
  ASSERT_LE(part.size(), whole.size());
  EXPECT_TRUE(std::equal(part.row.begin(), part.row.end(), whole.row.begin()));
  EXPECT_TRUE(std::equal(part.count.begin(), part.count.end(), whole.count.begin()));
  EXPECT_TRUE(std::equal(part.token_id.begin(), part.token_id.end(), whole.token_id.begin()));
}

TEST_F(Program, LosesNothingAcknowledgedToKill) {
  const int pid = test::start_program(folder_, command({"--max-new", "3700", "-v"}));
  const bool reached = spool_reaches(out_ + ".spool", 60'000);
  ::kill(pid, SIGKILL);
  EXPECT_EQ(test::wait_for(pid), 128 + SIGKILL);
  ASSERT_TRUE(reached);
  EXPECT_FALSE(fs::exists(out_));
  std::uint64_t lost = 0;
  recover_spool(out_ + ".spool", folder_.path("recovered.stoat"), &lost);
  const TraceReader recovered(folder_.path("recovered.stoat"));
  // A line "step N: ..." is printed after the step is recorded.
  std::ifstream talk(folder_.path("err.txt"));
  std::uint32_t acknowledged = 0;
  for (std::string line; std::getline(talk, line);)
    acknowledged += line.starts_with("step ") ? 1U : 0U;
  EXPECT_GT(acknowledged, 0U);
  EXPECT_GE(recovered.steps(), acknowledged);
  fs::remove(out_ + ".spool");
  ASSERT_EQ(run({"--max-new", std::to_string(recovered.steps() + 2)}).exit_code, 0);
  expect_prefix(recovered.read_all(), TraceReader(out_).read_all());
}

TEST_F(Program, TellsASpoolInUseFromOneLeftBehind) {
  const int pid = test::start_program(folder_, command({"--max-new", "3700"}));
  const bool reached = spool_reaches(out_ + ".spool", 5'000);
  TempFolder other;  // its output files are not those of the first program
  const ProgramResult second = run_program(other, command({}));
  ::kill(pid, SIGHUP);
  EXPECT_EQ(test::wait_for(pid), 130);
  ASSERT_TRUE(reached);
  EXPECT_EQ(second.exit_code, 4);
  EXPECT_NE(second.err.find("another process is recording"), std::string::npos) << second.err;
  EXPECT_GT(TraceReader(out_).steps(), 0U);  // a lost terminal ends a recording in order
}

TEST_F(Program, FinishesTheStepAndTheFileOnAnInterrupt) {
  const int pid = test::start_program(folder_, command({"--max-new", "3700"}));
  const bool reached = spool_reaches(out_ + ".spool", 20'000);
  ::kill(pid, SIGINT);
  EXPECT_EQ(test::wait_for(pid), 130);
  ASSERT_TRUE(reached);
  EXPECT_FALSE(fs::exists(out_ + ".spool"));
  const TraceReader reader(out_);
  EXPECT_GT(reader.steps(), 0U);
  EXPECT_LT(reader.steps(), 3700U);
  EXPECT_TRUE(fs::exists(out_ + ".run.json"));
}

}  // namespace
}  // namespace stoat
