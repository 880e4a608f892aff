// stoat-trace as people meet it: verbs, exit codes, JSON on stdout, talk on stderr.
#include <sys/wait.h>

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tests/traces/trace_fixture.h"
#include "traces/file_hdf5.h"
#include "traces/writer.h"

namespace stoat {
namespace {

struct Outcome {
  int status = -1;
  std::string out, err;
};

Outcome run(const TemporaryFolder& folder, const std::string& arguments) {
  const std::string command = "cd " + folder.path().string() + " && " + STOAT_TEST_BIN_DIR +
                              "/stoat-trace " + arguments + " >stdout.txt 2>stderr.txt";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, bytes_of(folder / "stdout.txt"),
          bytes_of(folder / "stderr.txt")};
}

TEST(TraceProgram, MakesChecksComparesAndExportsATrace) {
  const TemporaryFolder folder;
  const std::string make =
      "synth --layers 2 --context 600,500 --steps 3 --participation 60 --scores --method sys "
      "--budget 32 --seed ";
  Outcome o = run(folder, make + "4 -o a.h5 --json");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_NEAR(nlohmann::json::parse(o.out)["mean_participation"].get<double>(), 60, 0.2);
  const std::string hash = nlohmann::json::parse(o.out)["content_hash"];
  run(folder, make + "4 -o b.h5");
  run(folder, make + "5 -o c.h5");
  o = run(folder, "info a.h5 --json");
  EXPECT_EQ(nlohmann::json::parse(o.out)["content_hash"], hash);
  EXPECT_EQ(nlohmann::json::parse(o.out)["header"]["method"], "sys");
  EXPECT_EQ(nlohmann::json::parse(o.out)["max_context"], 602);
  o = run(folder, "check a.h5 --json");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(nlohmann::json::parse(o.out)["redrawn"], 2 * 8 * 2 * 3);
  EXPECT_EQ(run(folder, "diff a.h5 b.h5").status, 0);
  EXPECT_EQ(run(folder, "diff a.h5 c.h5").status, 1);
  EXPECT_EQ(run(folder, "export a.h5 --to csv --steps 1:2 -o a.csv").status, 0);
  EXPECT_EQ(run(folder, "export a.h5 --to npz -o a.npz").status, 0);
  EXPECT_EQ(run(folder, "export a.h5 --to stl -o a.stl").status, 0);
}

TEST(TraceProgram, SynthCountsTheWeightsOfTheLayersItMakes) {
  const TemporaryFolder folder;
  const auto weights = [&](const std::string& layers) {
    const std::string name = "l" + layers + ".h5";
    EXPECT_EQ(
        run(folder, "synth --shape llama-3.1-8b --context 300 --layers " + layers + " -o " + name)
            .status,
        0);
    const Outcome o = run(folder, "info " + name + " --json");
    return nlohmann::json::parse(o.out)["header"]["weight_bytes_per_token"].get<std::uint64_t>();
  };
  // A layer of Llama-3.1-8B: q, o 4096 x 4096, k, v 4096 x 1024, three of 4096 x 14336, two norms;
  // bf16.
  const std::uint64_t layer =
      2ULL * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096);
  EXPECT_EQ(weights("2") - weights("1"), layer);
}

TEST(TraceProgram, ExitsByTheKindOfTheMistake) {
  const TemporaryFolder folder;
  run(folder, "synth -o a.h5");
  EXPECT_EQ(run(folder, "").status, 2);
  EXPECT_EQ(run(folder, "chek a.h5").status, 2);
  EXPECT_EQ(run(folder, "info none.h5").status, 2);
  EXPECT_EQ(run(folder, "export a.h5 --to parquet -o x").status, 2);
  EXPECT_EQ(run(folder, "export a.h5 --to csv --steps 2:1 -o x").status, 2);
  Outcome o = run(folder, "synth --method pro -o x.h5");
  EXPECT_EQ(o.status, 2);
  EXPECT_NE(o.err.find("did you mean 'prop'?"), std::string::npos) << o.err;
  EXPECT_EQ(run(folder, "synth --shape llama-3.1-9b -o x.h5").status, 2);
  EXPECT_EQ(run(folder, "synth --participation none -o x.h5").status, 2);
  EXPECT_EQ(run(folder, "synth -o none/x.h5").status, 2);
  EXPECT_EQ(run(folder, "--help").status, 0);
  EXPECT_EQ(run(folder, "check --help").status, 0);
  std::string bytes = bytes_of(folder / "a.h5");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 8);
  write_bytes(folder / "bad.h5", bytes);
  o = run(folder, "check bad.h5");
  EXPECT_EQ(o.status, 3);
  EXPECT_NE(o.err.find("bad.h5"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder / "x.h5"));
  EXPECT_FALSE(std::filesystem::exists(folder / "x.h5.spool"));
}

TEST(TraceProgram, NamesTheNearestVerbAndOptionInOneLine) {
  const TemporaryFolder folder;
  EXPECT_EQ(run(folder, "chek a.h5").err,
            "stoat trace: unknown verb 'chek'; did you mean 'check'?\n");
  EXPECT_EQ(
      run(folder, "synth --participaton 3").err,
      "stoat trace synth: unknown option '--participaton'; did you mean '--participation'?\n");
  EXPECT_EQ(run(folder, "info").err,
            "stoat trace info: trace is required; see 'stoat trace info --help'\n");
  EXPECT_NE(run(folder, "synth -o x.h5 --seed -1").err.find("--seed: '-1'"), std::string::npos);
}

TEST(TraceProgram, NeverReplacesWhatItWasNotToldToReplace) {
  const TemporaryFolder folder;
  ASSERT_EQ(run(folder, "synth -o a.h5").status, 0);
  const std::string before = bytes_of(folder / "a.h5");
  EXPECT_EQ(run(folder, "synth --seed 2 -o a.h5").status, 2);
  EXPECT_EQ(run(folder, "export a.h5 --to csv -o a.h5 --force").status, 2);
  EXPECT_EQ(run(folder, "synth -o /dev/null --force").status, 2);
  EXPECT_EQ(bytes_of(folder / "a.h5"), before);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_EQ(run(folder, "synth --seed 2 -o a.h5 --force").status, 0);
  EXPECT_NE(bytes_of(folder / "a.h5"), before);
}

TEST(TraceProgram, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  EXPECT_NE(run(folder, "info /dev/zero").err.find("a device"), std::string::npos);
  EXPECT_NE(run(folder, "info .").err.find("a folder"), std::string::npos);
}

TEST(TraceProgram, RefusesNumbersOutOfRangeWithExitTwo) {
  const TemporaryFolder folder;
  ASSERT_EQ(run(folder, "synth -o a.h5").status, 0);
  for (const char* words : {"--score ternary --ternary-draws 65", "--ternary-draws 5",
                            "--participation inf", "--context 100,-5"}) {
    EXPECT_EQ(run(folder, std::string("synth -o x.h5 ") + words).status, 2) << words;
  }
  EXPECT_EQ(run(folder, "export a.h5 --to csv -o x.csv --steps 1:2").status, 2);
  run(folder, "synth --steps 3 -o b.h5");
  EXPECT_EQ(run(folder, "export b.h5 --to stl -o x --step-cycles 18446744073709551615").status, 2);
  EXPECT_FALSE(std::filesystem::exists(folder / "x.h5"));
}

TEST(TraceProgram, PrintsJsonForNamesThatAreNotUtf8) {
  const TemporaryFolder folder;
  const Outcome o = run(folder, "synth -o \"$(printf 'a\\377.h5')\" --json");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_TRUE(nlohmann::json::accept(o.out)) << o.out;
}

TEST(TraceProgram, FailsWhenItsResultCannotBePrinted) {
  const TemporaryFolder folder;
  ASSERT_EQ(run(folder, "synth -o a.h5").status, 0);
  const std::string command = "cd " + folder.path().string() + " && " + STOAT_TEST_BIN_DIR +
                              "/stoat-trace info a.h5 >/dev/full 2>stderr.txt";
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 4);
  EXPECT_NE(bytes_of(folder / "stderr.txt").find("standard output"), std::string::npos);
}

TEST(TraceProgram, LeavesNothingBehindWhenSynthIsInterrupted) {
  const TemporaryFolder folder;
  run(folder, "--version");
  const std::size_t before = folder.files();
  const std::string command = "cd " + folder.path().string() + " && timeout -s INT 1 " +
                              STOAT_TEST_BIN_DIR + "/stoat-trace synth --layers 60000 -o x.h5";
  EXPECT_NE(std::system(command.c_str()), 0);
  EXPECT_EQ(folder.files(), before);
}

TEST(TraceProgram, CheckRejectsATraceWithOneDrawMoved) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options(Method::kProp);
  TraceRecords records = synthesize_records(options);
  std::size_t k = 0;
  while (records.row[k] + 1 >= records.row[k + 1] || records.count[k] != 1) ++k;
  ++records.row[k];
  write_trace(folder / "t.h5", synth_header(options), records);
  const Outcome o = run(folder, "check t.h5 --json");
  EXPECT_EQ(o.status, 3);
  EXPECT_FALSE(nlohmann::json::parse(o.out)["good"].get<bool>());
  EXPECT_NE(o.err.find("t.h5: /value/count, record 0"), std::string::npos) << o.err;
}

TEST(TraceProgram, RecoversASpoolAndSaysWhatWasLost) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options();
  {
    TraceWriter writer(folder / "t.h5", synth_header(options));
    writer.append(synthesize_records(options));
  }
  Outcome o = run(folder, "info t.h5.spool --json");
  EXPECT_EQ(nlohmann::json::parse(o.out)["kind"], "spool");
  write_bytes(folder / "t.h5.spool", bytes_of(folder / "t.h5.spool") + "STOATSPL torn");
  o = run(folder, "recover t.h5.spool --json");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(nlohmann::json::parse(o.out)["lost_bytes"], 13);
  EXPECT_NE(o.err.find("13 bytes"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(folder / "t.h5.spool")) << "kept: something was lost";
  EXPECT_EQ(run(folder, "check t.h5").status, 0);
  EXPECT_EQ(run(folder, "recover t.h5.spool").status, 2) << "does not overwrite";
  const std::string spool = bytes_of(folder / "t.h5.spool");
  o = run(folder, "recover t.h5.spool -o ./t.h5.spool --force");
  EXPECT_EQ(o.status, 2) << "the spool is all there is of the recording";
  EXPECT_NE(o.err.find("the input itself"), std::string::npos) << o.err;
  EXPECT_EQ(bytes_of(folder / "t.h5.spool"), spool);
}

}  // namespace
}  // namespace stoat
