// The threads of a kernel on the CPU, for tests of the kernels' own text where no GPU is: blocks
// run at once, a block's threads take turns. What a GPU leaves open is used against the kernel:
// some warps run far ahead of others, asynchronous copies arrive as early or as late as they may.
//
// Not emulated: time, caches, the order of memory accesses of different blocks, tensor cores'
// rounding (products are added in double). cuda_words.h gives kernels the language they are written
// in, rewrite_ptx.py replaces their inline PTX by calls of what is declared here.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

namespace stoat::emulation {

inline constexpr std::uint32_t kWarpThreads = 32;

// What the emulation itself does wrong: a test that passes with it proves nothing.
enum class Fault : std::uint8_t {
  kNone,
  kBarriersLetPass,  // threads do not wait for their block
  kCopiesNeverLand   // waiting for asynchronous copies brings none of them
};

struct Launch {
  std::uint32_t blocks = 1;     // along x; all run at once
  std::uint32_t rows = 1;       // of blocks, along y; one after the other
  std::uint32_t threads = 256;  // of a block, a multiple of 32
  std::uint64_t seed = 0;       // of the order in which threads run
  bool late_copies = false;     // asynchronous copies land when they are waited for; else at once
  Fault fault = Fault::kNone;
};

struct Report {
  std::uint64_t matrix_reads = 0;  // of 8 rows of 16 bytes by ldmatrix
  std::uint64_t conflicts = 0;     // of those, with two rows in one bank of shared memory
};

// Runs `kernel` once for every thread of a launch. Throws std::runtime_error when no thread of a
// block can go on, an address is not aligned as the instruction needs it, or a barrier gets more
// arrivals than it waits for.
Report run(const Launch& launch, const std::function<void()>& kernel);

// --- For kernels: of the thread that calls. ---------------------------------------------------

struct Index {
  std::uint32_t x = 0, y = 0, z = 0;
};
Index thread_index();
Index block_index();
Index block_count();
Index block_size();
void wait_for_block();
void wait_for_some(std::uint32_t threads);  // the block's second barrier, for that many of it
void let_others_run();

// What each lane of the warp brings, in the order of the lanes; all 32 must call it.
using Words = std::array<std::uint64_t, kWarpThreads>;
Words exchange(std::uint64_t value);

// Shared memory by its 32-bit address.
std::uint32_t shared_address(const void* pointer);
void* shared_pointer(std::uint32_t address);
void* dynamic_shared();  // 227 KiB, the same for all threads of a block

// A row of blocks is a cluster, whose threads meet once.
void arrive_at_cluster();
void wait_for_cluster();
// What `address` points to, in the first block of the cluster.
void* of_first_block(std::uint32_t address);

// Barriers in 8 bytes of shared memory that count arrivals and bytes, phase after phase.
void init_barrier(std::uint32_t address, std::uint32_t arrivals);
void arrive_at(std::uint32_t address);
void arrive_and_expect(std::uint32_t address, std::uint32_t bytes);
void complete_bytes(std::uint64_t* barrier, std::uint32_t bytes);
bool is_complete(std::uint32_t address, std::uint32_t parity);  // lets others run when it is not
void wait_for_barrier(std::uint32_t address, std::uint32_t parity);
// By a whole warp, once: an asynchronous copy that completes its bytes on a barrier.
void copy_bulk(std::uint32_t to, const void* from, std::uint32_t bytes, std::uint32_t barrier);

// Asynchronous copies of 16 bytes.
void copy_async(std::uint32_t to, const void* from);
void commit_copies();
void wait_for_copies(std::uint32_t groups_on_their_way);

// Rows of four 8 x 8 matrices of 16-bit elements, from the address that each lane gives.
std::array<std::uint32_t, 4> load_matrices(std::uint32_t address);

// sums += a * b of m16n8k16: operands and sums as mma.sync distributes them over the lanes.
// to_float: of one 16-bit element.
void multiply(std::array<float*, 4> sums, std::array<std::uint32_t, 4> a,
              std::array<std::uint32_t, 2> b, float (*to_float)(std::uint16_t));

}  // namespace stoat::emulation
