// The CUDA decoder and its timing in a build without CUDA.
#include "gpu/accuracy.h"
#include "gpu/decoder.h"
#include "gpu/llm/step_bench.h"
#include "models/error.h"

namespace stoat {

std::unique_ptr<Decoder> make_cuda_decoder(const CapturePlan&, ThreadPool&) {
  throw resource_error({"--backend cuda"}, cuda_obstacle(), "", "use --backend cpu");
}

std::unique_ptr<AccuracyDecoder> make_cuda_accuracy_decoder(const AccuracyDecoderNeeds&,
                                                            ThreadPool&) {
  throw resource_error({"--backend cuda"}, cuda_obstacle(), "", "use --backend cpu");
}

int step_bench_main(int, char**) { throw resource_error({}, cuda_obstacle()); }

}  // namespace stoat
