#include "tests/sim/fixture.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "sim/engine/simulate.h"
#include "sim/sweep/children.h"

namespace stoat::sim {

TestTrace synth_trace(const SynthOptions& options) {
  return {synth_header(options), synthesize_records(options)};
}

SynthOptions llama_layer(Method method, std::uint32_t context, std::uint64_t seed) {
  SynthOptions options;
  options.n_layers = 1;
  options.n_q_heads = 32;
  options.n_kv_heads = 8;
  options.head_dim = 128;
  options.contexts.assign(1, context);
  options.method = method;
  options.budgets.assign(1, 128);
  options.seed = seed;
  return options;
}

DatapathResult simulated(const TestTrace& trace, const std::string& datapath,
                         const std::vector<std::string>& overrides, const std::string& arch,
                         MemoryFactory memory) {
  SimulationInput input;
  input.memory = memory;
  input.point = read_design_point(arch, overrides);
  input.dram = read_dram_standard(input.point.dram);
  input.header = trace.header;
  input.datapath = &datapath_from_name(datapath);
  input.end_step = *std::max_element(trace.records.step.begin(), trace.records.step.end()) + 1;
  STOAT_ENSURE(input.end_step <= 16, "the fixture reads all steps at once");
  input.end_layer = trace.header.n_layers;
  input.context_max = *std::max_element(trace.records.context.begin(), trace.records.context.end());
  input.sequences = *std::max_element(trace.records.seq.begin(), trace.records.seq.end()) + 1;
  input.read_steps = [&trace](std::uint32_t, std::uint32_t) { return trace.records; };
  const auto answers =
      run_children({{datapath, [&](auto&) { return to_json(simulate(input)).dump(); }}}, 1,
                   [](std::uint64_t) {});
  return result_from_json(nlohmann::json::parse(answers.at(0)));
}

Int128 energy_of(const DatapathResult& result, const std::string& prices, Stage stage,
                 const std::vector<Event>& events) {
  const EnergyTable table = price(result.events, PriceList::read(prices));
  Int128 sum = 0;
  for (const Event event : events) {
    sum += table.energy[static_cast<std::size_t>(stage)][static_cast<std::size_t>(event)].count();
  }
  return sum;
}

Int128 total_energy(const DatapathResult& result, const std::string& prices) {
  return price(result.events, PriceList::read(prices)).total().count();
}

Int128 dram_energy(const DatapathResult& result, const std::string& prices) {
  Int128 sum = 0;
  for (const Stage stage : {Stage::kScore, Stage::kSelect, Stage::kGather, Stage::kAppend}) {
    sum += energy_of(result, prices, stage,
                     {Event::kDramActivate, Event::kDramReadBits, Event::kDramWriteBits,
                      Event::kDramRefresh, Event::kDramBackgroundNs});
  }
  return sum;
}

}  // namespace stoat::sim
