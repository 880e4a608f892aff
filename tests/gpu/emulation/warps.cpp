#include "tests/gpu/emulation/warps.h"

#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace stoat::emulation {

namespace {

constexpr std::size_t kStackBytes = 64 << 10, kDynamicBytes = 227 << 10;
constexpr std::uint32_t kSharedWindow = 0x40000000;  // of the block's variables, before and after
constexpr std::uint32_t kTurnsOfAnOrder = 3000;      // until other warps run ahead

struct Copy {
  void* to;
  const void* from;
};

struct BulkCopy {
  Copy copy;
  std::uint32_t bytes, barrier;
};

struct Thread {
  ucontext_t context{};
  std::unique_ptr<char[]> stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
  std::function<bool()> may_go_on;  // empty: it may
  bool ended = false;
  std::uint32_t index = 0;
  std::deque<std::vector<Copy>> groups = std::deque<std::vector<Copy>>(1);  // the last is open
};

// Where threads meet: who comes last lets all go on.
struct Meeting {
  std::uint32_t arrived = 0;
  std::uint64_t held = 0;
};

struct Warp {
  Meeting meeting;
  Words brought{}, given{};
};

struct Cluster {
  std::atomic<std::uint32_t> arrived{0};
  std::atomic<char*> first_origin{nullptr};  // shared_origin of the first block
};

struct Block {
  Launch launch;
  Index index;
  Cluster* cluster = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::mt19937_64 random;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Meeting barrier, second_barrier;
  std::vector<BulkCopy> on_their_way;
  ucontext_t scheduler{};
  Thread* running = nullptr;
  std::uint32_t wait_for_others = 0;  // threads that wait for another block
  Report report;
  std::exception_ptr error;
};

thread_local Block* block = nullptr;
// A kernel's shared variables are thread-local, and a block is a thread of the system: their
// addresses are told by their distance from this one.
alignas(128) thread_local char shared_origin[128];
alignas(128) thread_local char dynamic_memory[kDynamicBytes];

void switch_to_scheduler() { swapcontext(&block->running->context, &block->scheduler); }

void wait_until(std::function<bool()> condition) {
  block->running->may_go_on = std::move(condition);
  switch_to_scheduler();
  block->running->may_go_on = nullptr;
}

void meet(Meeting& meeting, std::uint32_t all, const std::function<void()>& last) {
  const std::uint64_t number = meeting.held;
  if (++meeting.arrived == all) {
    last();
    meeting.arrived = 0;
    ++meeting.held;
  } else {
    wait_until([&meeting, number] { return meeting.held != number; });
  }
}

void enter_thread() {
  try {
    (*block->kernel)();
  } catch (...) {
    block->error = std::current_exception();
  }
  block->running->ended = true;
  switch_to_scheduler();
}

// One thread goes on: the first that may, of the first warp that has one. The order of the warps
// changes seldom, so that some are as far ahead as the kernel lets them.
bool run_one(const std::vector<std::uint32_t>& order, std::vector<std::uint32_t>& next_lane) {
  for (const std::uint32_t w : order) {
    for (std::uint32_t i = 0; i < kWarpThreads; ++i) {
      const std::uint32_t lane = (next_lane[w] + i) % kWarpThreads;
      Thread& thread = block->threads[kWarpThreads * w + lane];
      if (thread.ended || (thread.may_go_on && !thread.may_go_on())) continue;
      next_lane[w] = (lane + 1) % kWarpThreads;
      block->running = &thread;
      swapcontext(&block->scheduler, &thread.context);
      return true;
    }
  }
  return false;
}

void run_block(Block& of) {
  block = &of;
  if (of.index.x == 0) of.cluster->first_origin = shared_origin;
  std::memset(dynamic_memory, 0xff, sizeof(dynamic_memory));
  of.threads = std::vector<Thread>(of.launch.threads);
  of.warps = std::vector<Warp>(of.launch.threads / kWarpThreads);
  for (std::uint32_t i = 0; i < of.launch.threads; ++i) {
    Thread& thread = of.threads[i];
    thread.index = i;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStackBytes;
    makecontext(&thread.context, enter_thread, 0);
  }
  std::vector<std::uint32_t> order(of.warps.size()), next_lane(of.warps.size());
  std::iota(order.begin(), order.end(), 0);
  // Another block may still bring what a thread waits for, but not for ever.
  constexpr std::uint32_t kPatience = 2000000;
  std::uint32_t idle = 0;
  const auto all_ended = [&of] {
    return std::ranges::all_of(of.threads, [](const Thread& thread) { return thread.ended; });
  };
  while (!of.error && idle < kPatience) {
    if (of.random() % kTurnsOfAnOrder == 0) std::ranges::shuffle(order, of.random);
    if (run_one(order, next_lane)) {
      idle = 0;
    } else if (all_ended()) {
      return;
    } else if (of.wait_for_others > 0) {
      ++idle;
      std::this_thread::yield();
    } else {
      idle = kPatience;
    }
  }
  if (!of.error)
    of.error = std::make_exception_ptr(std::runtime_error(
        "no thread of block " + std::to_string(of.index.x) + " can go on: " +
        std::to_string(of.barrier.arrived) + " of them wait for the others of their block"));
}

void land(std::vector<Copy>& copies) {
  for (const Copy& copy : copies) std::memcpy(copy.to, copy.from, 16);
  copies.clear();
}

bool two_in_a_bank(const Words& address, std::uint32_t first) {
  std::array<bool, 8> taken{};  // four banks each
  for (std::uint32_t i = first; i < first + 8; ++i) {
    bool& place = taken[address[i] / 16 % 8];
    if (place) return true;
    place = true;
  }
  return false;
}

}  // namespace

Report run(const Launch& launch, const std::function<void()>& kernel) {
  Report report;
  for (std::uint32_t row = 0; row < launch.rows; ++row) {
    Cluster cluster;
    std::vector<std::unique_ptr<Block>> blocks;
    std::vector<std::thread> running;
    for (std::uint32_t i = 0; i < launch.blocks; ++i) {
      Block& of = *blocks.emplace_back(std::make_unique<Block>());
      of.launch = launch;
      of.index = {i, row, 0};
      of.cluster = &cluster;
      of.kernel = &kernel;
      of.random.seed((launch.seed * 1009 + row) * 997 + i);
      running.emplace_back([&of] { run_block(of); });
    }
    for (std::thread& thread : running) thread.join();
    for (const auto& of : blocks) {
      if (of->error) std::rethrow_exception(of->error);
      report.matrix_reads += of->report.matrix_reads;
      report.conflicts += of->report.conflicts;
    }
  }
  return report;
}

Index thread_index() { return {block->running->index}; }
Index block_index() { return block->index; }
Index block_size() { return {block->launch.threads, 1, 1}; }
Index block_count() { return {block->launch.blocks, block->launch.rows, 1}; }

void wait_for_block() {
  if (block->launch.fault == Fault::kBarriersLetPass) return;
  meet(block->barrier, block->launch.threads, [] {});
}
void wait_for_some(std::uint32_t threads) {
  if (block->launch.fault == Fault::kBarriersLetPass) return;
  meet(block->second_barrier, threads, [] {});
}

void let_others_run() {
  wait_until([] { return true; });
}

Words exchange(std::uint64_t value) {
  Warp& warp = block->warps[block->running->index / kWarpThreads];
  warp.brought[block->running->index % kWarpThreads] = value;
  // The next exchange fills `given` only when all lanes are back from this one: each of them takes
  // part in it, after it has copied what it got here.
  meet(warp.meeting, kWarpThreads, [&warp] { warp.given = warp.brought; });
  return warp.given;
}

std::uint32_t shared_address(const void* pointer) {
  return kSharedWindow +
         static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(pointer) -
                                    reinterpret_cast<std::uintptr_t>(shared_origin));
}
void* shared_pointer(std::uint32_t address) {
  return shared_origin + static_cast<std::int32_t>(address - kSharedWindow);
}
void* dynamic_shared() { return dynamic_memory; }

void arrive_at_cluster() { ++block->cluster->arrived; }
void wait_for_cluster() {
  Cluster& cluster = *block->cluster;
  const std::uint32_t all = block->launch.threads * block->launch.blocks;
  ++block->wait_for_others;
  wait_until([&cluster, all] { return cluster.arrived >= all; });
  --block->wait_for_others;
}
void* of_first_block(std::uint32_t address) {
  return block->cluster->first_origin.load() + static_cast<std::int32_t>(address - kSharedWindow);
}

namespace {

// A barrier's word. Bytes may be there before they are expected.
struct BarrierState {
  std::uint8_t phase = 0, unused = 0, arrivals = 0, missing = 0;
  std::int32_t bytes = 0;
};
static_assert(sizeof(BarrierState) == 8);

template <class Change>
void change(std::uint64_t* barrier, Change how) {
  std::atomic_ref<std::uint64_t> word(*barrier);
  std::uint64_t before = word.load(), after = 0;
  do {
    auto state = std::bit_cast<BarrierState>(before);
    how(state);
    if (state.missing == 0 && state.bytes == 0) {
      state.phase ^= 1;
      state.missing = state.arrivals;
    }
    after = std::bit_cast<std::uint64_t>(state);
  } while (!word.compare_exchange_weak(before, after));
}
std::uint64_t* barrier_at(std::uint32_t address) {
  return static_cast<std::uint64_t*>(shared_pointer(address));
}
bool has_passed(std::uint32_t address, std::uint32_t parity) {
  const std::uint64_t word = std::atomic_ref<std::uint64_t>(*barrier_at(address)).load();
  return std::bit_cast<BarrierState>(word).phase != parity;
}
void land(const BulkCopy& bulk) {
  std::memcpy(bulk.copy.to, bulk.copy.from, bulk.bytes);
  complete_bytes(barrier_at(bulk.barrier), bulk.bytes);
}
void land_copies_of(std::uint32_t barrier) {
  std::erase_if(block->on_their_way, [barrier](const BulkCopy& bulk) {
    if (bulk.barrier == barrier) land(bulk);
    return bulk.barrier == barrier;
  });
}

}  // namespace

void init_barrier(std::uint32_t address, std::uint32_t arrivals) {
  BarrierState state{};
  if (arrivals == 0 || arrivals > 255)
    throw std::runtime_error("a barrier for " + std::to_string(arrivals) +
                             " arrivals, not 1 to 255");
  state.arrivals = state.missing = static_cast<std::uint8_t>(arrivals);
  std::atomic_ref<std::uint64_t>(*barrier_at(address)) = std::bit_cast<std::uint64_t>(state);
}
void arrive_at(std::uint32_t address) { arrive_and_expect(address, 0); }
void arrive_and_expect(std::uint32_t address, std::uint32_t bytes) {
  change(barrier_at(address), [bytes](BarrierState& state) {
    if (state.missing == 0) throw std::runtime_error("one arrival more than a barrier waits for");
    state.bytes += static_cast<std::int32_t>(bytes);
    --state.missing;
  });
}
void complete_bytes(std::uint64_t* barrier, std::uint32_t bytes) {
  change(barrier,
         [bytes](BarrierState& state) { state.bytes -= static_cast<std::int32_t>(bytes); });
}
bool is_complete(std::uint32_t address, std::uint32_t parity) {
  const bool complete = has_passed(address, parity);
  if (!complete) let_others_run();
  return complete;
}
void wait_for_barrier(std::uint32_t address, std::uint32_t parity) {
  // Also copies that are asked for while somebody waits.
  const auto passed = [address, parity] {
    land_copies_of(address);
    return has_passed(address, parity);
  };
  if (!passed()) wait_until(passed);
}
void copy_bulk(std::uint32_t to, const void* from, std::uint32_t bytes, std::uint32_t barrier) {
  if (block->running->index % kWarpThreads != 0) return;
  if (to % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0 || bytes % 16 != 0)
    throw std::runtime_error("a bulk copy whose place or size is not a multiple of 16");
  const BulkCopy bulk{{shared_pointer(to), from}, bytes, barrier};
  const bool never = block->launch.fault == Fault::kCopiesNeverLand;
  if (!block->launch.late_copies && !never) return land(bulk);
  std::memset(bulk.copy.to, 0xff, bytes);
  if (!never) block->on_their_way.push_back(bulk);
}

void copy_async(std::uint32_t to, const void* from) {
  if (to % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0)
    throw std::runtime_error(
        "an asynchronous copy to or from an address that is not a multiple of 16");
  const Copy copy{shared_pointer(to), from};
  const bool never = block->launch.fault == Fault::kCopiesNeverLand;
  if (!block->launch.late_copies && !never) {
    std::memcpy(copy.to, copy.from, 16);
    return;
  }
  std::memset(copy.to, 0xff, 16);
  if (!never) block->running->groups.back().push_back(copy);
}
void commit_copies() { block->running->groups.emplace_back(); }
void wait_for_copies(std::uint32_t groups_on_their_way) {
  auto& groups = block->running->groups;
  for (; groups.size() > groups_on_their_way + 1; groups.pop_front()) land(groups.front());
}

std::array<std::uint32_t, 4> load_matrices(std::uint32_t address) {
  if (address % 16 != 0)
    throw std::runtime_error("ldmatrix from an address that is no multiple of 16");
  const Words rows = exchange(address);
  const std::uint32_t lane = block->running->index % kWarpThreads;
  std::array<std::uint32_t, 4> got{};
  for (std::uint32_t m = 0; m < 4; ++m) {
    if (lane == 0) {
      ++block->report.matrix_reads;
      block->report.conflicts += two_in_a_bank(rows, 8 * m) ? 1 : 0;
    }
    const auto row = static_cast<std::uint32_t>(rows[8 * m + lane / 4]);
    std::memcpy(&got[m], static_cast<const char*>(shared_pointer(row)) + 4 * (lane % 4), 4);
  }
  exchange(0);  // no lane writes there before all have read
  return got;
}

void multiply(std::array<float*, 4> sums, std::array<std::uint32_t, 4> a,
              std::array<std::uint32_t, 2> b, float (*to_float)(std::uint16_t)) {
  std::array<Words, 3> words;  // a[0..1], a[2..3], b[0..1] of all lanes
  words[0] = exchange(a[0] | std::uint64_t{a[1]} << 32);
  words[1] = exchange(a[2] | std::uint64_t{a[3]} << 32);
  words[2] = exchange(b[0] | std::uint64_t{b[1]} << 32);
  const auto element = [&](std::uint32_t which, std::uint32_t row, std::uint32_t k,
                           std::uint32_t word) {
    const std::uint64_t both = words[which][4 * row + k % 8 / 2];
    return static_cast<double>(
        to_float(static_cast<std::uint16_t>(both >> (32 * word + 16 * (k % 2)))));
  };
  const std::uint32_t lane = block->running->index % kWarpThreads;
  for (std::uint32_t i = 0; i < 4; ++i) {
    double sum = *sums[i];
    for (std::uint32_t k = 0; k < 16; ++k)
      sum += element(k / 8, lane / 4, k, i / 2) * element(2, 2 * (lane % 4) + i % 2, k, k / 8);
    *sums[i] = static_cast<float>(sum);
  }
}

}  // namespace stoat::emulation
