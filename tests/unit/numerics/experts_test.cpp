#include "numerics/experts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "numerics/digest.h"

namespace orcd::numerics {
namespace {

struct Routed {
  std::vector<uint32_t> experts;
  std::vector<float> weights;
};

Routed routed(const std::vector<float>& logits, uint32_t n_used) {
  Routed out{std::vector<uint32_t>(n_used), std::vector<float>(n_used)};
  route(logits.data(), static_cast<uint32_t>(logits.size()), n_used, out.experts.data(), out.weights.data());
  return out;
}

std::vector<float> random_logits(uint32_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> logits(n);
  for (float& v : logits) v = (static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f) * 8.0f;
  return logits;
}

TEST(Route, TakesTheLargestInOrderAndTiesGoToTheLowestExpert) {
  EXPECT_EQ(routed({0.5f, 2.0f, -1.0f, 2.0f, 2.0f, 3.0f}, 4).experts, (std::vector<uint32_t>{5, 1, 3, 4}));
  EXPECT_EQ(routed({1.0f, 1.0f, 1.0f, 1.0f}, 3).experts, (std::vector<uint32_t>{0, 1, 2}));
  EXPECT_EQ(routed({-0.0f, 0.0f, -0.0f}, 3).experts, (std::vector<uint32_t>{0, 1, 2}));
  EXPECT_EQ(routed({-5.0f, -3.0f, -4.0f}, 2).experts, (std::vector<uint32_t>{1, 2}));
}

TEST(Route, EqualsAStableSort) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::vector<float> logits = random_logits(32, seed);
    for (float& v : logits) v = std::round(v);  // many ties
    std::vector<uint32_t> order(32);
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(),
                     [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
    order.resize(8);
    ASSERT_EQ(routed(logits, 8).experts, order);
  }
}

TEST(Route, WeightsAreTheSoftmaxOverTheChosen) {
  const std::vector<float> logits = random_logits(128, 7);
  const Routed got = routed(logits, 8);
  double sum = 0, total = 0;
  for (const uint32_t expert : got.experts) sum += std::exp(static_cast<double>(logits[expert]));
  for (uint32_t rank = 0; rank < 8; ++rank) {
    EXPECT_NEAR(got.weights[rank], std::exp(static_cast<double>(logits[got.experts[rank]])) / sum, 1e-7);
    total += got.weights[rank];
  }
  EXPECT_NEAR(total, 1.0, 1e-6);
  EXPECT_EQ(routed({3.0f, 9.0f}, 1).weights[0], 1.0f);
}

TEST(Route, TheSumIsTakenInOrderOfRank) {
  // 1 + 2^-24 + 2^-24 is 1 from the left and more than 1 from the right.
  const float tiny = std::log(0x1p-24f);
  const float p = exp_f32(tiny);
  ASSERT_EQ(1.0f + p, 1.0f);
  ASSERT_GT(1.0f + (p + p), 1.0f);
  EXPECT_EQ(routed({0.0f, tiny, tiny}, 3).weights[0], 1.0f);
}

TEST(Route, ANanIsChosenFirstAndShows) {
  const Routed got = routed({1.0f, 5.0f, NAN, 2.0f, -NAN}, 2);
  EXPECT_EQ(got.experts, (std::vector<uint32_t>{2, 4}));
  EXPECT_TRUE(is_nan(got.weights[0]));
  EXPECT_TRUE(is_nan(routed({1.0f, INFINITY}, 1).weights[0]));
  const Routed none = routed({-INFINITY, -INFINITY, -INFINITY}, 2);
  EXPECT_EQ(none.experts, (std::vector<uint32_t>{0, 1}));
  EXPECT_TRUE(is_nan(none.weights[0]));
}

TEST(Combine, StartsWithAProductAndGoesOnWithFmas) {
  float y = bits_float(0x7fc00000u);  // whatever was there is not read
  y = combine_expert(0, 0.5f, 3.0f, y);
  EXPECT_EQ(y, 1.5f);
  // A third of three in one rounding: the product alone would round first.
  const float third = 1.0f / 3.0f;
  EXPECT_EQ(combine_expert(1, third, 3.0f, -1.0f), fma_rn(third, 3.0f, -1.0f));
  EXPECT_NE(combine_expert(1, third, 3.0f, -1.0f), third * 3.0f - 1.0f);
}

TEST(Experts, BitsAreThoseOfVersion1) {
  Digest digest;
  uint64_t index = 0;
  for (const uint32_t n_experts : {2u, 8u, 32u, 128u}) {
    for (uint32_t seed = 0; seed < 20; ++seed) {
      const Routed got = routed(random_logits(n_experts, seed), std::min(n_experts, 8u));
      const std::vector<float> outputs = random_logits(8, seed + 1000);
      float y = 0;
      for (uint32_t rank = 0; rank < got.experts.size(); ++rank) {
        digest_add(&digest, uint64_t{got.experts[rank]} << 32 | float_bits(got.weights[rank]), index++);
        y = combine_expert(rank, got.weights[rank], outputs[rank], y);
      }
      digest_add(&digest, float_bits(y), index++);
    }
  }
  EXPECT_EQ(digest, (Digest{0xaff9823e768b369full, 0xdbf2ba18575c4b8bull}))
      << std::hex << "{0x" << digest.a << "ull, 0x" << digest.b << "ull}";
}

}  // namespace
}  // namespace orcd::numerics
