#include "engine/token_logprobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "numerics/functions.h"
#include "numerics/rope.h"

namespace orcd::engine {
namespace {

std::vector<float> random_row(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> row(n);
  for (float& logit : row) logit = static_cast<float>(random() % 4000) / 100.0f - 20.0f;
  return row;
}

double exact(const std::vector<float>& row, int32_t id) {
  long double sum = 0;
  for (const float logit : row) sum += std::exp(static_cast<long double>(logit));
  return static_cast<double>(static_cast<long double>(row[static_cast<size_t>(id)]) - std::log(sum));
}

TEST(TokenLogprobs, AreTheLogarithmsOfTheSoftmax) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> row = random_row(1 + seed * 1000, seed);
    const auto chosen = static_cast<int32_t>(seed * 500 % row.size());
    const std::vector<TokenLogprob> got = token_logprobs(row, chosen, 0);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].id, chosen);
    EXPECT_NEAR(got[0].logprob, exact(row, chosen), 4e-6);
  }
}

TEST(TokenLogprobs, TheLikeliestComeInOrderAndTiesByTheLowestId) {
  const std::vector<float> row = {1, 3, 2, 3, 0, 3};
  const std::vector<TokenLogprob> got = token_logprobs(row, 4, 4);
  std::vector<int32_t> ids;
  for (const TokenLogprob& token : got) ids.push_back(token.id);
  EXPECT_EQ(ids, (std::vector<int32_t>{4, 1, 3, 5, 2}));
  for (const TokenLogprob& token : got) EXPECT_NEAR(token.logprob, exact(row, token.id), 1e-6);
}

TEST(TokenLogprobs, TheLikeliestAreThoseOfASort) {
  const std::vector<float> row = random_row(3000, 7);  // 4,000 values: ties
  std::vector<int32_t> ids(row.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  std::ranges::stable_sort(
      ids, [&](int32_t a, int32_t b) { return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)]; });
  const std::vector<TokenLogprob> got = token_logprobs(row, 0, kMaxTopLogprobs);
  ASSERT_EQ(got.size(), 1 + kMaxTopLogprobs);
  for (size_t i = 0; i < kMaxTopLogprobs; ++i) EXPECT_EQ(got[i + 1].id, ids[i]);
}

TEST(TokenLogprobs, FewerTokensThanAskedForAreAll) {
  EXPECT_EQ(token_logprobs(std::vector<float>{5}, 0, 3), (std::vector<TokenLogprob>{{0, 0.0f}, {0, 0.0f}}));
}

TEST(TokenLogprobs, WhatCannotBeDrawnIsMinusInfinity) {
  const float minus_infinity = -std::numeric_limits<float>::infinity();
  const std::vector<TokenLogprob> got = token_logprobs(std::vector<float>{minus_infinity, 2}, 0, 2);
  EXPECT_EQ(got[0].logprob, minus_infinity);
  EXPECT_EQ(got[1], (TokenLogprob{1, 0.0f}));
  EXPECT_EQ(got[2].logprob, minus_infinity);
}

// The bits are part of the contract: binary32 exponentials, summed in binary64 in ascending order.
TEST(TokenLogprobs, HaveTheBitsOfTheDefinition) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::vector<float> row = random_row(20000, seed);
    float max = row[0];
    for (const float logit : row) max = logit > max ? logit : max;
    double sum = 0;
    for (const float logit : row) sum += static_cast<double>(numerics::exp_f32(logit - max));
    for (const TokenLogprob& token : token_logprobs(row, 123, 5)) {
      const double below = static_cast<double>(row[static_cast<size_t>(token.id)]) - static_cast<double>(max);
      const auto expected = static_cast<float>(below - numerics::log_f64(sum));
      EXPECT_EQ(std::bit_cast<uint32_t>(token.logprob), std::bit_cast<uint32_t>(expected));
    }
  }
}

}  // namespace
}  // namespace orcd::engine
