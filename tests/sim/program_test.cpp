// The program from outside: files, exit codes, messages; equal work gives equal bytes in any
// folder.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "models/files.h"
#include "tests/models/shell.h"
#include "traces/synth.h"
#include "traces/writer.h"

namespace stoat {
namespace {

namespace fs = std::filesystem;

class Program : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "stoat-sim-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    fs::permissions(folder_, fs::perms::owner_all);
    fs::remove_all(folder_);
  }

  std::string trace(const std::string& name, Method method,
                    ScoreKind kind = ScoreKind::kExact) const {
    SynthOptions options;
    options.contexts = {600};
    options.steps = 2;
    options.method = method;
    options.budgets = {16};
    options.score_kind = kind;
    options.weight_bytes_per_token = 1000000;
    const std::string path = (folder_ / name).string();
    write_trace(path, synth_header(options), synthesize_records(options));
    return path;
  }

  static Outcome run(const std::string& arguments, const std::string& in = "/") {
    const std::string command =
        "cd '" + in + "' && '" + std::string(STOAT_TEST_BIN_DIR) + "/stoat' 2>&1 " + arguments;
    return shell(command);
  }
  std::string out(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

const char* const kTables[] = {"summary.csv", "energy.csv", "traffic.csv", "steps.csv"};

TEST_F(Program, WritesTheSameBytesFromAnyFolder) {
  const std::string path = trace("a.h5", Method::kProp);
  ASSERT_EQ(run("sim hbm3 " + path + " -q -o " + out("one")).code, 0);
  ASSERT_EQ(run("sim hbm3 a.h5 -q -o two", folder_.string()).code, 0);
  for (const char* table : kTables) {
    const std::string one = read_file(out("one") + "/" + table);
    EXPECT_EQ(one, read_file(out("two") + "/" + table)) << table;
    EXPECT_EQ(one.find(folder_.string()), std::string::npos) << table;
    EXPECT_GT(one.size(), 100U) << table;
  }
}

TEST_F(Program, TheManifestSaysWhatWasRun) {
  const std::string path = trace("a.h5", Method::kProp);
  ASSERT_EQ(run("sim hbm3 " + path + " -q -o " + out("r") + " --set engine.lanes.dense=32").code,
            0);
  const auto manifest = nlohmann::json::parse(read_file(out("r") + "/manifest.json"));
  EXPECT_EQ(manifest["trace"]["file"], "a.h5");
  EXPECT_EQ(manifest["trace"]["content_hash"].get<std::string>().size(), 32U);
  EXPECT_NE(manifest["arch"]["text"].get<std::string>().find("engine.lanes.dense: 32\n"),
            std::string::npos);
  EXPECT_EQ(manifest["command_line"].back(), "engine.lanes.dense=32");
  EXPECT_EQ(manifest["datapaths"], (nlohmann::json{"mac", "gather_add"}));
}

TEST_F(Program, AllSaysThatTernaryNeedsACaptureOfItsOwn) {
  const Outcome outcome = run("sim hbm3 " + trace("a.h5", Method::kProp) + " -o " + out("r"));
  EXPECT_EQ(outcome.code, 0);
  EXPECT_NE(outcome.text.find("ternary needs a capture of its own"), std::string::npos)
      << outcome.text;
  EXPECT_NE(outcome.text.find("--score ternary --ternary-draws 4"), std::string::npos);
  EXPECT_NE(outcome.text.find("DRAM energy boundary"), std::string::npos);
}

TEST_F(Program, ATernaryTraceRunsAllThreeDatapaths) {
  const Outcome outcome = run("sim hbm3 " + trace("t.h5", Method::kProp, ScoreKind::kTernary) +
                              " --json -o " + out("r") + " 2>'" + out("talk") + "'");
  ASSERT_EQ(outcome.code, 0) << outcome.text << read_file(out("talk"));
  const auto json = nlohmann::json::parse(outcome.text);  // stdout is JSON and nothing else
  ASSERT_EQ(json["datapaths"].size(), 3U);
  EXPECT_EQ(json["datapaths"][2]["datapath"], "ternary");
  EXPECT_NE(json["datapaths"][2]["touched_features_per_head"], "");
  EXPECT_NE(json.dump().find("token-major"), std::string::npos);
}

TEST_F(Program, ArchListsShowsValidatesAndExplains) {
  const auto list = nlohmann::json::parse(run("arch list --json").text);
  ASSERT_GE(list.size(), 5U);
  std::string names;
  for (const auto& each : list) names += each["name"].get<std::string>() + " ";
  for (const char* name : {"hbm3 ", "lpddr5x ", "gddr6_bank ", "h200_like "}) {
    EXPECT_NE(names.find(name), std::string::npos) << names;
    EXPECT_EQ(run("arch validate " + std::string(name)).code, 0) << name;
  }
  EXPECT_NE(run("arch show hbm3 --set engine.lanes.dense=32").text.find("engine.lanes.dense: 32\n"),
            std::string::npos);
  const auto explained =
      nlohmann::json::parse(run("arch explain hbm3 --set engine.stash='1 KiB' --json").text);
  for (const auto& value : explained["values"]) {  // every value of the file has its source
    if (value["path"] == "engine.stash") continue;
    EXPECT_FALSE(value["source"].get<std::string>().empty()) << value;
    EXPECT_GT(value["line"].get<int>(), 0) << value;
  }
  EXPECT_NE(explained.dump().find("665.6 GB/s"), std::string::npos);
  EXPECT_NE(explained.dump().find("134217728 B"), std::string::npos);
  for (const auto& price : explained["prices"]) EXPECT_FALSE(price["source"].empty()) << price;
}

TEST_F(Program, ArchExplainGivesTheVerdictAgainstSynthesis) {  // V17
  const auto verdict = [&](const std::string& prices, const std::string& unit) {
    const auto json =
        nlohmann::json::parse(run("arch explain hbm3 --json --set energy.prices=" + prices).text);
    for (const auto& check : json["synthesis"]) {
      if (check["unit"] == unit) return check["verdict"].get<std::string>();
    }
    return std::string("no such unit");
  };
  EXPECT_EQ(verdict("jouppi_7nm_hbm3", "fp32_add"), "within 25 %");
  EXPECT_EQ(verdict("jouppi_7nm_hbm3", "bf16_mul"), "outside: 2.22 times the synthesis");
  EXPECT_EQ(verdict("jouppi_7nm_hbm3", "lfsr32"), "within 25 %");
  EXPECT_NE(verdict("jouppi_7nm_hbm3", "gather_add_lane").find("1.88 times"), std::string::npos);
  EXPECT_EQ(verdict("jouppi_7nm_hbm3", "gather_add_lane_shared24"), "the list has no price");
  for (const char* unit : {"dense_lane", "gather_add_lane", "ternary_lane", "lfsr32"}) {
    EXPECT_EQ(verdict("rtl_asap7", unit), "within 25 %") << unit;
    EXPECT_EQ(verdict("rtl_nangate45", unit), "within 25 %") << unit;
  }
}

TEST_F(Program, ArchExplainScalesWithABandOnlyWhereNoTableExists) {
  const auto json =
      nlohmann::json::parse(run("arch explain hbm3 --node '14 HP' --volts 0.8 --json").text);
  ASSERT_GE(json["scaled"].size(), 4U);
  for (const auto& price : json["scaled"]) {
    // The equations overstate the saving: what comes from 45 nm lies below what comes from 7 nm.
    EXPECT_LT(price["from_45nm_pJ"], price["from_7nm_pJ"]) << price;
    EXPECT_GT(price["from_45nm_pJ"], 0) << price;
  }
  EXPECT_NE(run("arch explain hbm3 --node '14 HP' --volts 0.8").text.find("band"),
            std::string::npos);
  const std::pair<const char*, const char*> cases[] = {
      {"--node 7 --volts 0.7", "this node has a table"},
      {"--node '14 HP'", "both"},
      {"--node '5 HP' --volts 0.7", "is not listed"},
      {"--node 14 --volts 0.8", "HP or LP"},
      {"--set mapping.engines_per_head=8", "32 pseudo-channels / 8 KV heads"}};
  for (const auto& [arguments, part] : cases) {
    const Outcome outcome = run(std::string("arch explain hbm3 ") + arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.text;
    EXPECT_NE(outcome.text.find(part), std::string::npos) << outcome.text;
  }
}

TEST_F(Program, ArchValidateRefusesWhatNoMemoryCanDo) {
  const std::pair<const char*, const char*> cases[] = {
      {"mapping.engines_per_head=1000", "at most 32"},
      {"memory.map='column bank stack row'", "memory.map is 'column bank stack row'"},
      {"memory.map='column column bank_group bank stack row'", "memory.map"},
      {"memory.controller.queue=0", "the smallest is 1"},
      {"mapping.page_rows=100", "a power of two"},
      {"engine.lanes.exp=0", "the smallest is 1"},
      {"memory.standard=hbm5", "known: ddr5_4800"}};
  for (const auto& [setting, part] : cases) {
    const Outcome outcome = run(std::string("arch validate hbm3 --set ") + setting);
    EXPECT_EQ(outcome.code, 2) << outcome.text;
    EXPECT_NE(outcome.text.find(part), std::string::npos) << outcome.text;
  }
}

TEST_F(Program, RefusesFormatsAndPlacesWithoutPrices) {
  const auto problem = [&](const std::string& arguments) {
    const Outcome outcome = run("arch validate hbm3 " + arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.text;
    return outcome.text;
  };
  EXPECT_NE(problem("--set engine.accumulator.gather_add=shared24")
                .find("lacks rows that this design needs: accumulate_shared24, shift_add_shared24"),
            std::string::npos);
  EXPECT_NE(problem("--set engine.placement=bank").find("jouppi_7nm_hbm3_bank"), std::string::npos);
  EXPECT_EQ(run("arch validate hbm3 --set engine.accumulator.gather_add=shared24 --set "
                "energy.prices=rtl_asap7")
                .code,
            0);
  EXPECT_EQ(run("arch explain nothing").code, 2);
  EXPECT_EQ(run("arch").code, 2);
}

TEST_F(Program, ComparesTwoRuns) {
  const std::string path = trace("a.h5", Method::kProp);
  ASSERT_EQ(run("sim hbm3 " + path + " -q -o " + out("a")).code, 0);
  ASSERT_EQ(run("sim hbm3 " + path + " -q -o " + out("b") + " --set kv.element=fp8").code, 0);
  const Outcome text = run("sim --compare " + out("a") + " " + out("b"));
  EXPECT_EQ(text.code, 0);
  EXPECT_NE(text.text.find("kv.element: bf16 -> fp8"), std::string::npos) << text.text;
  EXPECT_NE(text.text.find("the same trace"), std::string::npos);
  const auto json =
      nlohmann::json::parse(run("sim --json --compare " + out("a") + " " + out("b")).text);
  EXPECT_EQ(json["design"].size(), 1U);
  EXPECT_EQ(json["datapaths"].size(), 2U);
  EXPECT_EQ(run("sim --compare " + out("a") + " " + out("nothing")).code, 2);
  EXPECT_EQ(run("sim --compare " + out("a")).code, 2);
}

TEST_F(Program, WritesATimelineThatIsJsonAndBounded) {
  const std::string path = trace("a.h5", Method::kProp);
  const std::string base =
      "sim hbm3 " + path + " -q -o " + out("r") + " --timeline " + out("t.json");
  ASSERT_EQ(run(base + " -d gather_add").code, 0);
  const auto json = nlohmann::json::parse(read_file(out("t.json")));
  std::map<std::string, int> seen;
  double last = 0;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] == "M") {
      ++seen[event["args"]["name"].get<std::string>()];
    } else if (event["ph"] == "X") {
      EXPECT_GE(event["dur"].get<double>(), 0);
      last = std::max(last, event["ts"].get<double>() + event["dur"].get<double>());
    }
  }
  for (const char* track : {"score lanes", "exponential lanes", "gather lanes", "requests K",
                            "requests V", "requests append", "bank 0"}) {
    EXPECT_GT(seen[track], 0) << track;
  }
  const Outcome refused = run(base + " -d gather_add --timeline-limit 10");
  EXPECT_EQ(refused.code, 4);
  EXPECT_NE(refused.text.find("more than 10 events"), std::string::npos) << refused.text;
  EXPECT_NE(refused.text.find("--timeline-limit"), std::string::npos);
  EXPECT_EQ(run(base).code, 2);  // two datapaths
  // Nothing happens after the end of the simulation (a precharge may be drawn at it).
  const auto manifest = read_file(out("r") + "/steps.csv");
  EXPECT_GT(last, 0);
  EXPECT_GT(manifest.size(), 0U);
}

TEST_F(Program, ATimelineReplacesATimelineAndNothingElse) {
  const std::string path = trace("a.h5", Method::kProp);
  const std::string before = read_file(path);
  const std::string base = "sim hbm3 " + path + " -d mac -q -o " + out("r") + " --timeline ";
  const Outcome refused = run(base + path);
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.text.find("is no timeline of stoat"), std::string::npos) << refused.text;
  EXPECT_TRUE(read_file(path) == before);
  ASSERT_EQ(::mkfifo(out("pipe").c_str(), 0600), 0);
  EXPECT_EQ(run(base + out("pipe")).code, 2);
  EXPECT_TRUE(fs::is_fifo(out("pipe")));
  EXPECT_EQ(run(base + out("r")).code, 2);  // a folder
  EXPECT_EQ(run(base + out("r/t.json")).code, 0);
  EXPECT_EQ(run(base + out("r/t.json")).code, 0);
}

TEST_F(Program, PricesTheMemorysCommandsWithinABoundary) {
  const std::string base = "sim hbm3 " + trace("a.h5", Method::kProp) + " -o " + out("r") + " ";
  const auto energy = [&](const std::string& boundary) {
    const auto json = nlohmann::json::parse(
        run(base + "--json --dram-prices hbm3_attacc --boundary " + boundary).text);
    long long sum = 0;
    const auto& one = json["dram"]["datapaths"][0];
    for (const auto& part : one["parts_aJ"]) sum += std::stoll(part.get<std::string>());
    EXPECT_EQ(std::to_string(sum), one["energy_aJ"].get<std::string>());
    return sum;
  };
  EXPECT_LT(energy("die"), energy("io"));
  EXPECT_LT(energy("io"), energy("system"));
  EXPECT_NE(run(base + "--dram-prices hbm3_attacc").text.find("boundary: die"), std::string::npos);
  const std::pair<const char*, const char*> cases[] = {
      {"--dram-prices nosuch", "nosuch"},
      {"--dram-prices hbm3_attacc --boundary dye", "did you mean 'die'?"},
      {"--dram-prices ddr5_4800b", "no price for activate"},
      {"--dram-prices hbm3_attacc --set memory.model=reserved", "first_ready"}};
  for (const auto& [arguments, part] : cases) {
    const Outcome outcome = run(base + arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.text;
    EXPECT_NE(outcome.text.find(part), std::string::npos) << outcome.text;
  }
}

TEST_F(Program, RefusesRunsBeyondTheirLimit) {
  const std::string base = "sim hbm3 " + trace("a.h5", Method::kProp) + " -q -o " + out("r");
  EXPECT_EQ(run(base + " --limit '4 GiB' --limit '60 s'").code, 0);
  const Outcome memory = run(base + " --limit '1 MiB'");
  EXPECT_EQ(memory.code, 4);
  EXPECT_NE(memory.text.find("at most 1.0 MiB"), std::string::npos) << memory.text;
  EXPECT_EQ(run(base + " --limit '1 ps'").code, 4);
  EXPECT_EQ(run(base + " --limit much").code, 2);
}

TEST_F(Program, NamesMistakesAndExitsWithTwo) {
  const std::string prop = trace("a.h5", Method::kProp);
  const std::string dense = trace("d.h5", Method::kDense);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"sim hbm4 " + prop, "did you mean 'hbm3'?"},
      {"sim hbm3 " + prop + " --datapath gather_ad", "did you mean 'gather_add'?"},
      {"sim hbm3 " + dense + " --datapath gather_add", "needs sampled rows"},
      {"sim hbm3 " + prop + " --datapath ternary", "capture of its own"},
      {"sim hbm3 " + prop + " --datapath topk", "--method topk"},
      {"sim hbm3 " + prop + " --set engine.lanes.dense=0", "1 to 65536"},
      {"sim hbm3 " + prop + " --steps 2:3", "from 0 to 2"},
      {"sim hbm3 " + prop + " --steps 1", "A:B"},
      {"sim hbm3 " + prop + " --layers 1:1", "--layers"},
      {"sim hbm3 /nowhere/a.h5", "/nowhere/a.h5"},
      {"sim hbm3 " + prop + " --set memory.map='column bank stack row'", "memory.map"},
      {"sim hbm3 " + prop + " --set mapping.engines_per_head=17", "at most 16"},
      {"sim hbm3 " + prop +
           " --set memory.controller.page_policy=timeout --set "
           "memory.controller.page_timeout='0 ns'",
       "page_timeout is 0"},
      {"sim " + out("none.yaml") + " " + prop, "none.yaml"},
  };
  for (const auto& [arguments, part] : cases) {
    const Outcome outcome = run(arguments + " -o " + out("r"));
    EXPECT_EQ(outcome.code, 2) << arguments << "\n" << outcome.text;
    EXPECT_NE(outcome.text.find(part), std::string::npos) << arguments << "\n" << outcome.text;
    EXPECT_FALSE(fs::exists(out("r"))) << arguments;
  }
  EXPECT_EQ(run("smi").code, 2);
  EXPECT_EQ(run("sim hbm3 " + prop).code, 2);  // -o is missing
  EXPECT_EQ(run("").code, 2);
}

TEST_F(Program, HelpNamesEveryVerbAndSisterProgram) {
  const Outcome outcome = run("--help");
  EXPECT_EQ(outcome.code, 0);
  for (const char* verb : {"sim", "report", "demo", "capture", "trace"}) {
    EXPECT_NE(outcome.text.find(verb), std::string::npos) << verb;
  }
}

TEST_F(Program, ADamagedTraceIsExitThree) {
  const std::string path = trace("a.h5", Method::kProp);
  std::string bytes = read_file(path);
  bytes.resize(bytes.size() / 2);
  write_file_whole(path, bytes);
  EXPECT_EQ(run("sim hbm3 " + path + " -o " + out("r")).code, 3);
}

TEST_F(Program, AFolderThatCannotBeMadeIsExitFour) {
  const std::string path = trace("a.h5", Method::kProp);
  const Outcome outcome = run("sim hbm3 " + path + " -q -o /proc/stoat-results");
  EXPECT_EQ(outcome.code, 4) << outcome.text;
}

TEST_F(Program, ResultsNeverGoWhereAFileOrADeviceIs) {
  const std::string path = trace("a.h5", Method::kProp);
  write_file_whole(out("file"), "in the way");
  fs::create_symlink("nothing", out("link"));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {out("file"), "this is a file"},
      {out("file") + "/r", "this is a file"},
      {"/dev/null", "a device"},
      {"''", "an empty name"},
      {out("link"), "a symbolic link to nothing"}};
  for (const auto& [name, part] : cases) {
    for (const std::string& verb : {"sim hbm3 " + path, std::string("demo")}) {
      const Outcome outcome = run(verb + " -o " + name);
      EXPECT_EQ(outcome.code, 2) << verb << name << outcome.text;
      EXPECT_NE(outcome.text.find(part), std::string::npos) << outcome.text;
    }
  }
  EXPECT_EQ(read_file(out("file")), "in the way");
}

TEST_F(Program, AReportNeverGoesWhereItCannotOrMustNot) {
  const std::string path = trace("a.h5", Method::kProp);
  ASSERT_EQ(run("sim hbm3 " + path + " -q -o " + out("r")).code, 0);
  write_file_whole(out("thesis.html"), "mine");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {out("none/x.html"), "no such folder"},
      {"/dev/full", "a device"},
      {"''", "an empty name"},
      {out("thesis.html"), "no report of stoat"},
      {out("r"), "a folder"},
      {"-", "no stream"}};
  for (const auto& [name, part] : cases) {
    const Outcome outcome = run("report " + out("r") + " -o " + name);
    EXPECT_EQ(outcome.code, 2) << name << outcome.text;
    EXPECT_NE(outcome.text.find(part), std::string::npos) << outcome.text;
  }
  EXPECT_EQ(read_file(out("thesis.html")), "mine");
}

TEST_F(Program, AnAnswerThatCannotBeWrittenIsExitFourAndTheResultsAreWhole) {
  const std::string path = trace("a.h5", Method::kProp);
  for (const char* where : {">/dev/full", ">&-"}) {
    const std::string sim = "sim hbm3 " + path + " --json -o " + out("r") + " ";
    const Outcome outcome = run(sim + where);
    EXPECT_EQ(outcome.code, 4) << where << outcome.text;
    EXPECT_NE(outcome.text.find("could not be written"), std::string::npos) << outcome.text;
    EXPECT_NE(outcome.text.find(out("r") + " is whole"), std::string::npos) << outcome.text;
    EXPECT_TRUE(fs::exists(out("r") + "/manifest.json"));
    fs::remove_all(out("r"));
    EXPECT_EQ(run(std::string("--version ") + where).code, 4) << where;
  }
}

TEST_F(Program, NothingIsLostWhenStderrOrTheReaderIsGone) {
  const std::string path = trace("a.h5", Method::kProp);
  const std::string sim = "sim hbm3 " + path + " -o " + out("r") + " ";
  EXPECT_EQ(run(sim + "2>&-").code, 0);
  EXPECT_EQ(run(sim + "2>/dev/full").code, 0);
  EXPECT_EQ(run("sim hbm3 /nowhere -o " + out("r") + " 2>&-").code, 2);
  const std::string stoat = "'" + std::string(STOAT_TEST_BIN_DIR) + "/stoat' ";
  const Outcome outcome = shell("{ sleep 0.1; " + stoat + sim + "; echo $? >&3; } 3>" +
                                out("code") + " | true; cat " + out("code"));
  EXPECT_EQ(outcome.text, "0\n");
}

TEST_F(Program, AFullDiskIsExitFourAndLeavesNoHalfFile) {
  const std::string path = trace("a.h5", Method::kProp);
  const std::string stoat = "'" + std::string(STOAT_TEST_BIN_DIR) + "/stoat' ";
  // Files end at one block here: what is longer cannot be written.
  const Outcome outcome = shell("trap '' XFSZ; ulimit -f 1; " + stoat + "sim hbm3 " + path +
                                " -q -o " + out("r") + " 2>&1");
  EXPECT_EQ(outcome.code, 4) << outcome.text;
  EXPECT_EQ(std::count(outcome.text.begin(), outcome.text.end(), '\n'), 1) << outcome.text;
  EXPECT_NE(outcome.text.find(out("r") + "/"), std::string::npos) << outcome.text;
  EXPECT_FALSE(fs::exists(out("r") + "/manifest.json"));
  EXPECT_FALSE(fs::exists(out("r") + "/energy.csv"));
  for (const auto& entry : fs::directory_iterator(out("r"))) {
    EXPECT_EQ(entry.path().extension(), ".csv") << entry.path();
  }
}

TEST_F(Program, ADemoWithoutItsModelSaysSoAndLeavesNothing) {
  fs::create_directories(out("data") + "/llm/needle");
  const std::string stoat = "'" + std::string(STOAT_TEST_BIN_DIR) + "/stoat' ";
  const Outcome outcome =
      shell("STOAT_DATA=" + out("data") + " " + stoat + "demo -o " + out("d") + " 2>&1");
  EXPECT_EQ(outcome.code, 2) << outcome.text;
  EXPECT_NE(outcome.text.find("model.safetensors"), std::string::npos) << outcome.text;
  EXPECT_NE(outcome.text.find("STOAT_DATA"), std::string::npos) << outcome.text;
  EXPECT_EQ(std::count(outcome.text.begin(), outcome.text.end(), '\n'), 1) << outcome.text;
  EXPECT_FALSE(fs::exists(out("d")));
}

TEST_F(Program, TheDoctorFindsTheProgramsAndAGpu) {
  fs::create_directories(out("bin"));
  {
    std::ofstream fake(out("bin/nvidia-smi"));
    fake << "#!/bin/sh\necho 'Some GPU, 1.2.3, 100 MiB, 90 MiB'\n";
  }
  fs::permissions(out("bin/nvidia-smi"), fs::perms::owner_all);
  const std::string stoat = "'" + std::string(STOAT_TEST_BIN_DIR) + "/stoat' ";
  const Outcome found = shell("PATH=" + out("bin") + ":$PATH " + stoat + "doctor --json");
  ASSERT_EQ(found.code, 0) << found.text;
  std::map<std::string, nlohmann::json> by_name;
  const nlohmann::json report = nlohmann::json::parse(found.text);
  for (const nlohmann::json& row : report.at("findings")) by_name[row.at("what")] = row;
  EXPECT_EQ(by_name.at("GPU").at("text"), "Some GPU, driver 1.2.3, 100 MiB, 90 MiB of it free");
  EXPECT_NE(by_name.at("SystemC").at("text").get<std::string>().find("SystemC"), std::string::npos);
  EXPECT_TRUE(by_name.at("stoat-trace").at("there"));
  EXPECT_TRUE(by_name.at("disk").at("there"));
  // Without a GPU it says what that leaves out.
  const Outcome none = shell("PATH=/nowhere " + stoat + "doctor");
  EXPECT_EQ(none.code, 0);
  EXPECT_NE(none.text.find("-   GPU            no nvidia-smi answered"), std::string::npos)
      << none.text;
}

TEST_F(Program, AWrongWordIsOneLineWithTheNearestOne) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"smi", "stoat: unknown verb 'smi'; did you mean 'sim'?\n"},
      {"captrue", "stoat: unknown verb 'captrue'; did you mean 'capture'?\n"},
      {"sim --datpath x", "stoat sim: unknown option '--datpath'; did you mean '--datapath'?\n"},
      {"demo --sed 1", "stoat demo: unknown option '--sed'; did you mean '--seed'?\n"},
      {"sim", "stoat sim: ARCH is required; see 'stoat sim --help'\n"},
      {"",
       "stoat: no verb; known: sim, sweep, arch, memory, report, demo, doctor, capture, trace; see "
       "'stoat "
       "--help'\n"},
      {"--verison", "stoat: unknown option '--verison'; did you mean '--version'?\n"}};
  for (const auto& [arguments, text] : cases) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2) << arguments;
    EXPECT_EQ(outcome.text, text) << arguments;
  }
  EXPECT_EQ(run("demo --seed -1 -o " + out("d")).code, 2);
  EXPECT_FALSE(fs::exists(out("d")));
}

TEST_F(Program, TheWholeTokenIsShownOnlyForAllLayers) {
  SynthOptions options;
  options.contexts = {600};
  options.steps = 2;
  options.n_layers = 2;
  options.budgets = {16};
  options.weight_bytes_per_token = 1000000;
  const std::string path = out("two.h5");
  write_trace(path, synth_header(options), synthesize_records(options));
  const auto shown = [&](const std::string& cut) {
    const Outcome outcome = run("sim hbm3 " + path + " -d mac -o " + out("r") + cut);
    EXPECT_EQ(outcome.code, 0) << outcome.text;
    return outcome.text.find("whole token") != std::string::npos;
  };
  EXPECT_TRUE(shown(""));
  EXPECT_TRUE(shown(" --steps 1:2"));
  EXPECT_TRUE(shown(" --layers 0:2"));
  EXPECT_FALSE(shown(" --layers 0:1"));
}

TEST_F(Program, StepsAndLayersCutTheTrace) {
  const std::string path = trace("a.h5", Method::kProp);
  ASSERT_EQ(run("sim hbm3 " + path + " -q --steps 1:2 -o " + out("r")).code, 0);
  const std::string steps = read_file(out("r") + "/steps.csv");
  EXPECT_NE(steps.find("mac,1,601,"), std::string::npos) << steps;
  EXPECT_EQ(steps.find("mac,0,600,"), std::string::npos) << steps;
}

}  // namespace
}  // namespace stoat
