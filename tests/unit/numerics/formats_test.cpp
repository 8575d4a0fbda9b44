#include "numerics/formats.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "numerics/blocks.h"

namespace orcd::numerics {
namespace {

constexpr TensorType kAllTypes[] = {
    TensorType::kF32,    TensorType::kF16,    TensorType::kQ4_0, TensorType::kQ4_1,
    TensorType::kQ5_0,   TensorType::kQ5_1,   TensorType::kQ8_0, TensorType::kQ2_K,
    TensorType::kQ3_K,   TensorType::kQ4_K,   TensorType::kQ5_K, TensorType::kQ6_K,
    TensorType::kIQ4_NL, TensorType::kIQ4_XS, TensorType::kBF16, TensorType::kMXFP4};

std::vector<TensorType> computing_types() {
  std::vector<TensorType> types;
  for (const TensorType type : kAllTypes) {
    if (find_format(type)->computes) types.push_back(type);
  }
  return types;
}

struct Golden {
  uint32_t type, n_blocks;
  std::vector<uint8_t> blocks;
  std::vector<float> values;
};

// tests/golden/formats/NAME.bin, as tools/format_goldens.py describes it.
Golden read_golden(TensorType type) {
  const FormatInfo& format = *find_format(type);
  const std::string path =
      std::string(ORCD_SOURCE_DIR) + "/tests/golden/formats/" + std::string(format.name) + ".bin";
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  Golden golden{};
  if (bytes.size() < 12 || std::memcmp(bytes.data(), "ORCQ", 4) != 0) {
    ADD_FAILURE() << path << " is missing or damaged";
    return golden;
  }
  std::memcpy(&golden.type, &bytes[4], 4);
  std::memcpy(&golden.n_blocks, &bytes[8], 4);
  const size_t block_bytes = size_t{golden.n_blocks} * format.block_bytes;
  golden.values.resize(size_t{golden.n_blocks} * format.block_elements);
  if (bytes.size() != 12 + block_bytes + golden.values.size() * 4) {
    ADD_FAILURE() << path << " has " << bytes.size() << " bytes";
    return {};
  }
  golden.blocks.assign(bytes.begin() + 12, bytes.begin() + 12 + static_cast<ptrdiff_t>(block_bytes));
  std::memcpy(golden.values.data(), bytes.data() + 12 + block_bytes, golden.values.size() * 4);
  return golden;
}

class Format : public testing::TestWithParam<TensorType> {};

TEST_P(Format, DequantisesBitForBitAsTheGgufPackage) {
  const Golden golden = read_golden(GetParam());
  ASSERT_EQ(golden.type, static_cast<uint32_t>(GetParam()));
  ASSERT_GT(golden.n_blocks, 0u);
  std::vector<float> values(golden.values.size());
  dequantize_row(GetParam(), golden.blocks.data(), values.size(), values.data());
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(float_bits(values[i]), float_bits(golden.values[i]))
        << "element " << i << ": " << values[i] << " for " << golden.values[i];
  }
}

// Every isum and msum of a link stays below 2^24, so its conversion to binary32 is exact (rule N3).
TEST_P(Format, IntegerSumsFitTheSignificand) {
  if (!is_block_format(GetParam())) return;
  const Golden golden = read_golden(GetParam());
  for (uint64_t group = 0; group < golden.values.size() / 32; ++group) {
    const WeightGroup g = decode_group(GetParam(), golden.blocks.data(), group);
    int64_t isum = 0, msum = 0;
    for (int i = 0; i < 32; ++i) isum += std::abs(g.scale[i / 16] * g.w[i]) * 127;
    for (int half = 0; half < 2; ++half) msum += std::abs(g.min[half]) * 16 * 127;
    ASSERT_LT(isum, 1 << 24);
    ASSERT_LT(msum, 1 << 24);
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, Format, testing::ValuesIn(computing_types()),
                         [](const auto& test) { return tensor_type_name(test.param); });

TEST(Formats, TheSixteenOfThisVersionCompute) {
  for (const TensorType type :
       {TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ4_0, TensorType::kQ4_1,
        TensorType::kQ5_0, TensorType::kQ5_1, TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ5_K,
        TensorType::kQ6_K, TensorType::kQ2_K, TensorType::kQ3_K, TensorType::kIQ4_NL, TensorType::kIQ4_XS,
        TensorType::kMXFP4}) {
    EXPECT_TRUE(find_format(type)->computes) << tensor_type_name(type);
  }
  for (const TensorType type : {TensorType::kNVFP4, TensorType::kIQ3_S, TensorType::kQ8_1, TensorType::kI8})
    EXPECT_FALSE(find_format(type)->computes) << tensor_type_name(type);
}

TEST(Formats, Mxfp4IsE2M1WithAPowerOfTwo) {
  // The OCP's values of the codes 0..7, at the exponent that means 1.
  const float values[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  uint8_t block[17] = {127};
  for (int i = 0; i < 16; ++i) block[1 + i] = static_cast<uint8_t>(i * 17);
  float out[32];
  dequantize_group(decode_mxfp4(block), false, out);
  for (int code = 0; code < 8; ++code) {
    EXPECT_EQ(out[code], values[code]);
    EXPECT_EQ(out[8 + code], -values[code]);
    EXPECT_EQ(out[16 + code], values[code]);
  }
  EXPECT_EQ(e8m0_half(0), bits_float(0x00200000));
  EXPECT_EQ(e8m0_half(1), bits_float(0x00400000));
  EXPECT_EQ(e8m0_half(2), bits_float(0x00800000));
  EXPECT_EQ(e8m0_half(128), 1.0f);
}

TEST(Formats, UnknownNumbersHaveNoRowAndAPlainName) {
  EXPECT_EQ(find_format(static_cast<TensorType>(4)), nullptr);  // Q4_2, removed from the format
  EXPECT_EQ(find_format(static_cast<TensorType>(77)), nullptr);
  EXPECT_EQ(tensor_type_name(static_cast<TensorType>(77)), "type 77");
  EXPECT_EQ(tensor_type_name(TensorType::kQ4_K), "Q4_K");
}

}  // namespace
}  // namespace orcd::numerics
