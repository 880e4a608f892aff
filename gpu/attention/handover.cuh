// What node 1 hands to node 2 while both run: where codes lie, and the signals that sequences are
// scored. Device only; used by the score kernels and select_gather.cu.
//
// A signal costs the warp that gives it a fence, so sequences may share one. The last sequence has
// one of its own: what comes after it is what the launch waits for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/attention/kernels.cuh"

namespace stoat::gpu {

// Sequences that share a signal: [first, last]; the signal has the place of the last.
struct SignalGroup {
  std::uint32_t first, last;

  __device__ __forceinline__ SignalGroup(const LaunchArguments& a, std::uint32_t sequence) {
    const std::uint32_t end = a.params.batch - 1, share = a.signal_group;
    if (sequence >= end) {
      first = last = sequence;
      return;
    }
    last = sequence + ((end - 1 - sequence) & (share - 1));
    first = last + 1 > share ? last + 1 - share : 0;
  }
};

// `tiles` more of a group, of any KV head, are in the workspace: by one thread, after a barrier
// that follows their stores.
__device__ __forceinline__ void signal_tiles(const LaunchArguments& a, std::uint32_t group,
                                             std::uint32_t tiles) {
  asm volatile("fence.acq_rel.gpu; red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(
                   a.workspace.ready + group),
               "r"(tiles)
               : "memory");
}

// The codes of a sequence lie in the place of this one: its own, unless the score pass runs alone
// and nobody reads them. Then as many sequences have a place as the L2 holds codes of, as if each
// was gathered and dropped in time.
__device__ __forceinline__ std::uint32_t code_place(const LaunchArguments& a,
                                                    std::uint32_t sequence) {
  return sequence & (a.code_places - 1);
}

// Waits for the scores of a sequence: for its group's tiles alone where the score kernel signals
// them, else for the end of that kernel. The last block to see them resets the signal. Blocks of
// the last sequence stay until the score kernel has ended, so that the end of this one is the end
// of both.
class ScoreWait {
 public:
  // tiles: of the sequence, whose heads are gathered by `blocks` blocks each; blocks_of(s): another
  // sequence's.
  template <class BlocksOf>
  __device__ __forceinline__ ScoreWait(const LaunchArguments& a, std::uint32_t sequence,
                                       std::uint32_t tiles, std::uint32_t blocks,
                                       BlocksOf blocks_of)
      : a_(a), last_(sequence + 1 == a.params.batch) {
    const DecodeParams& p = a.params;
    if (a.signal_group == 0) {
      wait_for_previous_kernel();
      return;
    }
    std::uint32_t readers = 0;
    if (threadIdx.x == 0) {
      const SignalGroup group(a, sequence);
      slot_ = group.last;
      for (std::uint32_t s = group.first; a.signal_group > 1 && s <= group.last; ++s) {
        if (s == sequence) continue;
        tiles += (context_of(p, s) + kTileRows - 1) / kTileRows;
        blocks += blocks_of(s);
      }
      if (tiles > 0) {
        readers = p.q_heads * blocks;
        while (load_acquire(a.workspace.ready + slot_) < tiles * p.kv_heads) __nanosleep(20);
      }
    }
    __syncthreads();
    if (readers > 0) resets_ = atomicInc(a.workspace.seen + slot_, readers - 1) == readers - 1;
  }
  __device__ __forceinline__ ~ScoreWait() {
    if (a_.signal_group == 0) return;
    if (resets_) a_.workspace.ready[slot_] = 0;
    if (last_) wait_for_previous_kernel();
  }
  ScoreWait(const ScoreWait&) = delete;
  ScoreWait& operator=(const ScoreWait&) = delete;

 private:
  // By an acquiring load: a fence behind relaxed ones takes longer.
  __device__ __forceinline__ static std::uint32_t load_acquire(const std::uint32_t* address) {
    std::uint32_t value;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return value;
  }
  const LaunchArguments& a_;
  bool last_;
  std::uint32_t slot_ = 0;
  bool resets_ = false;
};

}  // namespace stoat::gpu
