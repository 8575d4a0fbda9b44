#include "numerics/scalar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "numerics/digest.h"
#include "numerics/philox.h"

namespace orcd::numerics {
namespace {

// binary16 by its definition, in binary64.
double half_value(uint16_t h) {
  const int exponent = (h >> 10) & 31, fraction = h & 1023;
  const double magnitude = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
  return h & 0x8000 ? -magnitude : magnitude;
}

TEST(Scalar, EveryHalfConvertsExactlyAndBack) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float x = half_to_float(static_cast<uint16_t>(h));
    if (((h >> 10) & 31) == 31) {
      EXPECT_EQ(std::isnan(x), (h & 1023) != 0);
      EXPECT_EQ(std::isinf(x), (h & 1023) == 0);
      if (h & 1023) {
        EXPECT_EQ(float_to_half(x), (h & 0x8000) | 0x7e00u);
        continue;
      }
    } else {
      ASSERT_EQ(static_cast<double>(x), half_value(static_cast<uint16_t>(h))) << h;
    }
    ASSERT_EQ(std::signbit(x), h >= 0x8000);
    ASSERT_EQ(float_to_half(x), h);
  }
}

TEST(Scalar, HalvesRoundToNearestEven) {
  // Between each two neighbours: below the middle, the middle (to the even one), above it.
  for (uint16_t h = 0; h < 0x7bff; ++h) {
    const double low = half_value(h), high = half_value(static_cast<uint16_t>(h + 1)),
                 middle = (low + high) / 2;
    const float at = static_cast<float>(middle);
    ASSERT_EQ(static_cast<double>(at), middle);
    ASSERT_EQ(float_to_half(at), h & 1 ? h + 1 : h) << h;
    ASSERT_EQ(float_to_half(std::nextafterf(at, 0.0f)), h) << h;
    ASSERT_EQ(float_to_half(std::nextafterf(at, INFINITY)), h + 1) << h;
    ASSERT_EQ(float_to_half(-at), 0x8000 | (h & 1 ? h + 1 : h)) << h;
  }
  EXPECT_EQ(float_to_half(65519.996f), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_half(-1e30f), 0xfc00);
  EXPECT_EQ(float_to_half(std::ldexp(1.0f, -25)), 0);  // the middle of 0 and the smallest
  EXPECT_EQ(float_to_half(bits_float(1)), 0);
}

TEST(Scalar, FmaRoundsOnce) {
  const float a = 1.0f + std::ldexp(1.0f, -12);
  // a^2 = 1 + 2^-11 + 2^-24: two roundings would lose the last bit.
  EXPECT_EQ(fma_rn(a, a, -(1.0f + std::ldexp(1.0f, -11))), std::ldexp(1.0f, -24));
  EXPECT_EQ(a * a - (1.0f + std::ldexp(1.0f, -11)), 0.0f);  // and the compiler fuses nothing
}

TEST(Scalar, DenormalsAreKept) {
  volatile float tiny = bits_float(3), half = 0.5f;
  EXPECT_EQ(float_bits(tiny * half), 2u);  // 1.5 units, tie to even
  EXPECT_EQ(float_bits(tiny + tiny), 6u);
}

TEST(Scalar, RoundEvenTakesTiesToEven) {
  EXPECT_EQ(round_even(0.5f), 0.0f);
  EXPECT_EQ(round_even(1.5f), 2.0f);
  EXPECT_EQ(round_even(-2.5f), -2.0f);
  EXPECT_EQ(round_even(126.49999f), 126.0f);
  EXPECT_EQ(round_even(-126.50001f), -127.0f);
}

TEST(Philox, KnownAnswersOfTheRandom123Library) {
  const auto expect = [](PhiloxBlock counter, uint32_t key0, uint32_t key1, PhiloxBlock want) {
    const PhiloxBlock got = philox4x32(counter, key0, key1);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got.word[i], want.word[i]);
  };
  expect({{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  expect({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  expect({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0,
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST(Philox, SeedChoiceAndPositionAllCount) {
  EXPECT_EQ(random_bits(0, 0, 0), 0xe169c58d6627e8d5ull);
  EXPECT_NE(random_bits(1, 0, 0), random_bits(0, 0, 0));
  EXPECT_NE(random_bits(uint64_t{1} << 32, 0, 0), random_bits(0, 0, 0));
  EXPECT_NE(random_bits(0, 1, 0), random_bits(0, 0, 0));
  EXPECT_NE(random_bits(0, 0, 1), random_bits(0, 0, 0));
  EXPECT_NE(random_bits(0, 0, uint64_t{1} << 32), random_bits(0, 0, 1));
}

TEST(Digest, WordsAddUpInAnyOrder) {
  Digest forward, backward;
  for (uint64_t i = 0; i < 100; ++i) digest_add(&forward, i * i, i);
  for (uint64_t i = 100; i-- > 0;) digest_add(&backward, i * i, i);
  EXPECT_EQ(forward, backward);
}

TEST(Digest, ADifferentBitOrPlaceShows) {
  std::vector<float> row(257, 1.0f);
  const Digest original = digest_row(row.data(), row.size());
  for (const size_t i : {size_t{0}, size_t{1}, size_t{255}, size_t{256}}) {
    std::vector<float> changed = row;
    changed[i] = bits_float(float_bits(1.0f) + 1);
    EXPECT_NE(digest_row(changed.data(), row.size()), original) << i;
  }
  row[3] = 2.0f;
  const Digest third = digest_row(row.data(), row.size());
  std::swap(row[3], row[5]);
  EXPECT_NE(digest_row(row.data(), row.size()), third);
}

TEST(Digest, NanPayloadsDoNotCountButZeroSignsDo) {
  const float quiet = bits_float(0x7fc00001u), negative = bits_float(0xffc12345u);
  EXPECT_EQ(digest_row(&quiet, 1), digest_row(&negative, 1));
  const float plus = 0.0f, minus = -0.0f;
  EXPECT_NE(digest_row(&plus, 1), digest_row(&minus, 1));
}

TEST(Digest, ChainsOfRowsAreOrdered) {
  const Digest a{1, 2}, b{3, 4};
  Digest ab, ba;
  digest_chain(&ab, a);
  digest_chain(&ab, b);
  digest_chain(&ba, b);
  digest_chain(&ba, a);
  EXPECT_NE(ab, ba);
}

TEST(Digest, BytesPadTheLastWordAndContinueFromAnyWord) {
  std::vector<uint8_t> bytes(29);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37 + 11);
  std::vector<uint8_t> padded = bytes;
  padded.resize(32);
  EXPECT_EQ(digest_bytes(bytes.data(), 29), digest_bytes(padded.data(), 32));
  const Digest head = digest_bytes(bytes.data(), 16), tail = digest_bytes(bytes.data() + 16, 13, 2);
  EXPECT_EQ((Digest{head.a + tail.a, head.b + tail.b}), digest_bytes(bytes.data(), 29));
}

}  // namespace
}  // namespace orcd::numerics
