#include "numerics/functions.h"

#include <gtest/gtest.h>

#include <cmath>

#include "numerics/digest.h"

namespace orcd::numerics {
namespace {

// |got - want| in units of the last place of want.
double ulps(float got, double want) {
  int exponent;
  std::frexp(want, &exponent);
  return std::fabs(got - want) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

// Floats from -limit to limit, evenly by bit pattern, both signs and zero.
template <typename F>
void sweep(float limit, F visit) {
  for (uint32_t bits = 0; bits <= float_bits(limit); bits += 9973) {
    visit(bits_float(bits));
    visit(-bits_float(bits));
  }
}

TEST(Functions, ExpIsWithinAnUlpOrSo) {
  double worst = 0;
  sweep(88.72f, [&](float x) {
    if (x > -103.0f) worst = std::max(worst, ulps(exp_f32(x), std::exp(static_cast<double>(x))));
  });
  EXPECT_LT(worst, 1.1);
}

TEST(Functions, ExpHasExactEdges) {
  EXPECT_EQ(float_bits(exp_f32(0.0f)), 0x3f800000u);
  EXPECT_EQ(float_bits(exp_f32(-0.0f)), 0x3f800000u);
  EXPECT_EQ(exp_f32(-INFINITY), 0.0f);
  EXPECT_EQ(exp_f32(-104.5f), 0.0f);
  EXPECT_EQ(exp_f32(INFINITY), INFINITY);
  EXPECT_EQ(exp_f32(89.0f), INFINITY);
  EXPECT_TRUE(std::isfinite(exp_f32(88.72283f)));
  EXPECT_TRUE(std::isnan(exp_f32(NAN)));
  EXPECT_GT(exp_f32(-103.0f), 0.0f);  // a denormal, not flushed
}

TEST(Functions, ClampedSwigluIsItsFormula) {
  const auto formula = [](double gate, double up) {
    const double g = std::min(gate, 7.0), u = std::clamp(up, -7.0, 7.0);
    return g / (1 + std::exp(-1.702 * g)) * (u + 1);
  };
  sweep(30.0f, [&](float gate) {
    for (const float up : {-9.0f, -7.0f, -1.0f, 0.0f, 0.3f, 6.5f, 7.0f, 100.0f})
      ASSERT_NEAR(clamped_swiglu(gate, up), formula(gate, up), 3e-6 * (1 + std::fabs(formula(gate, up))))
          << gate << " " << up;
  });
  EXPECT_EQ(clamped_swiglu(8.0f, 1.0f), clamped_swiglu(7.0f, 1.0f));
  EXPECT_EQ(clamped_swiglu(1.0f, 8.0f), clamped_swiglu(1.0f, 7.0f));
  EXPECT_EQ(clamped_swiglu(1.0f, -8.0f), clamped_swiglu(1.0f, -7.0f));
  EXPECT_LT(clamped_swiglu(-8.0f, 1.0f), 0.0f);  // the gate has no lower bound
  EXPECT_NE(clamped_swiglu(-8.0f, 1.0f), clamped_swiglu(-7.0f, 1.0f));
  EXPECT_TRUE(is_nan(clamped_swiglu(NAN, 1.0f)));
  EXPECT_TRUE(is_nan(clamped_swiglu(1.0f, NAN)));
}

TEST(Functions, ActivationsAreCloseToTheirFormulas) {
  double silu_error = 0, gelu_error = 0, erf_error = 0, tanh_error = 0;
  sweep(20.0f, [&](float x) {
    const double d = x;
    silu_error = std::max(silu_error, std::fabs(silu(x) - d / (1 + std::exp(-d))));
    const double u = std::sqrt(2 / M_PI) * (d + 0.044715 * d * d * d);
    gelu_error = std::max(gelu_error, std::fabs(gelu_tanh(x) - 0.5 * d * (1 + std::tanh(u))));
    erf_error = std::max(erf_error, std::fabs(gelu_erf(x) - 0.5 * d * (1 + std::erf(d / std::sqrt(2.0)))));
    tanh_error = std::max(tanh_error, std::fabs(tanh_f32(x) - std::tanh(d)));
  });
  EXPECT_LT(silu_error, 2.5e-6);
  EXPECT_LT(gelu_error, 2.5e-6);
  EXPECT_LT(erf_error, 3e-6);
  EXPECT_LT(tanh_error, 3e-7);
}

TEST(Functions, NothingHidesANan) {
  for (const float y : {silu(NAN), gelu_tanh(NAN), gelu_erf(NAN), tanh_f32(NAN), softcap(NAN, 30.0f)}) {
    EXPECT_TRUE(std::isnan(y));
  }
}

TEST(Functions, SoftcapBoundsAndKeepsSmallValues) {
  EXPECT_EQ(softcap(0.0f, 50.0f), 0.0f);
  EXPECT_NEAR(softcap(1.0f, 50.0f), 50 * std::tanh(1 / 50.0), 1e-5);
  EXPECT_EQ(softcap(1e9f, 50.0f), 50.0f);
  EXPECT_EQ(softcap(-1e9f, 50.0f), -50.0f);
}

// The bits themselves: any change of a constant, an order or a rounding shows here, and is a new numerics
// version.
template <typename F>
Digest sweep_digest(F function) {
  Digest digest;
  uint64_t index = 0;
  sweep(120.0f, [&](float x) { digest_add(&digest, digest_word(x, function(x)), index++); });
  return digest;
}

struct Row {
  const char* name;
  float (*function)(float);
  Digest digest;
};

class FunctionBits : public testing::TestWithParam<Row> {};

TEST_P(FunctionBits, AreThoseOfVersion1) {
  const Digest digest = sweep_digest(GetParam().function);
  EXPECT_EQ(digest, GetParam().digest) << std::hex << "{0x" << digest.a << "ull, 0x" << digest.b << "ull}";
}

INSTANTIATE_TEST_SUITE_P(
    Golden, FunctionBits,
    testing::Values(
        Row{"exp", [](float x) { return exp_f32(x); }, {0xaf904217dc253097ull, 0x6ef24978ddd1b563ull}},
        Row{"silu", [](float x) { return silu(x); }, {0x39d7ed1fec71b7daull, 0x41044398762fec48ull}},
        Row{"gelu_tanh",
            [](float x) { return gelu_tanh(x); },
            {0xc260aa267968959bull, 0x7086944ae1763861ull}},
        Row{"gelu_erf", [](float x) { return gelu_erf(x); }, {0x664077947a76dc7eull, 0xf6d185306e06df8eull}},
        Row{"tanh", [](float x) { return tanh_f32(x); }, {0xc2a50c686b2db1b2ull, 0xe07ee7e6c497f874ull}},
        Row{"softcap",
            [](float x) { return softcap(x, 30.0f); },
            {0xbaaed5cd385f47b3ull, 0x355b29fc78aaf799ull}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace orcd::numerics
