#include "numerics/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "numerics/digest.h"
#include "support/block_scales.h"

namespace orcd::numerics {
namespace {

std::vector<QuantizedGroup> quantize(const std::vector<float>& x) {
  std::vector<QuantizedGroup> out((x.size() + kGroup - 1) / kGroup);
  for (size_t g = 0; g < out.size(); ++g) {
    const size_t n = std::min<size_t>(kGroup, x.size() - g * kGroup);
    quantize_group(&x[g * kGroup], static_cast<uint32_t>(n), &out[g]);
  }
  return out;
}

// Random blocks with finite scales, the same on every system.
std::vector<uint8_t> random_row(TensorType type, uint64_t cols, uint32_t seed) {
  const FormatInfo& format = *find_format(type);
  std::mt19937 random(seed);
  std::vector<uint8_t> row(cols / format.block_elements * format.block_bytes);
  for (uint8_t& byte : row) byte = static_cast<uint8_t>(random());
  const auto put_half = [&](size_t at) {
    const uint16_t h = static_cast<uint16_t>(0x2000 + random() % 0x1000);
    row[at] = static_cast<uint8_t>(h);
    row[at + 1] = static_cast<uint8_t>(h >> 8);
  };
  for (size_t block = 0; block < row.size(); block += format.block_bytes) {
    if (!is_block_format(type)) {
      for (size_t i = 0; i < format.block_bytes; i += 2) put_half(block + i);
      continue;
    }
    const size_t scale = block + test::scale_at(type);
    if (type == TensorType::kMXFP4) {
      row[scale] = static_cast<uint8_t>(115 + random() % 4);
      continue;
    }
    put_half(scale);
    if (has_minimum(type)) put_half(scale + 2);
  }
  return row;
}

std::vector<float> random_activations(uint64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = (static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f) * 4.0f;
  return x;
}

TEST(Quantize, LargestMagnitudeBecomes127AndTiesGoToEven) {
  std::vector<float> x(32, 0.0f);
  x[3] = -127.0f;
  x[4] = 0.5f;
  x[5] = 1.5f;
  x[20] = 2.5f;
  QuantizedGroup g;
  quantize_group(x.data(), 32, &g);
  EXPECT_EQ(g.d, 1.0f);
  EXPECT_EQ(g.q[3], -127);
  EXPECT_EQ(g.q[4], 0);
  EXPECT_EQ(g.q[5], 2);
  EXPECT_EQ(g.q[20], 2);
  EXPECT_EQ(g.sum_low, -125);
  EXPECT_EQ(g.sum_high, 2);
}

TEST(Quantize, ZerosAndTheTiniestGroupsAreZeros) {
  for (const float value : {0.0f, -0.0f, bits_float(1), bits_float(63)}) {
    const std::vector<float> x(32, value);
    QuantizedGroup g;
    quantize_group(x.data(), 32, &g);
    EXPECT_EQ(g.d, 0.0f);
    for (const int8_t q : g.q) EXPECT_EQ(q, 0);
  }
}

TEST(Quantize, AShortGroupIsPaddedWithZeros) {
  const std::vector<float> x = {1.0f, -2.0f, 4.0f};
  QuantizedGroup g;
  std::memset(&g, 0x55, sizeof g);
  quantize_group(x.data(), 3, &g);
  EXPECT_EQ(g.q[2], 127);
  EXPECT_EQ(g.q[1], -64);  // -63.5 to even
  for (int i = 3; i < 32; ++i) EXPECT_EQ(g.q[i], 0);
  EXPECT_EQ(g.sum_high, 0);
}

TEST(Quantize, NanAndInfinityAreNeverHidden) {
  for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    for (const int at : {0, 17, 31}) {
      std::vector<float> x(32, 1.0f);
      x[static_cast<size_t>(at)] = bad;
      const auto q = quantize(x);
      EXPECT_FALSE(is_finite(q[0].d));
      const auto row = random_row(TensorType::kQ4_1, 32, 1);
      EXPECT_FALSE(is_finite(linear_blocks(TensorType::kQ4_1, row.data(), q.data(), 32, 1)));
    }
  }
  std::vector<float> x(32, INFINITY);
  x[9] = NAN;
  const auto all = quantize(x);
  EXPECT_TRUE(is_nan(all[0].d));
  for (const int8_t q : all[0].q) EXPECT_EQ(q, -127);  // one code on every device
}

TEST(Strips, AreAFunctionOfTheShape) {
  struct Row {
    uint64_t rows, cols;
    uint32_t strips;
  };
  for (const Row& row :
       {Row{576, 576, 4}, Row{192, 576, 4}, Row{1536, 576, 4}, Row{576, 1536, 8}, Row{49152, 576, 2},
        Row{262144, 640, 1}, Row{65536, 4096, 1}, Row{65520, 4096, 2}, Row{4096, 4096, 16},
        Row{14336, 4096, 8}, Row{4096, 14336, 16}, Row{1, 64, 1}, Row{1, 128, 1}, Row{1, 192, 1},
        Row{1, 256, 2}, Row{1, 225, 2}, Row{128256, 4096, 1}}) {
    EXPECT_EQ(strip_count(row.rows, row.cols), row.strips) << row.rows << "x" << row.cols;
  }
}

TEST(Strips, CoverKInWholeUnits) {
  for (const uint64_t cols : {64u, 100u, 576u, 1536u, 2880u, 14336u, 28672u}) {
    const uint32_t strips = strip_count(16, cols);
    EXPECT_EQ(strip_begin(cols, strips, 0), 0u);
    EXPECT_EQ(strip_begin(cols, strips, strips), cols);
    for (uint32_t s = 0; s < strips; ++s) {
      EXPECT_LT(strip_begin(cols, strips, s), strip_begin(cols, strips, s + 1));
      EXPECT_EQ(strip_begin(cols, strips, s) % kStripUnit, 0u);
    }
  }
}

TEST(Linear, IsTheDotProductOfDequantisedValues) {
  constexpr uint64_t kCols = 1024;
  for (const TensorType type : test::kBlockTypes) {
    const auto row = random_row(type, kCols, 7);
    const auto q = quantize(random_activations(kCols, 8));
    std::vector<float> w(kCols);
    dequantize_row(type, row.data(), kCols, w.data());
    double want = 0, magnitude = 0;
    for (uint64_t i = 0; i < kCols; ++i) {
      const double term = static_cast<double>(w[i]) * q[i / 32].q[i % 32] * q[i / 32].d;
      want += term;
      magnitude += std::fabs(term);
    }
    for (const uint32_t strips : {1u, 2u, 8u}) {
      EXPECT_NEAR(linear_blocks(type, row.data(), q.data(), kCols, strips), want, 2e-6 * magnitude)
          << tensor_type_name(type);
    }
  }
}

TEST(Linear, ChainsAscendWithinAStripAndStripsFoldLeft) {
  // 2^24 absorbs a single 1 but not a sum of two: the order of additions shows.
  const float big = 16777216.0f;
  std::vector<float> w(256, 0.0f);
  const std::vector<float> x(256, 1.0f);
  const auto run = [&](uint32_t strips) {
    return linear_floats(TensorType::kF32, reinterpret_cast<const uint8_t*>(w.data()), x.data(), 256, strips);
  };
  w[0] = 1;
  w[1] = 1;
  w[2] = big;
  EXPECT_EQ(run(1), big + 2);  // ascending
  w = std::vector<float>(256, 0.0f);
  w[0] = big;
  w[128] = 1;
  w[129] = 1;
  EXPECT_EQ(run(1), big);      // one chain loses both
  EXPECT_EQ(run(2), big + 2);  // the second strip starts from 0
  w[128] = 0;
  w[192] = 1;
  w[129] = 1;
  EXPECT_EQ(run(4), big);  // strips 2 and 3 are added one after the other, not to each other first
}

TEST(Linear, FloatWeightsUseUnroundedActivations) {
  const float third = 1.0f / 3.0f;
  const std::vector<float> w(64, 1.0f), x(64, third);
  float want = 0;
  for (int i = 0; i < 64; ++i) want += third;
  EXPECT_EQ(linear_floats(TensorType::kF32, reinterpret_cast<const uint8_t*>(w.data()), x.data(), 64, 1),
            want);
}

void add_linear_bits(std::span<const TensorType> types, Digest* digest, uint64_t* index) {
  for (const TensorType type : types) {
    for (const uint32_t strips : {1u, 2u, 4u, 8u, 16u}) {
      for (uint32_t seed = 0; seed < 20; ++seed) {
        const auto row = random_row(type, 2304, seed);
        const auto q = quantize(random_activations(2304, seed + 100));
        const float y = linear_blocks(type, row.data(), q.data(), 2304, strips);
        digest_add(digest, float_bits(y), (*index)++);
      }
    }
  }
}

// The bits themselves, for each format and number of strips.
TEST(Linear, BitsAreThoseOfVersion1) {
  constexpr TensorType kFirst[] = {TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ5_0,
                                   TensorType::kQ5_1, TensorType::kQ8_0, TensorType::kQ4_K,
                                   TensorType::kQ5_K, TensorType::kQ6_K};
  Digest digest;
  uint64_t index = 0;
  add_linear_bits(kFirst, &digest, &index);
  for (const TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBF16}) {
    const auto row = random_row(type, 2000, 5);
    digest_add(&digest,
               float_bits(linear_floats(type, row.data(), random_activations(2000, 6).data(), 2000, 8)),
               index++);
  }
  EXPECT_EQ(digest, (Digest{0x2acce7c3e347d29aull, 0xdab28c947da0469aull}))
      << std::hex << "{0x" << digest.a << "ull, 0x" << digest.b << "ull}";
}

// The same for the formats that came later.
TEST(Linear, BitsOfTheSmallFormatsAreThoseOfVersion1) {
  constexpr TensorType kLater[] = {TensorType::kQ2_K, TensorType::kQ3_K, TensorType::kIQ4_NL,
                                   TensorType::kIQ4_XS, TensorType::kMXFP4};
  Digest digest;
  uint64_t index = 0;
  add_linear_bits(kLater, &digest, &index);
  EXPECT_EQ(digest, (Digest{0xedaf803f9655c87bull, 0xfd2aad9a6f258abdull}))
      << std::hex << "{0x" << digest.a << "ull, 0x" << digest.b << "ull}";
}

}  // namespace
}  // namespace orcd::numerics
