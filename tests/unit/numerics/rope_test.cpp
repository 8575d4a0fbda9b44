#include "numerics/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "numerics/digest.h"

namespace orcd::numerics {
namespace {

// |got - want| in units of the last place of want; libm's 80-bit functions give the reference.
double ulps(double got, long double want) {
  if (std::isinf(static_cast<double>(want)) || want == 0) return got == static_cast<double>(want) ? 0 : 1e9;
  int exponent;
  std::frexp(want, &exponent);
  return static_cast<double>(std::fabs(got - want) / std::ldexp(1.0L, std::max(exponent - 53, -1074)));
}

uint64_t bits(double x) {
  uint64_t u;
  std::memcpy(&u, &x, 8);
  return u;
}

TEST(Binary64, SineAndCosineAreWithinTwoUlpOfLibm) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> unit(-1, 1);
  double sine = 0, cosine = 0;
  for (int i = 0; i < 200000; ++i) {
    const double x = unit(random) * std::exp2(30 * std::fabs(unit(random)));
    sine = std::max(sine, ulps(sin_f64(x), std::sin(static_cast<long double>(x))));
    cosine = std::max(cosine, ulps(cos_f64(x), std::cos(static_cast<long double>(x))));
  }
  EXPECT_LT(sine, 1.0);
  EXPECT_LT(cosine, 1.0);
}

TEST(Binary64, MultiplesOfHalfPiLoseNoDigits) {
  for (int64_t n = 1; n < 600'000'000; n = n * 5 / 4 + 1) {
    const double x = static_cast<double>(n) * M_PI_2;
    ASSERT_LT(ulps(sin_f64(x), std::sin(static_cast<long double>(x))), 2) << n;
    ASSERT_LT(ulps(cos_f64(x), std::cos(static_cast<long double>(x))), 2) << n;
  }
}

TEST(Binary64, ExpLogAndPowAreWithinTwoUlpOfLibm) {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> unit(-1, 1);
  double exp = 0, log = 0, pow = 0;
  for (int i = 0; i < 200000; ++i) {
    const double x = unit(random) * (i % 2 ? 745 : 2);
    exp = std::max(exp, ulps(exp_f64(x), std::exp(static_cast<long double>(x))));
    const double wide = std::exp2(unit(random) * 1070),
                 near_one = 1 + unit(random) * std::exp2(40 * unit(random) - 41);
    for (const double y : {wide, near_one})
      log = std::max(log, ulps(log_f64(y), std::log(static_cast<long double>(y))));
    const double base = std::exp2(unit(random) * 30), exponent = unit(random) * 20;
    pow = std::max(pow, ulps(pow_f64(base, exponent),
                             std::pow(static_cast<long double>(base), static_cast<long double>(exponent))));
  }
  EXPECT_LT(exp, 1.0);
  EXPECT_LT(log, 1.0);
  EXPECT_LT(pow, 1.0);
}

TEST(Binary64, EdgesAreThoseOfTheStandardFunctions) {
  EXPECT_EQ(exp_f64(0), 1.0);
  EXPECT_EQ(exp_f64(710), INFINITY);
  EXPECT_EQ(exp_f64(-746), 0.0);
  EXPECT_EQ(exp_f64(-745.1), 5e-324);
  EXPECT_TRUE(std::isnan(exp_f64(NAN)));
  EXPECT_EQ(log_f64(1), 0.0);
  EXPECT_EQ(log_f64(0), -INFINITY);
  EXPECT_TRUE(std::isnan(log_f64(-1)));
  EXPECT_EQ(log_f64(INFINITY), INFINITY);
  EXPECT_EQ(pow_f64(10, 0), 1.0);
  EXPECT_EQ(pow_f64(10, 1e300), INFINITY);
  EXPECT_EQ(pow_f64(10, -1e300), 0.0);
  EXPECT_EQ(pow_f64(2, 10), 1024.0);
  EXPECT_EQ(sin_f64(0), 0.0);
  EXPECT_EQ(cos_f64(0), 1.0);
  EXPECT_TRUE(std::isnan(sin_f64(0x1p31)));
}

// The bits themselves: the same on every system, whatever its libm.
TEST(Binary64, BitsAreThoseOfVersion1) {
  EXPECT_EQ(bits(sin_f64(1)), 0x3feaed548f090ceeull);
  EXPECT_EQ(bits(sin_f64(131071.25)), 0xbfe84fb7bdb2ebebull);
  EXPECT_EQ(bits(sin_f64(-1073741823.0)), 0x3fefdb6a55d0ac16ull);
  EXPECT_EQ(bits(cos_f64(1)), 0x3fe14a280fb5068cull);
  EXPECT_EQ(bits(cos_f64(131071.25)), 0xbfe4cebe75ff4ee4ull);
  EXPECT_EQ(bits(cos_f64(1073741823.0)), 0xbfb82ac4b53cde6bull);
  EXPECT_EQ(bits(exp_f64(1)), 0x4005bf0a8b145769ull);
  EXPECT_EQ(bits(exp_f64(-0.7)), 0x3fdfc80db9dd5542ull);
  EXPECT_EQ(bits(exp_f64(-740.5)), 0x33ull);
  EXPECT_EQ(bits(log_f64(10)), 0x40026bb1bbb55516ull);
  EXPECT_EQ(bits(log_f64(10000)), 0x40226bb1bbb55516ull);
  EXPECT_EQ(bits(log_f64(1e-310)), 0xc0864e69394d9508ull);
  EXPECT_EQ(bits(pow_f64(10000, -1.0 / 32)), 0x3fe7ff2224115d9aull);
  EXPECT_EQ(bits(pow_f64(500000, -63.0 / 64)), 0x3ec4985fec80a8cbull);
  EXPECT_EQ(bits(pow_f64(1e6, -0.3)), 0x3f903ab3d12bc2c5ull);
}

std::vector<float> table(const RopeParams& params, uint64_t first, uint64_t n) {
  std::vector<float> out(n * params.n_dims);
  rope_table(params, first, n, out.data());
  return out;
}

TEST(Rope, AnglesArePositionTimesBaseToTheMinusTwoIOverN) {
  const RopeParams params{.n_dims = 64, .base = 10000.0, .freq_factors = {}};
  const auto t = table(params, 0, 300);
  for (uint64_t p = 0; p < 300; ++p) {
    for (uint32_t i = 0; i < 32; ++i) {
      const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * i / 64);
      ASSERT_NEAR(t[(p * 32 + i) * 2], std::cos(angle), 1e-7);
      ASSERT_NEAR(t[(p * 32 + i) * 2 + 1], std::sin(angle), 1e-7);
    }
  }
}

TEST(Rope, ATableStartsAtAnyPosition) {
  const RopeParams params{.n_dims = 128, .base = 500000.0, .freq_factors = {}};
  const auto whole = table(params, 0, 200), tail = table(params, 137, 63);
  EXPECT_EQ(0, std::memcmp(tail.data(), whole.data() + 137 * 128, tail.size() * 4));
}

TEST(Rope, LinearScalingAndFrequencyFactorsDivideTheAngle) {
  const std::vector<float> eights(32, 8.0f);
  const RopeParams plain{.n_dims = 64, .base = 10000.0, .freq_factors = {}};
  RopeParams scaled = plain, factored = plain;
  scaled.scale = 1.0 / 8;
  factored.freq_factors = eights;
  // A power of two: exactly the angles of position / 8.
  const auto t = table(plain, 0, 9), s = table(scaled, 0, 65), f = table(factored, 0, 65);
  EXPECT_EQ(0, std::memcmp(s.data(), f.data(), s.size() * 4));
  EXPECT_EQ(0, std::memcmp(&t[8 * 64], &s[64 * 64], 64 * 4));
}

// transformers' _compute_yarn_parameters, in libm's binary64.
void expect_yarn_as_in_transformers(bool rounded) {
  constexpr double kBase = 150000, kFactor = 32, kContext = 4096, kFast = 32, kSlow = 1;
  const RopeParams params{.n_dims = 64,
                          .base = kBase,
                          .freq_factors = {},
                          .yarn_factor = kFactor,
                          .yarn_original_ctx = kContext,
                          .yarn_beta_fast = kFast,
                          .yarn_beta_slow = kSlow,
                          .yarn_attention_factor = 0.1 * std::log(kFactor) + 1,
                          .yarn_rounded = rounded};
  const auto dimension = [](double rotations) {
    return 64 * std::log(kContext / (rotations * 2 * M_PI)) / (2 * std::log(kBase));
  };
  const double first = dimension(kFast), last = dimension(kSlow);
  const double low = std::max(rounded ? std::floor(first) : first, 0.0);
  const double high = std::min(rounded ? std::ceil(last) : last, 63.0);
  const auto t = table(params, 0, 100);
  for (uint32_t i = 0; i < 32; ++i) {
    const double extrapolated = std::pow(kBase, -2.0 * i / 64), interpolated = extrapolated / kFactor;
    const double keep = 1 - std::clamp((i - low) / (high - low), 0.0, 1.0);
    const double frequency = interpolated * (1 - keep) + extrapolated * keep;
    for (uint64_t p = 0; p < 100; ++p) {
      const double angle = static_cast<double>(p) * frequency, m = params.yarn_attention_factor;
      ASSERT_NEAR(t[(p * 32 + i) * 2], m * std::cos(angle), 2e-7) << i;
      ASSERT_NEAR(t[(p * 32 + i) * 2 + 1], m * std::sin(angle), 2e-7) << i;
    }
  }
}

TEST(Rope, YarnBlendsAsInTransformers) { expect_yarn_as_in_transformers(true); }
TEST(Rope, YarnBlendsAsInTransformersWithoutTruncation) { expect_yarn_as_in_transformers(false); }

TEST(Rope, TablesAreThoseOfVersion1) {
  const std::vector<float> factors = {1.0f, 1.5f, 3.0f, 8.0f};
  const auto digest = [](const RopeParams& params, uint64_t first) {
    const auto t = table(params, first, 64);
    return digest_row(t.data(), t.size());
  };
  const Digest plain = digest({.n_dims = 64, .base = 100000.0, .freq_factors = {}}, 8000);
  const Digest llama3 = digest({.n_dims = 8, .base = 500000.0, .freq_factors = factors}, 100000);
  const Digest linear = digest({.n_dims = 256, .base = 1e6, .scale = 0.125, .freq_factors = {}}, 32000);
  const Digest yarn = digest({.n_dims = 64,
                              .base = 150000.0,
                              .freq_factors = {},
                              .yarn_factor = 32,
                              .yarn_original_ctx = 4096,
                              .yarn_attention_factor = 1.3466},
                             131000);
  EXPECT_EQ(plain, (Digest{0xa30564ca35a5b030ull, 0x8d61ef8ceb11c2caull}))
      << std::hex << "{0x" << plain.a << "ull, 0x" << plain.b << "ull}";
  EXPECT_EQ(llama3, (Digest{0x15118ff33aa1a487ull, 0xfbd6eea5ab608f1dull}))
      << std::hex << "{0x" << llama3.a << "ull, 0x" << llama3.b << "ull}";
  EXPECT_EQ(linear, (Digest{0xb4c4e871dc24991aull, 0xd30b00a79c56ee98ull}))
      << std::hex << "{0x" << linear.a << "ull, 0x" << linear.b << "ull}";
  EXPECT_EQ(yarn, (Digest{0xf998c18d7408a7f0ull, 0xbbcffb53783b3cdcull}))
      << std::hex << "{0x" << yarn.a << "ull, 0x" << yarn.b << "ull}";
}

TEST(Rope, RotationKeepsTheLengthAndTurnsTheRightWay) {
  float x = 1.0f, y = 0.0f;
  rotate_pair(&x, &y, 0.8f, 0.6f);
  EXPECT_EQ(x, 0.8f);
  EXPECT_EQ(y, 0.6f);
  rotate_pair(&x, &y, 0.8f, -0.6f);
  EXPECT_NEAR(x, 1.0f, 1e-7);
  EXPECT_NEAR(y, 0.0f, 1e-7);
}

}  // namespace
}  // namespace orcd::numerics
