// Select and gather of one query head from its codes: the rows that own its points (select.cuh),
// their V rows added up in fp32. Grid: [splits, rows]; the first rows take a head a block, of the
// others a row is a head (GatherShare).
//
// The blocks of a head share its points evenly (few.cuh where that is at most 32 points a block,
// else stream.cuh); counts do not depend on how many they are, and the first block of a cluster, or
// without clusters the last to come, adds their sums in a fixed order.
#include <algorithm>
#include <cstdint>

#include "gpu/attention/few.cuh"
#include "gpu/attention/gather.cuh"
#include "gpu/attention/handover.cuh"
#include "gpu/attention/select.cuh"
#include "gpu/attention/stream.cuh"

namespace stoat::gpu {
namespace {

// Codes that nobody reads again need not be written to memory. Of a cluster every block has read
// them when its first block has stored the head. Before Hopper, without clusters, only of a block
// that has its head for itself.
__device__ void discard_codes(const LaunchArguments& a, const GatherShare& share,
                              std::uint32_t tiles) {
#if __CUDA_ARCH__ < 900
  if (share.splits != 1) return;
#endif
  if (share.split != 0) return;
  __syncthreads();
  constexpr std::uint32_t kLine = 64;  // codes: 128 bytes
  std::uint16_t* codes =
      a.workspace.code + share.head * static_cast<std::size_t>(a.tiles_capacity) * kTileRows;
  for (std::uint32_t i = threadIdx.x; i < tiles * (kTileRows / kLine); i += kThreads)
    asm volatile("discard.global.L2 [%0], 128;" ::"l"(codes + i * kLine) : "memory");
}

template <class Element, int kHeadDim, DrawKind kKind, bool kTrace>
__global__ __launch_bounds__(kThreads,
                             4) void select_gather(const __grid_constant__ LaunchArguments a) {
  extern __shared__ uint4 dynamic_shared[];
  __shared__ ClusterSums<kHeadDim> cluster;
  const DecodeParams& p = a.params;
  SelectShared shared;
  shared.place(reinterpret_cast<std::uint64_t*>(dynamic_shared), p, a.tiles_capacity);
  load_lut(a.workspace, shared.lut);
  const GatherShare share(a);
  cluster.begin(share);
  const std::size_t head = share.head;
  const std::uint32_t sequence = share.head / p.q_heads, query_head = share.head % p.q_heads;
  // The lengths are not written by the score kernel, which has waited for those before it.
  const std::uint32_t context = context_of(p, sequence);
  const std::uint32_t tiles = (context + kTileRows - 1) / kTileRows;
  // What needs no scores, before the wait.
  const DrawSite site{p.seed, p.sequence_id ? p.sequence_id[sequence] : sequence, context - 1,
                      static_cast<std::uint16_t>(p.layer), static_cast<std::uint16_t>(query_head)};
  Points<kKind> points{
      p.method,
      site,
      0,
      draw_u64(site, kKind == DrawKind::kFlash ? Purpose::kTileRemainder : Purpose::kValue, 0),
      p.budget,
      shared.sorted,
      inverse(p.budget)};
  draw_early(shared, points, tiles);
  // The next kernel may take the room that the score kernel leaves: K is on its way meanwhile.
  let_next_kernel_start();
  const ScoreWait wait(a, sequence, tiles, share.splits,
                       [&](std::uint32_t s) { return gather_blocks(a, s); });
  if (context == 0) return refuse_head<Element>(p, share, kBadContext);
  const std::size_t first_slot = head * a.tiles_capacity;
  record_scores(a, share, tiles);
  const HeadRuler ruler = build_ruler(a.workspace, first_slot, tiles, shared);
  if (ruler.total == 0) {
    return refuse_head<Element>(
        p, share, ruler.max_exponent == kDamagedTile ? kDamagedScore : kNoFiniteScore);
  }
  points.total = ruler.total;
  constexpr bool flash = kKind == DrawKind::kFlash;
  if constexpr (!flash) points.offset = mulhi64(points.offset, ruler.total);
  // The host refuses flash with fewer samples than tiles, so this does not fail.
  if (!prepare_points(shared, points, tiles, ruler))
    return refuse_head<Element>(p, share, kBadContext);
  const std::uint32_t splits = share.splits;
  const PointRange range{p.budget * share.split / splits, p.budget * (share.split + 1) / splits};
  const RowAddress<Element> values(a, p.v, sequence, query_head / (p.q_heads / p.kv_heads));
  // The same for all blocks of a head, which share its points in different ways.
  const bool few = p.budget >= splits && p.budget <= kFewPoints * splits;
  const float sum =
      few ? gather_few_points<Element, kHeadDim, kKind, kTrace>(
                a, shared, points, range, values, share.head, tiles, ruler.max_exponent)
          : gather_points<Element, kHeadDim, kKind, kTrace>(a, shared, points, range, values,
                                                            share.head, tiles, ruler.max_exponent);
  const float scale = flash ? 1.0F : 1.0F / static_cast<float>(p.budget);
  if (p.lse && share.split == 0 && threadIdx.x == 0) {
    // Z counts 2^(x - e_max) in units of 2^-30.
    p.lse[head] = (log2f(static_cast<float>(ruler.total)) - 24.0F - kMassGuardBits +
                   static_cast<float>(ruler.max_exponent)) /
                  kLog2E;
  }
  store_head<Element, kHeadDim>(a, share, cluster, sum, scale);
  if (a.signal_group > 0 && !p.keep_codes && sequence + 1 < p.batch && splits <= kMaxGatherCluster)
    discard_codes(a, share, tiles);
}

template <DrawKind kKind, bool kTrace>
struct Instances {
  template <class Element, int kHeadDim>
  struct Of {
    static Kernel kernel() { return select_gather<Element, kHeadDim, kKind, kTrace>; }
  };
};

template <DrawKind kKind>
Kernel of_kind(ElementType element, std::uint32_t head_dim, bool trace) {
  return trace ? instance<Instances<kKind, true>::template Of>(element, head_dim)
               : instance<Instances<kKind, false>::template Of>(element, head_dim);
}

}  // namespace

Kernel select_gather_kernel(const DecodeParams& params) {
  const bool trace = params.trace.row != nullptr;
  switch (params.method) {
    case Method::kFlash:
      return of_kind<DrawKind::kFlash>(params.element, params.head_dim, trace);
    case Method::kIid:
    case Method::kStratified:
      return of_kind<DrawKind::kOther>(params.element, params.head_dim, trace);
    default:
      return of_kind<DrawKind::kSystematic>(params.element, params.head_dim, trace);
  }
}

// Blocks that come when the score pass ends gather where it ends first; with so much shared memory
// at most three share a multiprocessor, and one still fits beside the score pass. Ternary blocks
// take more room.
std::size_t select_gather_shared_bytes(const DecodeParams& params, const Splits& splits) {
  constexpr std::size_t kSpreadBytes = 56 * 1024, kBesideTernary = 28 * 1024;
  const bool beside_ternary = splits.beside && params.ternary.draws > 0;
  return std::max(beside_ternary ? kBesideTernary : kSpreadBytes,
                  SelectShared{}.place(nullptr, params, max_tiles(params)));
}

}  // namespace stoat::gpu
