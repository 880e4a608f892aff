// In place of CUDA's header, for kernels that run on the CPU: a launch runs before it returns.
#pragma once

#include "tests/gpu/emulation/cuda_words.h"
#include "tests/gpu/emulation/runtime.h"
