// The kernels that write the caches: the feature-major copy of K holds every row, and appended
// tokens land where the caches keep them, in any layout. Skipped without a device.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/gpu/attention_expect.h"
#include "tests/gpu/feature_case.h"

namespace stoat::gpu {
namespace {

using KvAppendOnDeviceSmall = OnDevice;  // what compute-sanitizer runs

// What the transposed copy should hold, from the host's rows.
TEST_F(KvAppendOnDeviceSmall, TheFeatureMajorCopyHoldsEveryRow) {
  for (const std::uint32_t page : {0U, 64U, 256U}) {
    for (const KvLayout layout : {KvLayout::kNhd, KvLayout::kHnd}) {
      Shape shape = shape_of({1, 63, 64, 65, 700}, 1);
      shape.page_size = page;
      shape.layout = layout;
      AttentionCase on(shape, 86);
      on.upload();
      const DecodeParams p = on.params();
      const std::vector<std::uint16_t> copy = features_of(on).to_host();
      std::vector<std::int32_t> indptr(on.batch() + 1), indices;
      if (page != 0) {
        cuda_check(cudaMemcpy(indptr.data(), p.indptr, indptr.size() * 4, cudaMemcpyDeviceToHost));
        indices.resize(static_cast<std::size_t>(indptr.back()));
        cuda_check(
            cudaMemcpy(indices.data(), p.indices, indices.size() * 4, cudaMemcpyDeviceToHost));
      }
      const std::size_t rows = page == 0 ? feature_capacity(p) : page;
      for (std::uint32_t s = 0; s < on.batch(); ++s) {
        for (std::uint32_t h = 0; h < 2; ++h) {
          const KvRows keys = on.keys(s, h);
          for (std::uint32_t row = 0; row < keys.context_len; ++row) {
            const std::size_t slot =
                page == 0 ? s
                          : static_cast<std::size_t>(
                                indices[static_cast<std::size_t>(indptr[s]) + row / page]);
            for (std::uint32_t d = 0; d < 128; ++d)
              ASSERT_EQ(copy[((slot * 2 + h) * 128 + d) * rows + row % rows],
                        keys.data[row * 128 + d].bits)
                  << "page " << page << ", row " << row;
          }
        }
      }
    }
  }
}

// Appending the last tokens again to caches that have lost them brings back the same bytes.
TEST_F(KvAppendOnDeviceSmall, AppendedTokensLandWhereTheCachesKeepThem) {
  for (const std::uint32_t page : {0U, 1U, 16U, 64U}) {
    for (const KvLayout layout : {KvLayout::kNhd, KvLayout::kHnd}) {
      Shape shape = shape_of({5, 64, 65, 700}, 2);
      shape.page_size = page;
      shape.layout = layout;
      AttentionCase on(shape, 87);
      on.upload();
      const DecodeParams p = on.params();
      const bool with_features = page == 0 || page >= 64;
      for (const std::uint32_t tokens : {1U, 5U}) {
        DeviceArray<std::uint16_t> features =
            with_features ? features_of(on) : DeviceArray<std::uint16_t>(1);
        std::vector<std::uint16_t> k_new, v_new;
        for (std::uint32_t s = 0; s < on.batch(); ++s) {
          for (std::uint32_t t = 0; t < tokens; ++t) {
            for (std::uint32_t h = 0; h < 2; ++h) {
              const std::size_t row = shape.contexts[s] - tokens + t;
              for (std::uint32_t d = 0; d < 128; ++d) {
                k_new.push_back(on.keys(s, h).data[row * 128 + d].bits);
                v_new.push_back(on.values(s, h).data[row * 128 + d].bits);
              }
            }
          }
        }
        const std::size_t rows = page == 0 ? p.kv_capacity : page;
        std::size_t slots = on.batch();
        if (page != 0) {
          slots = 1;
          for (const std::uint32_t context : shape.contexts) slots += (context + page - 1) / page;
        }
        const std::size_t elements = slots * rows * 2 * 128;
        const auto read = [&](const void* from, std::size_t n) {
          std::vector<std::uint16_t> host(n);
          cuda_check(cudaMemcpy(host.data(), from, n * 2, cudaMemcpyDeviceToHost));
          return host;
        };
        const auto k = read(p.k, elements), v = read(p.v, elements), f = features.to_host();
        // Other bytes at the new tokens' places, then the tokens.
        const DeviceArray<std::uint16_t> junk(std::vector<std::uint16_t>(k_new.size(), 0x1234));
        const DeviceArray<std::uint16_t> new_k(k_new), new_v(v_new);
        KvAppendParams cache = cache_of(p, tokens, with_features ? features.get() : nullptr);
        cache.k_new = cache.v_new = junk.get();
        launch_append(cache, nullptr);
        EXPECT_NE(read(p.k, elements), k);
        EXPECT_NE(read(p.v, elements), v);
        if (with_features) {
          EXPECT_NE(features.to_host(), f);
        }
        cache.k_new = new_k.get();
        cache.v_new = new_v.get();
        launch_append(cache, nullptr);
        EXPECT_EQ(read(p.k, elements), k) << "page " << page;
        EXPECT_EQ(read(p.v, elements), v) << "page " << page;
        EXPECT_EQ(features.to_host(), f) << "page " << page;
      }
    }
  }
}

}  // namespace
}  // namespace stoat::gpu
