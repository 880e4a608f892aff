// stoat-trace as people meet it: verbs, exit codes, JSON on stdout, talk on stderr.
#include <sys/wait.h>

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
  EXPECT_EQ(run(folder, "synth -o none/x.h5").status, 4);
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
}

}  // namespace
}  // namespace stoat
