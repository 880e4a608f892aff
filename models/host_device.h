// STOAT_HD marks a function that runs on the host and on a GPU. It is all that models/ knows of
// CUDA.
#pragma once

#if defined(__CUDACC__)
#define STOAT_HD __host__ __device__ __forceinline__
#else
#define STOAT_HD inline
#endif
