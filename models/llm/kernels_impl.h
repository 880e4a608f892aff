// The bodies of models/llm/kernels.h for vectors of W floats; included by one .cpp per instruction
// set.
//
// Everything is in an unnamed namespace and nothing of the standard library is called, so that no
// function compiled for a wider instruction set can be picked by the linker for all. The result
// does not depend on W, see kernels.h. exp: argument reduction and polynomial after Cephes' expf
// (S. Moshier), coefficients by minimax on [-ln2/2, ln2/2].
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/llm/kernels.h"

namespace stoat {
namespace {

constexpr std::size_t kLanes = 16;  // lanes of every reduction, whatever W
constexpr std::size_t kDepth =
    256;  // k is cut in blocks of this many, so that a panel block stays in the L1 cache

template <int W>
struct Simd {
  typedef float F __attribute__((vector_size(W * 4)));
  typedef std::int32_t I __attribute__((vector_size(W * 4)));

  static inline F load(const float* p) {
    F v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static inline void store(float* p, F v) { __builtin_memcpy(p, &v, sizeof v); }
  static inline F all(float x) { return x - F{}; }  // broadcast; x - 0 is x, signs included
  static inline F load_bf16(const std::uint16_t* p) {
    std::uint32_t u[W];
    for (int i = 0; i < W; ++i) u[i] = static_cast<std::uint32_t>(p[i]) << 16;
    F v;
    __builtin_memcpy(&v, u, sizeof v);
    return v;
  }
  static inline F pick(I mask, F yes, F no) {
    I a, b;
    __builtin_memcpy(&a, &yes, sizeof a);
    __builtin_memcpy(&b, &no, sizeof b);
    const I r = (a & mask) | (b & ~mask);
    F v;
    __builtin_memcpy(&v, &r, sizeof v);
    return v;
  }

  static inline F exp(F x) {
    const F low = all(-87.3F), high = all(88.3F),
            magic = all(12582912.0F);  // 1.5 * 2^23 rounds to nearest
    const I tiny = x < low;
    F t = pick(tiny, low, x);
    t = pick(t > high, high, t);
    const F biased = t * all(1.44269504088896341F) + magic;
    const F n = biased - magic;
    const F r = (t - n * all(0.693359375F)) - n * all(-2.12194440e-4F);
    F p = all(1.9875691500e-4F);
    p = p * r + all(1.3981999507e-3F);
    p = p * r + all(8.3334519073e-3F);
    p = p * r + all(4.1665795894e-2F);
    p = p * r + all(1.6666665459e-1F);
    p = p * r + all(5.0000001201e-1F);
    const F e = (p * r * r + r) + all(1.0F);
    I bits;
    __builtin_memcpy(&bits, &biased, sizeof bits);
    const I scale_bits =
        (bits << 23) + 0x3f800000;  // low bits of `biased` are n; the rest is shifted out
    F scale;
    __builtin_memcpy(&scale, &scale_bits, sizeof scale);
    return pick(tiny, F{}, e * scale);
  }
};

inline float tree_sum(float* lane) {  // fixed order: 8 apart, 4, 2, 1
  for (std::size_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::size_t i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
}

// MR rows by NV vectors of columns over `depth` values of k.
template <int W, int MR, int NV>
inline void micro_kernel(const float* x, std::size_t ldx, const float* panel, std::size_t depth,
                         float* y, std::size_t ldy, bool add) {
  using S = Simd<W>;
  typename S::F acc[MR][NV];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = add ? S::load(y + r * ldy + v * W) : typename S::F{};
  }
  for (std::size_t j = 0; j < depth; ++j) {
    typename S::F w[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) w[v] = S::load(panel + j * kPanel + v * W);
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const float scalar = x[r * ldx + j];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[r][v] = acc[r][v] + scalar * w[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) S::store(y + r * ldy + v * W, acc[r][v]);
  }
}

// All rows of one panel: tiles of MR rows, then single rows.
template <int W, int MR, int NV>
inline void panel_rows(const float* x, std::size_t ldx, std::size_t rows, const float* panel,
                       std::size_t depth, float* y, std::size_t ldy, bool add) {
  std::size_t r = 0;
  for (; r + MR <= rows; r += MR) {
    for (std::size_t c = 0; c < kPanel; c += W * NV) {
      micro_kernel<W, MR, NV>(x + r * ldx, ldx, panel + c, depth, y + r * ldy + c, ldy, add);
    }
  }
  for (; r < rows; ++r) {
    micro_kernel<W, 1, static_cast<int>(kPanel) / W>(x + r * ldx, ldx, panel, depth, y + r * ldy,
                                                     ldy, add);
  }
}

template <int W, int MR, int NV>
void gemm(const float* x, std::size_t ldx, std::size_t rows, const float* panels, std::size_t k,
          std::size_t columns, float* y, std::size_t ldy, bool accumulate) {
  const std::size_t whole = columns / kPanel, rest = columns % kPanel;
  for (std::size_t k0 = 0; k0 < k; k0 += kDepth) {
    const std::size_t depth = k - k0 < kDepth ? k - k0 : kDepth;
    const bool add = accumulate || k0 > 0;
    for (std::size_t p = 0; p < whole; ++p) {
      panel_rows<W, MR, NV>(x + k0, ldx, rows, panels + (p * k + k0) * kPanel, depth,
                            y + p * kPanel, ldy, add);
    }
  }
  if (rest == 0) return;
  // The last, narrow panel: row by row through a full-width line.
  const float* panel = panels + whole * k * kPanel;
  for (std::size_t r = 0; r < rows; ++r) {
    float line[kPanel] = {};
    float* out = y + r * ldy + whole * kPanel;
    for (std::size_t c = 0; accumulate && c < rest; ++c) line[c] = out[c];
    panel_rows<W, MR, NV>(x + r * ldx, ldx, 1, panel, k, line, kPanel, true);
    for (std::size_t c = 0; c < rest; ++c) out[c] = line[c];
  }
}

template <int W>
void softmax_tile(float* s, std::size_t visible, float* maximum, float* sum, float* out,
                  std::size_t width) {
  using S = Simd<W>;
  for (std::size_t i = visible; i < kKeyTile; ++i) s[i] = visible == 0 ? 0.0F : -__builtin_inff();
  if (visible == 0) return;
  typename S::F top = S::load(s);
  for (std::size_t i = W; i < kKeyTile; i += W) {
    const typename S::F v = S::load(s + i);
    top = S::pick(v > top, v, top);
  }
  float largest = *maximum;
  for (int i = 0; i < W; ++i) largest = top[i] > largest ? top[i] : largest;
  if (largest > *maximum) {
    float rescale[W];
    S::store(rescale, S::exp(S::all(*maximum) - S::all(largest)));
    for (std::size_t i = 0; i < width; i += W) S::store(out + i, S::load(out + i) * rescale[0]);
    *sum *= rescale[0];
    *maximum = largest;
  }
  const typename S::F shift = S::all(largest);
  float lane[kLanes] = {};
  for (std::size_t l = 0; l < kLanes; l += W) {
    typename S::F total{};
    for (std::size_t i = l; i < kKeyTile; i += kLanes) {
      const typename S::F p = S::exp(S::load(s + i) - shift);
      S::store(s + i, p);
      total += p;
    }
    S::store(lane + l, total);
  }
  *sum += tree_sum(lane);
}

template <int W>
void pack_keys(const std::uint16_t* rows, std::size_t stride, std::size_t count,
               std::size_t head_dim, float* panels) {
  for (std::size_t p = 0; p < kKeyTile / kPanel; ++p) {
    float* panel = panels + p * head_dim * kPanel;
    for (std::size_t lane = 0; lane < kPanel; ++lane) {
      const std::size_t key = p * kPanel + lane;
      if (key >= count) {
        for (std::size_t j = 0; j < head_dim; ++j) panel[j * kPanel + lane] = 0.0F;
        continue;
      }
      const std::uint16_t* row = rows + key * stride;
      std::size_t j = 0;
      for (; j + W <= head_dim; j += W) {
        const typename Simd<W>::F v = Simd<W>::load_bf16(row + j);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) panel[(j + i) * kPanel + lane] = v[i];
      }
      for (; j < head_dim; ++j) {
        const std::uint32_t bits = static_cast<std::uint32_t>(row[j]) << 16;
        __builtin_memcpy(&panel[j * kPanel + lane], &bits, sizeof bits);
      }
    }
  }
}

template <int W>
void pack_values(const std::uint16_t* rows, std::size_t stride, std::size_t count,
                 std::size_t head_dim, float* panels) {
  for (std::size_t d0 = 0; d0 < head_dim; d0 += kPanel) {
    float* panel = panels + d0 * kKeyTile;
    const std::size_t width = head_dim - d0 < kPanel ? head_dim - d0 : kPanel;
    for (std::size_t key = 0; key < kKeyTile; ++key) {
      float* line = panel + key * kPanel;
      if (key < count && width == kPanel) {
        for (std::size_t j = 0; j < kPanel; j += W) {
          Simd<W>::store(line + j, Simd<W>::load_bf16(rows + key * stride + d0 + j));
        }
        continue;
      }
      for (std::size_t j = 0; j < kPanel; ++j) {
        const std::uint32_t bits =
            key < count && j < width ? static_cast<std::uint32_t>(rows[key * stride + d0 + j]) << 16
                                     : 0;
        __builtin_memcpy(line + j, &bits, sizeof bits);
      }
    }
  }
}

template <int W>
void rms_norm(const float* x, const float* weight, std::size_t n, float eps, float* y) {
  float lane[kLanes] = {};
  const std::size_t even = n - n % kLanes;
  for (std::size_t l = 0; l < kLanes; l += W) {
    typename Simd<W>::F total{};
    for (std::size_t i = l; i < even; i += kLanes) {
      const typename Simd<W>::F v = Simd<W>::load(x + i);
      total += v * v;
    }
    Simd<W>::store(lane + l, total);
  }
  for (std::size_t i = even; i < n; ++i) lane[i - even] += x[i] * x[i];
  const float mean = tree_sum(lane) / static_cast<float>(n);
  const float scale = 1.0F / __builtin_sqrtf(mean + eps);
  for (std::size_t i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

template <int W>
void exponential(const float* x, std::size_t n, float* y) {
  std::size_t i = 0;
  for (; i + W <= n; i += W) Simd<W>::store(y + i, Simd<W>::exp(Simd<W>::load(x + i)));
  if (i == n) return;
  float line[W] = {};
  for (std::size_t j = i; j < n; ++j) line[j - i] = x[j];
  Simd<W>::store(line, Simd<W>::exp(Simd<W>::load(line)));
  for (std::size_t j = i; j < n; ++j) y[j] = line[j - i];
}

template <int W>
void silu_times(const float* gate, const float* up, std::size_t n, float* out) {
  using S = Simd<W>;
  std::size_t i = 0;
  for (; i + W <= n; i += W) {
    const typename S::F g = S::load(gate + i);
    S::store(out + i, g / (S::all(1.0F) + S::exp(-g)) * S::load(up + i));
  }
  for (; i < n; ++i) {
    const float negative = -gate[i];
    float e = 0;
    exponential<W>(&negative, 1, &e);
    out[i] = gate[i] / (1.0F + e) * up[i];
  }
}

void rotate(float* x, const float* cos, const float* sin, std::size_t half) {
  for (std::size_t j = 0; j < half; ++j) {
    const float a = x[j], b = x[j + half];
    x[j] = a * cos[j] - b * sin[j];
    x[j + half] = b * cos[j] + a * sin[j];
  }
}

template <int W, int MR, int NV>
constexpr Kernels make_kernels(const char* name) {
  return Kernels{name,        gemm<W, MR, NV>, softmax_tile<W>, pack_keys<W>,  pack_values<W>,
                 rms_norm<W>, silu_times<W>,   rotate,          exponential<W>};
}

}  // namespace
}  // namespace stoat
