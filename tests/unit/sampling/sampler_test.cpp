#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "support/host_sampler.h"
#include "unit/sampling/naive_sampler.h"

namespace orcd::sampling {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

using Bench = test::HostSampler;

int32_t one(const std::vector<float>& logits, const SamplingParams& params,
            const std::vector<int32_t>& seen = {}, uint64_t position = 0) {
  Bench bench(static_cast<uint32_t>(logits.size()));
  bench.sampler.begin(params, seen);
  return bench.draw(logits, position).token;
}

SamplingParams with(float temperature) {
  SamplingParams params;
  params.temperature = temperature;
  return params;
}

// How often each id is drawn over many positions.
std::vector<int> counts(const std::vector<float>& logits, const SamplingParams& params, int n = 20000) {
  std::vector<int> out(logits.size());
  Bench bench(static_cast<uint32_t>(logits.size()));
  for (int i = 0; i < n; ++i) {
    bench.sampler.begin(params, {});
    ++out[static_cast<size_t>(bench.draw(logits, static_cast<uint64_t>(i)).token)];
  }
  return out;
}

TEST(Sampler, EqualsTheDefinitionForAnyParameters) {
  std::mt19937_64 rng(1);
  const auto pick = [&](auto... values) {
    const std::common_type_t<decltype(values)...> all[] = {values...};
    return all[rng() % sizeof...(values)];
  };
  for (int round = 0; round < 4000; ++round) {
    const auto n = pick(1u, 2u, 63u, 64u, 65u, 300u, 1000u, 5000u);
    const float spread = pick(0.0f, 0.1f, 3.0f, 10.0f, 1e30f);
    const float step = pick(0.0f, 0.0f, 0.5f);  // rounding to a grid makes ties
    std::vector<float> logits(n);
    std::normal_distribution<float> normal;
    for (float& l : logits) {
      l = normal(rng) * spread;
      if (step > 0) l = std::round(l / step) * step;
      if (rng() % 16 == 0) l = -kInf;
    }
    logits[rng() % n] = 0.25f;
    SamplingParams params;
    params.temperature = pick(0.0f, 1e-40f, 1e-30f, 1e-6f, 0.1f, 0.7f, 1.0f, 2.0f);
    params.top_k = pick(0u, 1u, 2u, 5u, 40u, n - 1, n, n + 1);
    params.top_p = pick(0.0f, 1e-12f, 0.1f, 0.5f, 0.95f, 0.999999f, 1.0f);
    params.min_p = pick(0.0f, 1e-9f, 0.05f, 0.5f, 1.0f);
    params.repetition_penalty = pick(0.0f, 1e-40f, 0.5f, 1.0f, 1.1f, 2.0f);
    params.seed = rng();
    params.choice = static_cast<uint32_t>(rng() % 3);
    std::set<int32_t> seen;
    for (uint64_t i = rng() % 20; i > 0; --i) seen.insert(static_cast<int32_t>(rng() % n));
    Bench bench(n);
    bench.sampler.begin(params, std::vector<int32_t>(seen.begin(), seen.end()));
    for (uint64_t position : {uint64_t{0}, uint64_t{7}, uint64_t{1} << 40}) {
      const int32_t expected = naive_sample(logits, params, seen, position);
      ASSERT_EQ(bench.draw(logits, position).token, expected)
          << "round " << round << " n " << n << " T " << params.temperature << " k " << params.top_k << " p "
          << params.top_p << " min_p " << params.min_p << " penalty " << params.repetition_penalty;
      if (expected >= 0) seen.insert(expected);
    }
  }
}

TEST(Sampler, LargeVocabularyEqualsTheDefinition) {
  std::mt19937_64 rng(2);
  std::normal_distribution<float> normal(-2.0f, 3.0f);
  std::vector<float> logits(262144);
  for (float& l : logits) l = normal(rng);
  for (const auto& [k, p] : {std::pair{0u, 1.0f}, {0u, 0.9f}, {40u, 0.95f}, {5000u, 1.0f}}) {
    SamplingParams params = with(0.8f);
    params.top_k = k;
    params.top_p = p;
    EXPECT_EQ(one(logits, params), naive_sample(logits, params, {}, 0)) << k << " " << p;
  }
}

TEST(Sampler, GreedyTiesGoToTheLowestId) {
  EXPECT_EQ(one({1, 5, 5, 2}, with(0)), 1);
  std::vector<float> many(1000, -3.0f);
  EXPECT_EQ(one(many, with(0)), 0);
  many[700] = many[130] = 4.0f;
  EXPECT_EQ(one(many, with(0)), 130);
  EXPECT_EQ(one({-0.0f, 0.0f}, with(0)), 0);
}

TEST(Sampler, VanishingTemperatureIsGreedyAndLargeIsAlmostUniform) {
  for (const float t : {1e-45f, 1e-38f, 1e-20f, 1e-6f}) EXPECT_EQ(one({1, 30, 29.999f, 2}, with(t)), 1) << t;
  EXPECT_EQ(one({-1e38f, -2e38f}, with(1e-6f)), naive_sample({-1e38f, -2e38f}, with(1e-6f), {}, 0));
  for (const int n : counts({0, 1, 2, 3}, with(1e30f))) EXPECT_NEAR(n, 5000, 300);
}

TEST(Sampler, DrawsInProportionToTheSoftmax) {
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  const auto n = counts(logits, with(1));
  EXPECT_NEAR(n[0], 2500, 200);
  EXPECT_NEAR(n[1], 5000, 250);
  EXPECT_NEAR(n[2], 12500, 300);
}

TEST(Sampler, TopKOneAndTopPZeroKeepTheMaximumAlone) {
  SamplingParams params = with(2);
  params.top_k = 1;
  EXPECT_EQ(counts({1, 3, 3, 0}, params)[1], 20000);
  params.top_k = 0;
  params.top_p = 0;
  EXPECT_EQ(counts({1, 3, 3, 0}, params)[1], 20000);
}

TEST(Sampler, TopPKeepsTheShortestPrefixThatReachesIt) {
  SamplingParams params = with(1);
  params.top_p = 0.7f;  // 5/8 is not enough, 5/8 + 2/8 is
  const auto n = counts({std::log(1.0f), std::log(2.0f), std::log(5.0f)}, params);
  EXPECT_EQ(n[0], 0);
  EXPECT_NEAR(n[1], 20000 * 2 / 7, 300);
}

TEST(Sampler, MinPIsRelativeToTheMaximumAndOneKeepsItsTies) {
  SamplingParams params = with(1);
  params.min_p = 0.3f;
  const auto n = counts({std::log(1.0f), std::log(2.0f), std::log(5.0f)}, params);
  EXPECT_EQ(n[0], 0);
  EXPECT_GT(n[1], 0);
  params.min_p = 1;
  const auto ties = counts({2, 1, 2}, params);
  EXPECT_EQ(ties[1], 0);
  EXPECT_NEAR(ties[0], 10000, 400);
}

TEST(Sampler, RepetitionPenaltyMovesSeenTokensTowardsLess) {
  SamplingParams params = with(0);
  params.repetition_penalty = 2;
  EXPECT_EQ(one({4, 3, 0}, params, {0}), 1);
  EXPECT_EQ(one({-1.0f, -1.5f}, params, {0}), 1);
  EXPECT_EQ(one({4, 3, 0}, params, {99, -5}), 0);
  params.repetition_penalty = 0;  // positive becomes the largest there is, negative becomes 0
  EXPECT_EQ(one({4, 300, 0}, params, {0}), 0);
  EXPECT_EQ(one({-4, -1}, params, {0}), 0);
  EXPECT_EQ(one({-kInf, -1}, params, {0}), 1);
}

TEST(Sampler, SampledTokensAreSeenAndBeginForgetsThem) {
  SamplingParams params = with(0);
  params.repetition_penalty = 2;
  Bench bench(3);
  bench.sampler.begin(params, {});
  EXPECT_EQ(bench.draw({4, 3, 2.5f}, 0).token, 0);
  EXPECT_EQ(bench.draw({4, 3, 2.5f}, 1).token, 1);
  EXPECT_EQ(bench.draw({4, 3, 2.5f}, 2).token, 2);
  bench.sampler.begin(params, {});
  EXPECT_EQ(bench.draw({4, 3, 2.5f}, 3).token, 0);
}

TEST(Sampler, BrokenLogitsAreReportedAndMaskedOnesAreNot) {
  for (const float bad : {std::nanf(""), -std::nanf(""), kInf}) {
    for (const size_t where : {0, 63, 64, 99}) {
      std::vector<float> logits(100, 1.0f);
      logits[where] = bad;
      for (const float t : {0.0f, 1.0f}) {
        Bench bench(100);
        bench.sampler.begin(with(t), {});
        const SampleResult result = bench.draw(logits, 0);
        EXPECT_TRUE(result.non_finite);
        EXPECT_EQ(result.token, -1);
      }
    }
  }
  EXPECT_EQ(one(std::vector<float>(70, -kInf), with(1)), -1);
  std::vector<float> masked(70, -kInf);
  masked[69] = -1e30f;
  EXPECT_EQ(one(masked, with(1)), 69);
}

TEST(Sampler, DrawDependsOnSeedChoiceAndPosition) {
  const std::vector<float> logits(50, 0.0f);
  SamplingParams params = with(1);
  std::set<int32_t> tokens[3];
  for (uint32_t i = 0; i < 40; ++i) {
    params.seed = i;
    tokens[0].insert(one(logits, params));
    params.seed = 0;
    params.choice = i;
    tokens[1].insert(one(logits, params));
    params.choice = 0;
    tokens[2].insert(one(logits, params, {}, i));
  }
  for (const auto& set : tokens) EXPECT_GT(set.size(), 15u);
  EXPECT_EQ(one(logits, params, {}, 5), one(logits, params, {}, 5));
}

TEST(Rules, WeightOfAFloatIsItsExactInteger) {
  std::mt19937_64 rng(3);
  std::uniform_real_distribution<float> uniform(-25.0f, 0.0f);
  for (int i = 0; i < 100000; ++i) {
    const float x = uniform(rng);
    const auto exact = static_cast<uint64_t>(static_cast<double>(numerics::exp_f32(x)) * 4294967296.0);
    ASSERT_EQ(static_cast<uint64_t>(token_weight(x, 0.0f)), exact) << x;
    ASSERT_LE(exact, uint64_t{1} << 32);
  }
  EXPECT_EQ(token_weight(3.0f, 3.0f), 4294967296.0f);
  EXPECT_EQ(token_weight(-3.4e38f, 3.4e38f), 0.0f);
}

TEST(Rules, PrefixTargetRoundsUp) {
  EXPECT_EQ(prefix_target(uint64_t{1} << 32, 12345678901234ull), 12345678901234ull);
  EXPECT_EQ(prefix_target(0, 99), 0u);
  EXPECT_EQ(prefix_target(uint64_t{1} << 31, 3), 2u);
  EXPECT_EQ(prefix_target(1, 1), 1u);
}

}  // namespace
}  // namespace orcd::sampling
