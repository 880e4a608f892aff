// Checks a DecodeParams, places its workspace and queues its one or two kernels.
#include "gpu/attention/decode_launch.h"

#include <bit>

#include "gpu/attention/gather.cuh"
#include "gpu/attention/kernels.cuh"
#include "gpu/attention/ternary_launch.h"
#include "models/error.h"

namespace stoat::gpu {

namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw resource_error({"CUDA"}, std::string(what) + ": " + cudaGetErrorString(status),
                       "a working device", "use the CPU backend");
}

Workspace place(const DecodeParams& params, const WorkspaceLayout& layout) {
  auto* base = static_cast<std::byte*>(params.workspace);
  return {reinterpret_cast<std::uint32_t*>(base + layout.lut),
          reinterpret_cast<std::uint32_t*>(base + layout.counter),
          reinterpret_cast<std::uint32_t*>(base + layout.ready),
          reinterpret_cast<std::uint32_t*>(base + layout.seen),
          reinterpret_cast<std::uint16_t*>(base + layout.code),
          reinterpret_cast<std::int32_t*>(base + layout.exponent),
          reinterpret_cast<std::uint64_t*>(base + layout.mass),
          reinterpret_cast<std::uint32_t*>(base + layout.part),
          reinterpret_cast<std::uint32_t*>(base + layout.next_tile),
          reinterpret_cast<float*>(base + layout.partial),
          reinterpret_cast<float*>(base + layout.partial_max),
          reinterpret_cast<float*>(base + layout.partial_sum)};
}

LaunchArguments arguments_of(const DecodeParams& params) {
  if (std::string why = refusal(params); !why.empty()) throw usage_error({"GPU attention"}, why);
  const Splits splits = choose_splits(params, device_multiprocessors());
  const WorkspaceLayout layout = workspace_layout(params, splits);
  if (params.workspace_size < layout.bytes)
    throw usage_error({"GPU attention"},
                      "a workspace of " + std::to_string(params.workspace_size) + " bytes",
                      std::to_string(layout.bytes) + " bytes (workspace_bytes)");
  const bool nhd = params.kv_layout == KvLayout::kNhd;
  const std::size_t rows = params.page_size == 0 ? params.kv_capacity : params.page_size;
  return {params,
          place(params, layout),
          nhd ? std::size_t{params.kv_heads} * params.head_dim : params.head_dim,
          rows * params.kv_heads * params.head_dim,
          static_cast<std::uint32_t>(std::countr_zero(params.page_size)),
          max_tiles(params),
          1U << 31,
          0,
          splits.whole_sequences * params.q_heads,
          splits};
}

// Programmatic dependent launch and clusters exist from Hopper on.
bool is_hopper_or_later() {
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "cudaDeviceGetAttribute");
  return major >= 9;
}

// A kernel that may start while the one before it ends; it waits for what that one writes.
// cluster: blocks along x that are one.
void launch(Kernel kernel, dim3 grid, std::size_t shared_bytes, const LaunchArguments& arguments,
            Stream stream, std::uint32_t cluster = 1) {
  if (shared_bytes > 0) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "dynamic shared memory");
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared),
          "shared memory carve-out");
  }
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = cluster;
  attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = attributes;
  config.numAttrs = !is_hopper_or_later() ? 0 : cluster > 1 ? 2 : 1;
  check(cudaLaunchKernelEx(&config, kernel, arguments), "kernel launch");
}

void launch_score(const LaunchArguments& arguments, Stream stream) {
  const DecodeParams& p = arguments.params;
  const bool ternary = p.ternary.draws > 0;
  const bool several_tiles =
      std::size_t{max_tiles(p)} * p.batch * p.kv_heads > arguments.splits.score;
  launch(ternary ? ternary_score_kernel(p, arguments.splits.beside)
                 : score_kernel(p.element, p.head_dim, several_tiles),
         dim3(arguments.splits.score),
         ternary ? ternary_shared_bytes(p) : key_ring_bytes(p.head_dim), arguments, stream);
}

}  // namespace

std::uint32_t device_multiprocessors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
        "cudaDeviceGetAttribute");
  return static_cast<std::uint32_t>(count);
}

void prepare_workspace(const DecodeParams& params, Stream stream) {
  const LaunchArguments arguments = arguments_of(params);
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  check(
      cudaMemcpyAsync(arguments.workspace.lut, weight_lut(), kWeightLutSize * sizeof(std::uint32_t),
                      cudaMemcpyHostToDevice, cuda_stream),
      "copy of the weight table");
  const std::size_t heads = std::size_t{params.batch} * params.q_heads;
  check(cudaMemsetAsync(arguments.workspace.counter, 0, heads * sizeof(std::uint32_t), cuda_stream),
        "cudaMemsetAsync");
  check(cudaMemsetAsync(arguments.workspace.next_tile, 0, sizeof(std::uint32_t), cuda_stream),
        "cudaMemsetAsync");
  for (std::uint32_t* counts : {arguments.workspace.ready, arguments.workspace.seen})
    check(cudaMemsetAsync(counts, 0, params.batch * sizeof(std::uint32_t), cuda_stream),
          "cudaMemsetAsync");
  check(cudaStreamSynchronize(cuda_stream), "prepare_workspace");
}

void launch_score(const DecodeParams& params, Stream stream) {
  LaunchArguments arguments = arguments_of(params);
  if (params.method == Method::kDense)
    throw usage_error({"GPU attention"}, "dense attention", "a sampled method",
                      "dense has no score pass of its own");
  // Nobody reads the codes: they stay where those of a decode stay.
  if (!params.keep_codes) arguments.code_places = code_places(params);
  launch_score(arguments, stream);
}

void launch_decode(const DecodeParams& params, Stream stream) {
  LaunchArguments arguments = arguments_of(params);
  if (params.method == Method::kDense) {
    launch(dense_kernel(params.element, params.head_dim),
           dim3(arguments.splits.score, params.batch * params.kv_heads),
           ring_bytes(params.head_dim), arguments, stream);
    return;
  }
  const bool topk = params.method == Method::kTopK;
  if (arguments.splits.beside) arguments.signal_group = arguments.splits.signal_group;
  launch_score(arguments, stream);
  launch(topk ? select_topk_kernel(params) : select_gather_kernel(params),
         dim3(arguments.splits.gather, params.batch * params.q_heads - arguments.whole_heads +
                                           arguments.whole_heads / arguments.splits.gather),
         topk ? select_topk_shared_bytes(params)
              : select_gather_shared_bytes(params, arguments.splits),
         arguments, stream,
         arguments.splits.gather <= kMaxGatherCluster ? arguments.splits.gather : 1);
}

}  // namespace stoat::gpu
