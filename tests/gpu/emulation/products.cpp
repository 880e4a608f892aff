// The kernels of gpu/llm for few rows, on the CPU as they are written.
#include "gpu/llm/pointwise.cu"
#include "gpu/llm/skinny.cu"
