// The passes of this processor give the bits of the scalar ones, and those what passes.h says.
#include "sampling/passes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "sampling/rules.h"

namespace orcd::sampling {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// A block of logits of every kind, none above 3.
std::vector<float> some_logits(std::mt19937_64& rng) {
  std::uniform_real_distribution<float> uniform(-30.0f, 3.0f);
  std::vector<float> logits(kBlock);
  for (float& l : logits) l = rng() % 8 == 0 ? -kInf : rng() % 8 == 0 ? -3e38f : uniform(rng);
  logits[rng() % kBlock] = 3.0f;
  logits[rng() % kBlock] = 3.0f + kZeroWeight;
  logits[rng() % kBlock] = std::nextafter(3.0f + kZeroWeight, 0.0f);
  return logits;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

TEST(Passes, WeighingCuttingAndCollectingABlockAgree) {
  std::mt19937_64 rng(4);
  for (int round = 0; round < 3000; ++round) {
    std::vector<float> scalar = some_logits(rng), best = scalar;
    const std::vector<float> logits = scalar;
    const float least = round % 3 == 0 ? 0.0f : std::ldexp(1.0f, static_cast<int>(rng() % 33));
    const uint64_t sum = scalar_passes().weigh_block(scalar.data(), 3.0f, least);
    ASSERT_EQ(best_passes().weigh_block(best.data(), 3.0f, least), sum);
    ASSERT_TRUE(same(best, scalar));
    uint64_t expected = 0;
    for (uint32_t i = 0; i < kBlock; ++i) {
      const float weight = token_weight(logits[i], 3.0f);
      ASSERT_EQ(scalar[i], weight >= least ? weight : 0.0f);
      expected += static_cast<uint64_t>(scalar[i]);
    }
    ASSERT_EQ(sum, expected);

    const float from = std::max(1.0f, scalar[rng() % kBlock]);
    std::vector<uint32_t> bits(kBlock), best_bits(kBlock);
    const uint64_t n = scalar_passes().collect_block(scalar.data(), from, bits.data());
    ASSERT_EQ(best_passes().collect_block(scalar.data(), from, best_bits.data()), n);
    bits.resize(n), best_bits.resize(n);
    ASSERT_EQ(best_bits, bits);
    uint64_t at = 0;
    for (const float weight : scalar) {
      if (weight < from) continue;
      ASSERT_EQ(bits[at++], numerics::float_bits(weight));
    }
    ASSERT_EQ(at, n);

    const uint64_t left = scalar_passes().cut_block(scalar.data(), from);
    ASSERT_EQ(best_passes().cut_block(best.data(), from), left);
    ASSERT_TRUE(same(best, scalar));
    expected = 0;
    for (const uint32_t b : bits) expected += static_cast<uint64_t>(numerics::bits_float(b));
    ASSERT_EQ(left, expected);
  }
}

TEST(Passes, KeepingEqualKeysAgreesAndKeepsTheirOrder) {
  std::mt19937 rng(5);
  for (const uint64_t n : {0, 1, 7, 8, 9, 64, 1001}) {
    std::vector<uint32_t> keys(n);
    for (uint32_t& key : keys) key = rng();
    for (const uint32_t mask : {3u << 21, 1u << 10, 0u}) {
      std::vector<uint32_t> scalar = keys, best = keys, expected;
      const uint32_t wanted = n ? keys[n / 2] & mask : 0;
      for (const uint32_t key : keys)
        if ((key & mask) == wanted) expected.push_back(key);
      scalar.resize(scalar_passes().keep_equal(scalar.data(), n, mask, wanted));
      best.resize(best_passes().keep_equal(best.data(), n, mask, wanted));
      EXPECT_EQ(scalar, expected) << n;
      EXPECT_EQ(best, expected) << n;
    }
  }
}

TEST(Passes, AdjustingAgreesAndFindsTheBlocksMaximum) {
  std::mt19937_64 rng(6);
  std::normal_distribution<float> normal(0.0f, 20.0f);
  for (int round = 0; round < 2000; ++round) {
    const uint32_t size = round % 4 == 0 ? 1 + static_cast<uint32_t>(rng() % kBlock) : kBlock;
    std::vector<float> logits(kBlock);  // those past `size` must not be read as logits
    for (float& l : logits) l = rng() % 16 == 0 ? -kInf : rng() % 16 == 0 ? 3e38f : normal(rng);
    for (uint32_t i = size; i < kBlock; ++i) logits[i] = kInf;
    const uint64_t seen = rng() & rng() & (size < kBlock ? (uint64_t{1} << size) - 1 : ~uint64_t{0});
    for (const auto& [temperature, penalty] :
         {std::pair{0.0f, 1.0f}, {1.0f, 1.0f}, {1e-30f, 1.1f}, {0.7f, 1.3f}, {2.0f, 0.0f}}) {
      SamplingParams params;
      params.temperature = temperature;
      params.repetition_penalty = penalty;
      std::vector<float> scalar(kBlock), best(kBlock);
      float max = 0, best_max = 0;
      ASSERT_TRUE(scalar_passes().adjust_block(logits.data(), size, params, seen, scalar.data(), &max));
      ASSERT_TRUE(best_passes().adjust_block(logits.data(), size, params, seen, best.data(), &best_max));
      ASSERT_TRUE(same(best, scalar));
      ASSERT_EQ(best_max, max);  // as numbers: of -0 and +0 either is the maximum
      ASSERT_EQ(max, *std::max_element(scalar.begin(), scalar.end()));
      for (uint32_t i = 0; i < kBlock; ++i) {
        const bool is_seen = (seen >> i & 1) != 0;
        ASSERT_EQ(scalar[i], i < size ? adjust_logit(logits[i], temperature, penalty, is_seen) : -kInf) << i;
      }
      for (const float bad : {kInf, std::nanf("")}) {
        std::vector<float> broken = logits;
        broken[rng() % size] = bad;
        ASSERT_FALSE(scalar_passes().adjust_block(broken.data(), size, params, seen, scalar.data(), &max));
        ASSERT_FALSE(best_passes().adjust_block(broken.data(), size, params, seen, best.data(), &best_max));
      }
    }
  }
}

}  // namespace
}  // namespace orcd::sampling
