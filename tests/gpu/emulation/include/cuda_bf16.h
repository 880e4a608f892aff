// In place of CUDA's header, for kernels that run on the CPU.
#pragma once

#include "tests/gpu/emulation/cuda_words.h"
