#include "tests/sim/sweep/result_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace stoat::sim::test {
namespace {

constexpr std::uint64_t kDenseKv =
    3'355'443'200;  // 100 steps of 4 layers, 2 KV heads, 8192 rows, K and V of 256 B
constexpr std::uint64_t kHalf = kDenseKv / 2;

// Folders made by new_folder, removed at the end of the process.
struct Folders {
  std::vector<std::filesystem::path> made;
  ~Folders() {
    std::error_code ignored;
    for (const auto& folder : made) std::filesystem::remove_all(folder, ignored);
  }
};

void write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace

FakeDatapath fake_mac() {
  FakeDatapath d{"mac", "dense", ""};
  d.time_ps = 5'300'000'000;
  d.energy = {{"score", "dram_read", "dram_read_bits", kHalf * 8, 3'480'000},
              {"score", "dram_activate", "dram_activate", kHalf / 1024, 909'000'000},
              {"score", "arithmetic", "multiply", 3'355'443'200, 160'000},
              {"score", "arithmetic", "accumulate", 3'355'443'200, 110'000},
              {"select", "exponential", "exp", 26'214'400, 900'000},
              {"select", "stash", "stash_write_bits", 419'430'400, 9'000},
              {"gather", "dram_read", "dram_read_bits", kHalf * 8, 3'480'000},
              {"gather", "dram_activate", "dram_activate", kHalf / 1024, 909'000'000},
              {"gather", "arithmetic", "multiply", 3'355'443'200, 160'000},
              {"gather", "arithmetic", "accumulate", 3'355'443'200, 110'000},
              {"gather", "buffer", "row_buffer_read_bits", kHalf * 8, 8'000}};
  d.traffic = {{"key", 26'214'400, 6'553'600, kHalf * 4, kHalf, kHalf, kHalf / 32},
               {"value", 26'214'400, 6'553'600, kHalf * 4, kHalf, kHalf, kHalf / 32}};
  return d;
}

FakeDatapath fake_gather_add() {
  FakeDatapath d{"gather_add", "prop", "128"};
  d.time_ps = 3'100'000'000;
  d.energy = {{"score", "dram_read", "dram_read_bits", kHalf * 8, 3'480'000},
              {"score", "dram_activate", "dram_activate", kHalf / 1024, 909'000'000},
              {"score", "arithmetic", "multiply", 3'355'443'200, 160'000},
              {"score", "arithmetic", "accumulate", 3'355'443'200, 110'000},
              {"select", "exponential", "exp", 26'214'400, 900'000},
              {"select", "stash", "stash_write_bits", 419'430'400, 9'000},
              {"select", "sampler", "prefix_add", 26'214'400, 60'000},
              {"select", "sampler", "random_draw", 3'200, 90'000},
              {"gather", "dram_read", "dram_read_bits", 536'870'912, 3'480'000},
              {"gather", "dram_activate", "dram_activate", 220'000, 909'000'000},
              {"gather", "arithmetic", "accumulate", 39'321'600, 110'000},
              {"gather", "buffer", "row_buffer_read_bits", 536'870'912, 8'000}};
  d.traffic = {{"key", 26'214'400, 6'553'600, kHalf * 4, kHalf, kHalf, kHalf / 32},
               {"value", 307'200, 262'144, 78'643'200, 67'108'864, 67'108'864, 2'097'152}};
  return d;
}

FakeDatapath fake_ternary() {
  FakeDatapath d{"ternary", "prop", "128", "ternary"};
  d.time_ps = 3'000'000'000;
  d.energy = fake_gather_add().energy;
  d.energy[2] = {"score", "arithmetic", "ternary_add", 2'684'354'560, 80'000};
  d.energy[3] = {"score", "arithmetic", "scale", 12'800, 160'000};
  d.traffic = fake_gather_add().traffic;
  return d;
}

void write_result_folder(const std::string& folder, const std::vector<FakeDatapath>& datapaths,
                         const std::string& trace_hash, const std::string& model) {
  std::filesystem::create_directories(folder);
  std::string summary =
      "datapath,method,budget,score_kind,model,dram,price_list,dram_energy_boundary,steps,context_"
      "max,time_ps,energy_aJ,"
      "row_hit_percent,activates,read_bursts,write_bursts,logical_bytes,requested_bytes,moved_"
      "bytes,dense_kv_bytes,"
      "weight_bytes_per_token,achieved_bytes_per_second,peak_bytes_per_second\n";
  std::string energy = "datapath,stage,component,event,count,price_aJ,energy_aJ\n";
  std::string traffic =
      "datapath,part,logical_rows,distinct_rows,logical_bytes,requested_bytes,moved_bytes,bursts\n";
  for (const FakeDatapath& d : datapaths) {
    std::uint64_t total = d.energy_off_by, logical = 0, requested = 0, moved = 0, bursts = 0,
                  activates = 0;
    for (const FakeEnergy& e : d.energy) {
      total += e.count * e.price_aj;
      if (std::string(e.event) == "dram_activate") activates += e.count;
      energy += fmt::format("{},{},{},{},{},{},{}\n", d.name, e.stage, e.component, e.event,
                            e.count, e.price_aj, e.count * e.price_aj);
    }
    for (const FakeTraffic& t : d.traffic) {
      logical += t.logical_bytes;
      requested += t.requested_bytes;
      moved += t.moved_bytes;
      bursts += t.bursts;
      traffic +=
          fmt::format("{},{},{},{},{},{},{},{}\n", d.name, t.part, t.logical_rows, t.distinct_rows,
                      t.logical_bytes, t.requested_bytes, t.moved_bytes, t.bursts);
    }
    const double seconds = static_cast<double>(d.time_ps) * 1e-12;
    summary += fmt::format(
        "{},{},{},{},\"{}\",hbm3_5200,jouppi_7nm_hbm3,die,{},{},{},{},{},{},{},0,{},{},{},{},"
        "16515072,{},{}\n",
        d.name, d.method, d.budget, d.score_kind, model, d.steps, d.context_max, d.time_ps, total,
        "91.25", activates, bursts, logical, requested, moved, kDenseKv,
        static_cast<std::uint64_t>(static_cast<double>(moved) / seconds), 665'600'000'000);
  }
  write(folder + "/summary.csv", summary);
  write(folder + "/energy.csv", energy);
  write(folder + "/traffic.csv", traffic);
  write(folder + "/manifest.json",
        fmt::format(
            "{{\"command_line\": [\"stoat\", \"sim\", \"hbm3\", \"/home/someone/run/prop.h5\"],\n "
            "\"trace\": "
            "{{\"content_hash\": \"{}\", \"name\": \"prop.h5\"}}, \"tool_version\": \"0.1.0\"}}\n",
            trace_hash));
}

std::string new_folder(const std::string& name) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / fmt::format("stoat-report-{}-{}", name, ::getpid());
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  static Folders folders;
  folders.made.push_back(folder);
  return folder.string();
}

}  // namespace stoat::sim::test
