#include "numerics/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "numerics/digest.h"

namespace orcd::numerics {
namespace {

std::vector<float> random_values(size_t n, uint32_t seed, float scale = 1.0f) {
  std::mt19937 random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = (static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f) * 2.0f * scale;
  return x;
}

// Keys and values of n positions in pages; what no position has written is NaN, so that touching it shows.
struct Cache {
  Cache(uint32_t n, uint32_t dim, uint32_t seed, float scale) : head_dim(dim) {
    const uint32_t n_pages = (n + 63) / 64;
    const std::vector<float> ks = random_values(size_t{n} * dim, seed, scale),
                             vs = random_values(size_t{n} * dim, seed + 1);
    storage_k.assign(size_t{n_pages} * dim * 64, 0x7e00);
    storage_v.assign(size_t{n_pages} * dim * 64, 0x7e00);
    for (uint32_t p = 0; p < n; ++p) {
      for (uint32_t d = 0; d < dim; ++d) {
        storage_k[size_t{p / 64} * dim * 64 + d * 64 + p % 64] = float_to_half(ks[size_t{p} * dim + d]);
        storage_v[size_t{p / 64} * dim * 64 + p % 64 * dim + d] = float_to_half(vs[size_t{p} * dim + d]);
      }
    }
    for (uint32_t page = 0; page < n_pages; ++page) {
      k_pages.push_back(&storage_k[size_t{page} * dim * 64]);
      v_pages.push_back(&storage_v[size_t{page} * dim * 64]);
    }
  }
  float k(uint32_t p, uint32_t d) const { return half_to_float(k_pages[p / 64][d * 64 + p % 64]); }
  float v(uint32_t p, uint32_t d) const { return half_to_float(v_pages[p / 64][p % 64 * head_dim + d]); }

  uint32_t head_dim;
  std::vector<uint16_t> storage_k, storage_v;
  std::vector<const uint16_t*> k_pages, v_pages;
};

std::vector<float> attend(const Cache& cache, const std::vector<float>& q, uint32_t position, uint32_t window,
                          float cap) {
  std::vector<float> out(cache.head_dim), scratch(cache.head_dim);
  attention(q.data(), cache.k_pages.data(), cache.v_pages.data(), position, window, cache.head_dim, cap,
            out.data(), scratch.data());
  return out;
}

std::vector<double> plain_attention(const Cache& cache, const std::vector<float>& q, uint32_t position,
                                    uint32_t window, double cap) {
  const uint32_t begin = window && position + 1 > window ? position + 1 - window : 0;
  std::vector<double> scores, out(cache.head_dim);
  double sum = 0, max = -INFINITY;
  for (uint32_t p = begin; p <= position; ++p) {
    double s = 0;
    for (uint32_t d = 0; d < cache.head_dim; ++d) s += static_cast<double>(q[d]) * cache.k(p, d);
    scores.push_back(cap > 0 ? cap * std::tanh(s / cap) : s);
    max = std::max(max, scores.back());
  }
  for (double& s : scores) sum += s = std::exp(s - max);
  for (uint32_t p = begin; p <= position; ++p) {
    for (uint32_t d = 0; d < cache.head_dim; ++d) out[d] += scores[p - begin] / sum * cache.v(p, d);
  }
  return out;
}

TEST(Attention, IsSoftmaxOverTheVisibleKeys) {
  const Cache cache(700, 64, 1, 1.0f);
  const auto q = random_values(64, 9);
  for (const float cap : {0.0f, 5.0f}) {
    for (const uint32_t window : {0u, 1u, 63u, 64u, 100u, 512u, 5000u}) {
      for (const uint32_t position : {0u, 1u, 62u, 63u, 64u, 255u, 256u, 257u, 512u, 699u}) {
        const auto got = attend(cache, q, position, window, cap);
        const auto want = plain_attention(cache, q, position, window, cap);
        for (uint32_t d = 0; d < 64; ++d) ASSERT_NEAR(got[d], want[d], 2e-6) << window << " at " << position;
      }
    }
  }
}

TEST(Attention, KeysOutsideTheWindowAreNotTouched) {
  Cache cache(300, 32, 3, 1.0f);
  const auto q = random_values(32, 4);
  const auto want = attend(cache, q, 290, 40, 0.0f);
  for (uint32_t p = 0; p < 300; ++p) {
    if (p >= 251 && p <= 290) continue;
    for (uint32_t d = 0; d < 32; ++d) {
      cache.storage_k[size_t{p / 64} * 32 * 64 + d * 64 + p % 64] = 0x7e00;
      cache.storage_v[size_t{p / 64} * 32 * 64 + p % 64 * 32 + d] = 0x7c00;
    }
  }
  const auto got = attend(cache, q, 290, 40, 0.0f);
  for (uint32_t d = 0; d < 32; ++d) EXPECT_EQ(float_bits(got[d]), float_bits(want[d]));
  // Whole pages outside are not even looked up.
  for (uint32_t page = 0; page < 3; ++page) cache.k_pages[page] = cache.v_pages[page] = nullptr;
  EXPECT_EQ(attend(cache, q, 290, 40, 0.0f), want);
}

TEST(Attention, AWindowCountsTheQueryItself) {
  EXPECT_EQ(first_visible(10, 0), 0u);
  EXPECT_EQ(first_visible(10, 1), 10u);
  EXPECT_EQ(first_visible(10, 4), 7u);
  EXPECT_EQ(first_visible(10, 11), 0u);
  EXPECT_EQ(first_visible(10, 4000), 0u);
  const Cache cache(70, 32, 5, 1.0f);
  const auto out = attend(cache, random_values(32, 6), 69, 1, 0.0f);
  for (uint32_t d = 0; d < 32; ++d) EXPECT_EQ(out[d], cache.v(69, d));
}

TEST(Attention, LargeScoresNeitherOverflowNorVanish) {
  const Cache cache(600, 64, 7, 1.0f);
  std::vector<float> q = random_values(64, 8, 400.0f);
  const auto got = attend(cache, q, 599, 0, 0.0f);
  const auto want = plain_attention(cache, q, 599, 0, 0.0);
  for (uint32_t d = 0; d < 64; ++d) ASSERT_NEAR(got[d], want[d], 1e-3);
}

TEST(Attention, ASinkTakesPartInTheSoftmaxWithoutAValue) {
  const Cache cache(700, 64, 1, 1.0f);
  const auto q = random_values(64, 9);
  for (const uint32_t window : {0u, 128u}) {
    for (const uint32_t position : {0u, 63u, 300u, 699u}) {
      for (const float sink : {-30.0f, 0.0f, 6.0f, 40.0f}) {
        std::vector<float> got(64), scratch(64);
        attention(q.data(), cache.k_pages.data(), cache.v_pages.data(), position, window, 64, 0.0f,
                  got.data(), scratch.data(), &sink);
        // Without a sink the sum of the exponentials is `sum`; the sink's joins it.
        const auto without = plain_attention(cache, q, position, window, 0);
        double sum = 0;
        for (uint32_t p = window && position + 1 > window ? position + 1 - window : 0; p <= position; ++p) {
          double s = 0;
          for (uint32_t d = 0; d < 64; ++d) s += static_cast<double>(q[d]) * cache.k(p, d);
          sum += std::exp(s);
        }
        const double share = sum / (sum + std::exp(static_cast<double>(sink)));
        for (uint32_t d = 0; d < 64; ++d)
          ASSERT_NEAR(got[d], without[d] * share, 2e-6) << sink << " " << position;
      }
    }
  }
}

TEST(Attention, ASinkIsAddedAfterTheLastSplit) {
  SoftmaxState state{2.0f, 3.0f};
  float o[2] = {5.0f, -7.0f};
  add_sink(1.0f, &state, o, 2);  // below the maximum: only the sum changes
  EXPECT_EQ(state.max, 2.0f);
  EXPECT_EQ(state.sum, fma_rn(3.0f, 1.0f, exp_f32(-1.0f)));
  EXPECT_EQ(o[0], 5.0f);
  state = {2.0f, 3.0f};
  add_sink(2.5f, &state, o, 2);  // above it: everything is rescaled
  EXPECT_EQ(state.max, 2.5f);
  EXPECT_EQ(state.sum, fma_rn(3.0f, exp_f32(-0.5f), 1.0f));
  EXPECT_EQ(o[1], -7.0f * exp_f32(-0.5f));
}

TEST(Attention, ANanInAVisibleKeyShows) {
  Cache cache(100, 32, 5, 1.0f);
  cache.storage_k[64 * 32 + 20] = 0x7e00;
  const auto out = attend(cache, random_values(32, 6), 99, 0, 0.0f);
  EXPECT_TRUE(is_nan(out[0]));
}

TEST(Attention, BitsAreThoseOfVersion1) {
  Digest digest;
  uint64_t index = 0;
  for (const uint32_t head_dim : {32u, 64u, 96u, 128u, 256u}) {
    const Cache cache(900, head_dim, head_dim, 1.5f);
    for (const uint32_t window : {0u, 300u}) {
      for (const uint32_t position : {0u, 63u, 64u, 100u, 200u, 255u, 300u, 500u, 700u, 899u}) {
        const auto q = random_values(head_dim, head_dim + position, 1.0f);
        for (const float value : attend(cache, q, position, window, position == 300 ? 20.0f : 0.0f)) {
          digest_add(&digest, float_bits(value), index++);
        }
      }
    }
  }
  EXPECT_EQ(digest, (Digest{0x6ce7e424e43e7526ull, 0xe7d8c7f634006f44ull}))
      << std::hex << "{0x" << digest.a << "ull, 0x" << digest.b << "ull}";
}

TEST(Norm, TreeAddsHalvesOnHalves) {
  // (0 + 2) + (1 + 3): of these values only that order keeps both ones.
  float lanes[4] = {16777216.0f, 1.0f, -16777216.0f, 1.0f};
  EXPECT_EQ(tree_sum(lanes, 4), 2.0f);
  float pairs[4] = {16777216.0f, -16777216.0f, 1.0f, 1.0f};
  EXPECT_EQ(tree_sum(pairs, 4), 1.0f);  // 2^24 + 1 rounds to 2^24; neighbours first would give 2
}

TEST(Norm, LanesAreStridedBy256) {
  // Elements 0 and 256 share a lane: 1 added to 2^24 in the chain is lost, in the tree it is lost as well;
  // two ones in one other lane add up first.
  std::vector<float> x(512, 0.0f);
  x[0] = 4096.0f;
  x[1] = 1.0f;
  x[257] = 1.0f;
  EXPECT_EQ(sum_squares(x.data(), 512), 16777218.0f);
  x[257] = 0.0f;
  x[2] = 0.0f;
  x[256] = 1.0f;
  EXPECT_EQ(sum_squares(x.data(), 512), 16777216.0f);
}

TEST(Norm, RmsAndLayerNormAreTheirFormulas) {
  for (const uint32_t n : {64u, 576u, 640u, 1000u}) {
    const auto x = random_values(n, n), w = random_values(n, n + 1), b = random_values(n, n + 2);
    double mean = 0, square = 0, variance = 0;
    for (const float v : x) mean += v / static_cast<double>(n);
    for (const float v : x) {
      square += static_cast<double>(v) * v / n;
      variance += (v - mean) * (v - mean) / n;
    }
    std::vector<float> rms(n), layer(n);
    rms_norm(x.data(), n, w.data(), 1e-5f, rms.data());
    layer_norm(x.data(), n, w.data(), b.data(), 1e-5f, layer.data());
    for (uint32_t i = 0; i < n; ++i) {
      ASSERT_NEAR(rms[i], x[i] / std::sqrt(square + 1e-5) * w[i], 1e-6);
      ASSERT_NEAR(layer[i], (x[i] - mean) / std::sqrt(variance + 1e-5) * w[i] + b[i], 1e-6);
    }
    std::vector<float> in_place = x;
    rms_norm(in_place.data(), n, w.data(), 1e-5f, in_place.data());
    EXPECT_EQ(in_place, rms);
  }
}

TEST(Norm, BitsAreThoseOfVersion1) {
  Digest digest;
  uint64_t index = 0;
  for (const uint32_t n : {64u, 100u, 256u, 576u, 4096u}) {
    const auto x = random_values(n, n), w = random_values(n, n + 1), b = random_values(n, n + 2);
    std::vector<float> y(n);
    rms_norm(x.data(), n, w.data(), 1e-6f, y.data());
    for (const float v : y) digest_add(&digest, float_bits(v), index++);
    layer_norm(x.data(), n, w.data(), b.data(), 1e-5f, y.data());
    for (const float v : y) digest_add(&digest, float_bits(v), index++);
  }
  EXPECT_EQ(digest, (Digest{0x72e550018ca9234full, 0xda1f62474f0ed17ull}))
      << std::hex << "{0x" << digest.a << "ull, 0x" << digest.b << "ull}";
}

}  // namespace
}  // namespace orcd::numerics
