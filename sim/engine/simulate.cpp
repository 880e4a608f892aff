// Builds the accelerator, walks steps and layers in order, collects what happened.
#include "sim/engine/simulate.h"

#include <algorithm>
#include <memory>
#include <string>
#include <systemc>
#include <vector>

#include "models/error.h"
#include "sim/engine/bank_watcher.h"
#include "sim/engine/conservation.h"
#include "sim/engine/engine_module.h"
#include "sim/engine/layer_step.h"
#include "sim/engine/memory_model.h"
#include "sim/engine/memory_module.h"
#include "sim/engine/placement.h"

namespace stoat::sim {
namespace {

constexpr std::uint32_t kStepsARead = 16;

void add(Recount& sum, const Recount& part) {
  sum.key_rows += part.key_rows;
  sum.key_rows_logical += part.key_rows_logical;
  sum.value_rows += part.value_rows;
  sum.value_rows_logical += part.value_rows_logical;
  sum.draws += part.draws;
  sum.groups += part.groups;
  sum.touched_by_heads += part.touched_by_heads;
  sum.head_steps += part.head_steps;
  sum.touched_by_groups += part.touched_by_groups;
  sum.group_steps += part.group_steps;
  sum.key_requested += part.key_requested;
  sum.context_max = std::max(sum.context_max, part.context_max);
}

// The decode controller: layer l + 1 of a step starts when layer l of all KV heads is done.
class Controller final : public sc_core::sc_module {
 public:
  SC_HAS_PROCESS(Controller);
  Controller(sc_core::sc_module_name name, const SimulationInput& input, const EngineShape& shape,
             const AddressPlan& plan, StepBoard& board, std::uint32_t engines)
      : sc_module(name),
        input_(input),
        shape_(shape),
        plan_(plan),
        board_(board),
        engines_(engines) {
    SC_THREAD(run);
  }

  // Bytes that engines moved so far; set by the accelerator, which owns them.
  std::function<Bytes()> moved;
  Recount recount;
  std::vector<StepResult> steps;
  std::uint64_t layer_steps = 0;
  bool finished = false;

 private:
  void run() {
    try {
      for (std::uint32_t first = input_.first_step; first < input_.end_step; first += kStepsARead) {
        const std::uint32_t count = std::min(kStepsARead, input_.end_step - first);
        const TraceRecords records = input_.read_steps(first, count);
        for (const LayerStep& each :
             stoat::sim::layer_steps(records, input_.first_layer, input_.end_layer)) {
          run_layer(records, each);
        }
      }
      finished = true;
    } catch (...) {
      if (!board_.failure) board_.failure = std::current_exception();
    }
    sc_core::sc_stop();
  }

  void run_layer(const TraceRecords& records, const LayerStep& each) {
    const Datapath& datapath = *input_.datapath;
    LayerWork work =
        split_layer_step(records, input_.header, each, shape_, plan_,
                         !datapath.gather->reads_selected_rows, datapath.score == &kScoreTernary);
    work.of_engine.resize(engines_);
    const Picoseconds begin = now_ps();
    const Bytes before = moved();
    board_.work = &work.of_engine;
    board_.running = engines_;
    board_.start.notify(sc_core::SC_ZERO_TIME);
    sc_core::wait(board_.done);
    board_.work = nullptr;

    if (steps.empty() || steps.back().step != each.step) {
      steps.emplace_back();
      steps.back().step = each.step;
    }
    StepResult& step = steps.back();
    const Recount& part = work.recount;
    step.context_len = std::max(step.context_len, part.context_max);
    step.time += now_ps() - begin;
    step.key += part.key_requested;
    step.value += shape_.row_bytes() * part.value_rows;
    step.moved += moved() - before;
    step.value_rows_logical += part.value_rows_logical;
    step.value_rows_distinct += part.value_rows;
    add(recount, part);
    ++layer_steps;
    if (input_.progress != nullptr) ++*input_.progress;
  }

  const SimulationInput& input_;
  const EngineShape& shape_;
  const AddressPlan& plan_;
  StepBoard& board_;
  std::uint32_t engines_;
};

// All modules, in the order of the data flow.
struct Accelerator {
  Accelerator(const SimulationInput& input, const EngineShape& shape, const DramStandard& dram,
              const AddressPlan& plan) {
    const std::uint32_t total = pseudo_channels(dram, input.point);
    for (std::uint32_t i = 0; i < dram.channels * input.point.stacks; ++i) {
      const MemoryFactory make = input.memory != nullptr ? input.memory : make_channel_memory;
      memory.push_back(make("memory" + std::to_string(i), dram, i, input.point));
      if (input.timeline != nullptr) {
        watchers.push_back(std::make_unique<BankWatcher>(*input.timeline, i * dram.pseudo_channels,
                                                         dram.pseudo_channels, dram.banks()));
        memory.back()->observe(*watchers.back());
      }
    }
    board.timeline = input.timeline;
    for (std::uint32_t i = 0; i < total / shape.stride; ++i) {
      heads.push_back(std::make_unique<HeadBarrier>(shape.engines, input.point.exchange_latency));
    }
    for (std::uint32_t i = 0; i < total; ++i) {
      engines.push_back(std::make_unique<EngineModule>(("engine" + std::to_string(i)).c_str(), i,
                                                       shape, *input.datapath,
                                                       *heads[i / shape.stride], board));
      MemoryModel& model = *memory[i / dram.pseudo_channels];
      engines.back()->socket.bind(model.target(i % dram.pseudo_channels));
    }
    controller = std::make_unique<Controller>("controller", input, shape, plan, board, total);
    controller->moved = [this] {
      Bytes sum{0};
      for (const auto& engine : engines) {
        for (std::size_t i = 0; i < kParts; ++i) {
          if (static_cast<Part>(i) != Part::kAppend) sum += engine->traffic()[i].moved;
        }
      }
      return sum;
    };
  }

  StepBoard board;
  std::vector<std::unique_ptr<BankWatcher>> watchers;
  std::vector<std::unique_ptr<MemoryModel>> memory;
  std::vector<std::unique_ptr<HeadBarrier>> heads;
  std::vector<std::unique_ptr<EngineModule>> engines;
  std::unique_ptr<Controller> controller;
};

// Refresh and standby belong to no stage: they are shared out by the bytes each stage moved, the
// rest to gather.
void share_out(DatapathResult& result, Event event, std::uint64_t count) {
  std::array<Uint128, kStages> moved{};
  Uint128 all = 0;
  for (std::size_t i = 0; i < kParts; ++i) {
    const Uint128 bytes = result.traffic[i].moved.count();
    moved[static_cast<std::size_t>(stage_of(static_cast<Part>(i)))] += bytes;
    all += bytes;
  }
  std::uint64_t left = count;
  for (const Stage stage : {Stage::kScore, Stage::kSelect, Stage::kAppend}) {
    const auto index = static_cast<std::size_t>(stage);
    const std::uint64_t share =
        all == 0 ? 0 : static_cast<std::uint64_t>(moved[index] * count / all);
    result.events.at(stage, event) += share;
    left -= share;
  }
  result.events.at(Stage::kGather, event) += left;
}

void note_bounds(const EngineModule& engine, const DramStandard& dram, DatapathResult& result) {
  std::uint64_t bursts = 0;
  for (const Traffic& traffic : engine.traffic()) bursts += traffic.bursts;
  result.bus_bound =
      std::max(result.bus_bound, time_of_cycles(bursts * dram.burst_cycles, dram.command_clock));
  for (std::size_t i = 0; i < kUnits; ++i) {
    const Picoseconds busy = engine.use(static_cast<Unit>(i)).busy;
    if (busy <= result.lane_bound) continue;
    result.lane_bound = busy;
    result.lane_bound_unit = static_cast<Unit>(i);
  }
}

void collect_memory(Accelerator& accelerator, const DramStandard& dram, Picoseconds end,
                    DatapathResult& result) {
  ChannelCounts memory;
  for (const auto& model : accelerator.memory) memory += model->finish(end);
  for (const auto& watcher : accelerator.watchers) watcher->finish(end);
  result.activates = memory.activates;
  result.row_hits = memory.row_hits;
  result.row_misses = memory.row_misses;
  result.refreshes = memory.refreshes;
  result.read_bursts = memory.read_bursts;
  result.write_bursts = memory.write_bursts;
  result.data_bus_busy = memory.data_bus_busy;
  result.channels = accelerator.memory.size();
  result.banks = std::uint64_t{dram.banks()} * result.engines;
  const std::uint64_t half_cycles =
      memory.activates * dram.activate_bus_cycles + memory.precharges * dram.precharge_bus_cycles;
  result.row_bus_busy = time_of_cycles(half_cycles, Hertz(2 * dram.command_clock.count()));
  result.bank_busy = time_of_cycles(memory.activates * dram.rc, dram.command_clock);
  result.bank_refreshes = memory.bank_refreshes;
  result.power_downs = memory.power_downs;
  result.active_standby = memory.active_standby;
  result.precharge_standby = memory.precharge_standby;
  result.active_down = memory.active_down;
  result.precharge_down = memory.precharge_down;
  result.refresh_time =
      time_of_cycles(memory.refreshes / result.engines * dram.refresh_cycles, dram.command_clock);
  // A set of banks is a part of all banks; time in power-down is no standby.
  const std::uint64_t sets = dram.refresh_bank_sets();
  const std::uint64_t down = (memory.active_down + memory.precharge_down).count() / 1000;
  share_out(result, Event::kDramRefresh,
            memory.refreshes + (sets == 0 ? 0 : (memory.bank_refreshes + sets - 1) / sets));
  share_out(result, Event::kDramBackgroundNs, end.count() / 1000 * result.engines - down);
}

DatapathResult collect(const SimulationInput& input, const DramStandard& dram,
                       Accelerator& accelerator) {
  const Picoseconds end = now_ps();
  DatapathResult result;
  result.datapath = input.datapath->name;
  result.score_stage = input.datapath->score->name;
  result.select_stage = input.datapath->select->name;
  result.gather_stage = input.datapath->gather->name;
  result.engines = static_cast<std::uint32_t>(accelerator.engines.size());
  result.time = end;
  result.cycles = CoreCycles(cycles_until(end, input.point.clock));
  for (const auto& engine : accelerator.engines) {
    engine->check(end);
    note_bounds(*engine, dram, result);
    result.events += engine->events();
    for (std::size_t i = 0; i < kParts; ++i) result.traffic[i] += engine->traffic()[i];
    for (std::size_t i = 0; i < kStages; ++i) result.busy[i] += engine->busy(static_cast<Stage>(i));
    for (std::size_t i = 0; i < kUnits; ++i) result.units[i] += engine->use(static_cast<Unit>(i));
  }
  collect_memory(accelerator, dram, end, result);
  Controller& controller = *accelerator.controller;
  const Recount& recount = controller.recount;
  result.layer_steps = controller.layer_steps;
  result.per_step = std::move(controller.steps);
  result.steps = result.per_step.size();
  result.context_max = recount.context_max;
  result.value_draws = recount.draws;
  result.dense_kv =
      element_bytes(input.point.element) * (recount.key_rows * 2 * input.header.head_dim);
  result.touched_by_heads = recount.touched_by_heads;
  result.head_steps = recount.head_steps;
  result.touched_by_groups = recount.touched_by_groups;
  result.group_steps = recount.group_steps;
  for (StepResult& step : result.per_step) {
    step.cycles = CoreCycles(cycles_until(step.time, input.point.clock));
  }
  return result;
}

}  // namespace

std::uint32_t pseudo_channels(const DramStandard& dram, const DesignPoint& point) {
  return dram.pseudo_channels_total() * point.stacks;
}

EngineShape engine_shape(const DesignPoint& point, const DramStandard& dram,
                         const TraceHeader& header) {
  (void)designed_standard(dram, point);
  EngineShape shape;
  shape.point = point;
  shape.head_dim = header.head_dim;
  shape.access = dram.access_size;
  shape.stride = engines_per_kv_head(pseudo_channels(dram, point), header.n_kv_heads);
  shape.engines = point.engines_per_head == 0 ? shape.stride : point.engines_per_head;
  if (shape.engines > shape.stride) {
    throw usage_error({}, "mapping.engines_per_head of " + std::to_string(shape.engines),
                      "at most " + std::to_string(shape.stride) + ": pseudo-channels / KV heads",
                      "--set mapping.engines_per_head=all");
  }
  // Queries of 16 bit and the widest accumulators of a whole group.
  const std::uint32_t width = std::max({accumulator_bits(point.dense_accumulator),
                                        accumulator_bits(point.gather_add_accumulator),
                                        accumulator_bits(point.ternary_accumulator)});
  const std::uint64_t needed =
      std::uint64_t{header.group()} * header.head_dim * (kQueryWidth + width) / 8;
  if (needed > point.query_buffer.count()) {
    throw usage_error(
        {}, "engine.query_buffer of " + std::to_string(point.query_buffer.count()) + " B",
        "at least " + std::to_string(needed) + " B for " + std::to_string(header.group()) +
            " query heads of " + std::to_string(header.head_dim),
        "--set 'engine.query_buffer=" + std::to_string(needed) + " B'");
  }
  if (point.row_buffer < dram.access_size) {
    throw usage_error({}, "engine.row_buffer of " + std::to_string(point.row_buffer.count()) + " B",
                      "at least one burst of " + std::to_string(dram.access_size.count()) + " B");
  }
  return shape;
}

DatapathResult simulate(const SimulationInput& input) {
  const DramStandard dram = designed_standard(input.dram, input.point);
  const EngineShape shape = engine_shape(input.point, input.dram, input.header);
  const AddressPlan plan =
      make_address_plan(shape, dram, input.context_max, input.sequences, input.first_layer,
                        input.end_layer, input.header.group());
  sc_core::sc_report_handler::set_actions(sc_core::SC_INFO, sc_core::SC_DO_NOTHING);
  Accelerator accelerator(input, shape, dram, plan);
  sc_core::sc_start();
  if (accelerator.board.failure) std::rethrow_exception(accelerator.board.failure);
  STOAT_ENSURE(accelerator.controller->finished, "no process waits for ever");
  const DatapathResult result = collect(input, dram, accelerator);
  check_conservation(result, accelerator.controller->recount, *input.datapath, shape, dram);
  return result;
}

std::string simulation_kernel() { return sc_core::sc_version(); }

}  // namespace stoat::sim
