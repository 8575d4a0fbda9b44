// Every instruction set's kernels give the bits of the scalar definitions in src/numerics.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "device/cpu/isa.h"
#include "device/cpu/kernels.h"
#include "numerics/attention.h"
#include "numerics/digest.h"
#include "numerics/experts.h"
#include "numerics/functions.h"
#include "numerics/linear.h"
#include "numerics/norm.h"
#include "support/block_scales.h"

namespace orcd::cpu {
namespace {

const Kernels& kernels_of(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return avx2_kernels();
  if (isa == Isa::kAvx512) return avx512_kernels();
#endif
  (void)isa;
  return scalar_kernels();
}

// 64-byte aligned memory that starts out as garbage.
template <typename T>
class Buffer {
 public:
  explicit Buffer(size_t n)
      : n_(n),
        data_(static_cast<T*>(std::aligned_alloc(64, (std::max<size_t>(n * sizeof(T), 1) + 63) / 64 * 64))) {
    std::memset(static_cast<void*>(data_), 0xA5, n * sizeof(T));
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  size_t size() const { return n_; }

 private:
  size_t n_;
  T* data_;
};

using test::kBlockTypes;
constexpr TensorType kFloatTypes[] = {TensorType::kF32, TensorType::kF16, TensorType::kBF16};

// Random blocks whose 16-bit scales are finite and small.
std::vector<uint8_t> random_rows(TensorType type, uint64_t rows, uint64_t cols, uint32_t seed) {
  std::mt19937 rng(seed);
  const FormatInfo* format = find_format(type);
  const uint64_t n_blocks = rows * (cols / format->block_elements);
  std::vector<uint8_t> bytes(n_blocks * format->block_bytes);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng());
  std::uniform_real_distribution<float> scale(-0.02f, 0.02f);
  for (uint64_t block = 0; block < n_blocks; ++block) {
    const uint64_t at = block * format->block_bytes;
    if (type == TensorType::kF32) {
      const float value = scale(rng);
      std::memcpy(&bytes[at], &value, 4);
    } else if (type == TensorType::kBF16) {
      const uint32_t value = numerics::float_bits(scale(rng)) >> 16;
      std::memcpy(&bytes[at], &value, 2);
    } else {
      const float d = scale(rng);
      test::set_scales(type, d, scale(rng), &bytes[at]);
    }
  }
  return bytes;
}

std::vector<float> random_floats(size_t n, uint32_t seed, float spread = 1.0f) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> x(n);
  for (float& value : x) value = normal(rng);
  return x;
}

void pack_matrix(TensorType type, uint64_t rows, uint64_t cols, const std::vector<uint8_t>& file,
                 Buffer<uint8_t>* packed) {
  const uint64_t row_bytes = file.size() / rows;
  for (uint64_t tile = 0; tile < tile_count(rows); ++tile) {
    const uint64_t row = tile * kTileRows;
    pack_tile(type, cols, file.data() + row * row_bytes, row_bytes,
              static_cast<uint32_t>(std::min<uint64_t>(kTileRows, rows - row)),
              packed->data() + tile * tile_layout(type, cols).tile_bytes);
  }
}

class CpuKernels : public testing::TestWithParam<Isa> {
 protected:
  // y [rows] = the packed matrix times x [cols], quantised here: one token, one strip.
  void multiply(TensorType type, const uint8_t* packed, uint64_t rows, uint64_t cols,
                const std::vector<float>& x, Buffer<float>* y) {
    Buffer<int8_t> xq(cols);
    Buffer<GroupScale> xs(cols / 32);
    kernels_.quantize(x.data(), cols, xq.data(), xs.data());
    Buffer<uint8_t> scratch(linear_scratch_bytes(cols));
    LinearArgs args{};
    args.type = type;
    args.weights = packed;
    args.rows = rows;
    args.cols = cols;
    args.strips = 1;
    args.xq = xq.data();
    args.xs = xs.data();
    args.n_tokens = 1;
    args.y = y->data();
    args.y_stride = rows;
    args.tile_end = tile_count(rows);
    args.scratch = scratch.data();
    kernels_.linear(args);
  }

  const Kernels& kernels_ = kernels_of(GetParam());
};

TEST(CpuLayout, UnpackingGivesWhatTheFileHeld) {
  for (const TensorType type : kBlockTypes) {
    const uint64_t rows = 21, cols = 512,
                   row_bytes = find_format(type)->block_bytes * (cols / find_format(type)->block_elements);
    const std::vector<uint8_t> file = random_rows(type, rows, cols, 5);
    Buffer<uint8_t> packed(packed_bytes(type, rows, cols));
    pack_matrix(type, rows, cols, file, &packed);
    const TileLayout layout = tile_layout(type, cols);
    for (uint64_t row = 0; row < rows; ++row) {
      for (uint64_t g = 0; g < cols / 32; ++g) {
        const numerics::WeightGroup want = numerics::decode_group(type, file.data() + row * row_bytes, g);
        const numerics::WeightGroup got = unpack_group(type, packed.data() + row / 16 * layout.tile_bytes,
                                                       layout, static_cast<uint32_t>(row % 16), g);
        ASSERT_EQ(0, std::memcmp(want.w, got.w, sizeof want.w))
            << tensor_type_name(type) << " row " << row << " group " << g;
        ASSERT_EQ(0, std::memcmp(want.scale, got.scale, sizeof want.scale)) << tensor_type_name(type);
        ASSERT_EQ(0, std::memcmp(want.min, got.min, sizeof want.min)) << tensor_type_name(type);
        ASSERT_EQ(0, std::memcmp(&want.d, &got.d, 4)) << tensor_type_name(type);
        ASSERT_EQ(0, std::memcmp(&want.dm, &got.dm, 4)) << tensor_type_name(type);
      }
      std::vector<float> want(cols), got(cols);
      numerics::dequantize_row(type, file.data() + row * row_bytes, cols, want.data());
      dequantize_packed_row(type, packed.data(), cols, row, got.data());
      ASSERT_EQ(0, std::memcmp(want.data(), got.data(), cols * 4)) << tensor_type_name(type);
    }
  }
}

TEST_P(CpuKernels, BlockLinearEqualsTheDefinition) {
  struct Shape {
    uint64_t rows, cols;
    uint32_t tokens;
  };
  for (const TensorType type : kBlockTypes) {
    for (const Shape shape : {Shape{48, 256, 1},
                              {37, 768, 2},
                              {16, 512, 13},
                              {64, 1536, 5},
                              {70, 256, 19},
                              {33, 1024, 8},
                              {37, 2048, 21},
                              {16, 1536, 9}}) {
      const std::vector<uint8_t> file = random_rows(type, shape.rows, shape.cols, 7);
      Buffer<uint8_t> packed(packed_bytes(type, shape.rows, shape.cols));
      pack_matrix(type, shape.rows, shape.cols, file, &packed);
      const uint64_t groups = shape.cols / 32, row_bytes = file.size() / shape.rows;
      const std::vector<float> x = random_floats(shape.tokens * shape.cols, 9);
      Buffer<int8_t> xq(shape.tokens * shape.cols);
      Buffer<GroupScale> xs(shape.tokens * groups);
      std::vector<numerics::QuantizedGroup> definition(shape.tokens * groups);
      for (uint32_t t = 0; t < shape.tokens; ++t) {
        kernels_.quantize(&x[t * shape.cols], shape.cols, &xq[t * shape.cols], &xs[t * groups]);
        for (uint64_t g = 0; g < groups; ++g) {
          numerics::quantize_group(&x[t * shape.cols + g * 32], 32, &definition[t * groups + g]);
        }
      }
      Buffer<uint8_t> scratch(linear_scratch_bytes(shape.cols));
      Buffer<float> y(shape.tokens * shape.rows);
      LinearArgs args{};
      args.type = type;
      args.weights = packed.data();
      args.rows = shape.rows;
      args.cols = shape.cols;
      args.strips = numerics::strip_count(shape.rows, shape.cols);
      args.xq = xq.data();
      args.xs = xs.data();
      args.n_tokens = shape.tokens;
      args.y = y.data();
      args.y_stride = shape.rows;
      args.tile_end = tile_count(shape.rows);
      args.scratch = scratch.data();
      kernels_.linear(args);
      for (uint32_t t = 0; t < shape.tokens; ++t) {
        for (uint64_t row = 0; row < shape.rows; ++row) {
          const float want = numerics::linear_blocks(type, file.data() + row * row_bytes,
                                                     &definition[t * groups], shape.cols, args.strips);
          ASSERT_EQ(numerics::float_bits(want), numerics::float_bits(y[t * shape.rows + row]))
              << tensor_type_name(type) << " " << shape.rows << "x" << shape.cols << " token " << t << " row "
              << row;
        }
      }
    }
  }
}

TEST_P(CpuKernels, ExtremeCodesDoNotSaturate) {
  // All codes at their largest and activations at +-127: the worst case of every integer path.
  const uint64_t rows = 16, cols = 256;
  for (const TensorType type : kBlockTypes) {
    for (const int fill : {0xFF, 0x00, 0x80, 0x7F}) {
      std::vector<uint8_t> file(
          rows * (cols / find_format(type)->block_elements) * find_format(type)->block_bytes,
          static_cast<uint8_t>(fill));
      for (size_t at = 0; at < file.size(); at += find_format(type)->block_bytes)
        test::set_scales(type, 1.0f, 1.0f, &file[at]);
      Buffer<uint8_t> packed(packed_bytes(type, rows, cols));
      pack_matrix(type, rows, cols, file, &packed);
      std::vector<float> x(cols);
      for (size_t i = 0; i < cols; ++i) x[i] = i / 32 % 2 ? -3.0f : 3.0f;
      std::vector<numerics::QuantizedGroup> definition(cols / 32);
      for (size_t g = 0; g < cols / 32; ++g) numerics::quantize_group(&x[g * 32], 32, &definition[g]);
      Buffer<float> y(rows);
      multiply(type, packed.data(), rows, cols, x, &y);
      const float want = numerics::linear_blocks(type, file.data(), definition.data(), cols, 1);
      for (uint64_t row = 0; row < rows; ++row) {
        ASSERT_EQ(numerics::float_bits(want), numerics::float_bits(y[row]))
            << tensor_type_name(type) << " fill " << fill;
      }
    }
  }
}

TEST_P(CpuKernels, EveryMxfp4ExponentIsThePowerOfTwoOfTheDefinition) {
  const uint64_t rows = 256, cols = 32;  // row r has exponent r and the codes 2: value 2 * 2^(r - 128)
  std::vector<uint8_t> file(rows * 17, 0x22);
  for (uint64_t row = 0; row < rows; ++row) file[row * 17] = static_cast<uint8_t>(row);
  Buffer<uint8_t> packed(packed_bytes(TensorType::kMXFP4, rows, cols));
  pack_matrix(TensorType::kMXFP4, rows, cols, file, &packed);
  std::vector<float> x(cols, 0.0f);
  x[5] = 127.0f;  // d = 1, so the sum is 2 * 127
  Buffer<float> y(rows);
  multiply(TensorType::kMXFP4, packed.data(), rows, cols, x, &y);
  for (uint64_t row = 0; row < rows; ++row)
    ASSERT_EQ(y[row], std::ldexp(254.0f, static_cast<int>(row) - 128)) << row;
}

TEST_P(CpuKernels, FloatLinearEqualsTheDefinition) {
  for (const TensorType type : kFloatTypes) {
    const uint64_t rows = 35, cols = 200;
    const uint32_t tokens = 7;
    const std::vector<uint8_t> file = random_rows(type, rows, cols, 11);
    Buffer<uint8_t> packed(packed_bytes(type, rows, cols));
    pack_matrix(type, rows, cols, file, &packed);
    const std::vector<float> x = random_floats(tokens * cols, 13);
    Buffer<float> y(tokens * rows);
    LinearArgs args{};
    args.type = type;
    args.weights = packed.data();
    args.rows = rows;
    args.cols = cols;
    args.strips = numerics::strip_count(rows, cols);
    args.xf = x.data();
    args.xf_stride = cols;
    args.n_tokens = tokens;
    args.y = y.data();
    args.y_stride = rows;
    args.tile_end = tile_count(rows);
    kernels_.linear(args);
    for (uint32_t t = 0; t < tokens; ++t) {
      for (uint64_t row = 0; row < rows; ++row) {
        const float want = numerics::linear_floats(type, file.data() + row * (file.size() / rows),
                                                   &x[t * cols], cols, args.strips);
        ASSERT_EQ(numerics::float_bits(want), numerics::float_bits(y[t * rows + row]))
            << tensor_type_name(type);
      }
    }
  }
}

TEST_P(CpuKernels, QuantizeEqualsTheDefinitionAlsoForOddValues) {
  const uint32_t n = 32 * 8 + 7;
  std::vector<float> x = random_floats(n, 17);
  for (size_t i = 0; i < 32; ++i) x[i] = 0.0f;
  x[40] = 1e-40f;                                  // subnormal in a group of normals
  for (size_t i = 64; i < 96; ++i) x[i] = 1e-44f;  // all subnormal
  for (size_t i = 96; i < 128; ++i) x[i] = static_cast<float>(i) * 0.5f - 56.0f;  // ties
  x[130] = numerics::bits_float(0x7f800000u);
  x[165] = numerics::bits_float(0x7fc00001u);
  x[200] = 3e38f;
  Buffer<int8_t> q((n + 31) / 32 * 32);
  Buffer<GroupScale> s((n + 31) / 32);
  kernels_.quantize(x.data(), n, q.data(), s.data());
  for (uint32_t g = 0; g < (n + 31) / 32; ++g) {
    numerics::QuantizedGroup want;
    numerics::quantize_group(&x[g * 32], std::min(32u, n - g * 32), &want);
    if (numerics::is_nan(want.d)) {
      EXPECT_TRUE(numerics::is_nan(s[g].d)) << g;
      continue;
    }
    EXPECT_EQ(0, std::memcmp(want.q, &q[g * 32], 32)) << g;
    EXPECT_EQ(numerics::float_bits(want.d), numerics::float_bits(s[g].d)) << g;
    EXPECT_EQ(want.sum_low, s[g].sum_low) << g;
    EXPECT_EQ(want.sum_high, s[g].sum_high) << g;
    EXPECT_EQ(want.d * static_cast<float>(want.sum_low + want.sum_high), s[g].dsum) << g;
    EXPECT_EQ(want.sum_high, s[g].sum_high) << g;
  }
}

TEST_P(CpuKernels, AttentionEqualsTheDefinition) {
  struct Case {
    uint32_t head_dim, window;
    float cap;
    std::vector<uint32_t> positions;
    bool sinks = false;
  };
  const std::vector<Case> cases = {{64, 0, 0, {0}},
                                   {64, 0, 0, {63, 64, 65}},
                                   {64, 0, 0, {250, 251, 252, 253, 254, 255, 256, 257, 258}},
                                   {256, 0, 0, {700}},
                                   {80, 100, 0, {90, 99, 100, 101, 380, 381}},
                                   {40, 0, 30.0f, {300, 17, 511}},
                                   {64, 512, 0, {1000, 1001, 1002, 1003, 1004}},
                                   {72, 1, 0, {0, 64, 300}},
                                   {64, 128, 0, {0, 100, 127, 128, 129, 600}, true},
                                   {64, 0, 0, {999}, true}};
  for (const Case& c : cases) {
    const uint32_t n_pages = 20, n_kv_heads = 2, head = 1;
    const uint64_t page_stride = uint64_t{n_kv_heads} * c.head_dim * 64 * 4;
    // Never-written positions hold NaN: reading one shows.
    Buffer<uint8_t> kv(page_stride * n_pages);
    std::memset(kv.data(), 0xFF, kv.size());
    std::vector<uint32_t> pages(16);
    for (uint32_t i = 0; i < pages.size(); ++i) pages[i] = (i * 7 + 3) % n_pages;
    uint32_t last = 0;
    for (const uint32_t p : c.positions) last = std::max(last, p);
    std::mt19937 rng(c.head_dim);
    std::normal_distribution<float> normal;
    std::vector<const uint16_t*> k_pages, v_pages;
    for (const uint32_t page : pages) {
      auto* k = reinterpret_cast<uint16_t*>(kv.data() + page * page_stride + head * c.head_dim * 64 * 4);
      k_pages.push_back(k);
      v_pages.push_back(k + c.head_dim * 64);
    }
    for (uint32_t position = 0; position <= last; ++position) {
      for (uint32_t d = 0; d < c.head_dim; ++d) {
        const_cast<uint16_t*>(k_pages[position / 64])[d * 64 + position % 64] =
            numerics::float_to_half(normal(rng));
        const_cast<uint16_t*>(v_pages[position / 64])[(position % 64) * c.head_dim + d] =
            numerics::float_to_half(normal(rng));
      }
    }
    const std::vector<float> q = random_floats(c.positions.size() * c.head_dim, 19, 0.4f);
    Buffer<float> out(c.positions.size() * c.head_dim), scratch(attend_scratch_floats(c.head_dim));
    const std::vector<float> sinks = random_floats(c.positions.size(), 23, 2.0f);
    AttendArgs args{};
    args.n_rows = static_cast<uint32_t>(c.positions.size());
    for (uint32_t r = 0; r < args.n_rows; ++r) {
      args.q[r] = &q[r * c.head_dim];
      args.out[r] = &out[r * c.head_dim];
      args.position[r] = c.positions[r];
      args.sink[r] = c.sinks ? &sinks[r] : nullptr;
    }
    args.kv = kv.data();
    args.page_stride = page_stride;
    args.head_offset = head * c.head_dim * 64 * 4;
    args.pages = pages.data();
    args.head_dim = c.head_dim;
    args.window = c.window;
    args.softcap = c.cap;
    args.scratch = scratch.data();
    kernels_.attend(args);
    for (uint32_t r = 0; r < args.n_rows; ++r) {
      std::vector<float> want(c.head_dim), other(c.head_dim);
      numerics::attention(&q[r * c.head_dim], k_pages.data(), v_pages.data(), c.positions[r], c.window,
                          c.head_dim, c.cap, want.data(), other.data(), args.sink[r]);
      ASSERT_EQ(0, std::memcmp(want.data(), &out[r * c.head_dim], c.head_dim * 4))
          << "head_dim " << c.head_dim << " window " << c.window << " position " << c.positions[r];
      for (const float value : want) ASSERT_TRUE(numerics::is_finite(value));
    }
  }
}

TEST_P(CpuKernels, NormsActivationsAndConversionsEqualTheDefinition) {
  for (const uint32_t n : {1u, 40u, 64u, 255u, 256u, 576u, 640u, 2048u}) {
    const std::vector<float> x = random_floats(n, n, 3.0f), w = random_floats(n, n + 1);
    std::vector<float> want(n), got(n);
    numerics::rms_norm(x.data(), n, w.data(), 1e-5f, want.data());
    kernels_.rms_norm(x.data(), n, w.data(), 1e-5f, got.data());
    EXPECT_EQ(0, std::memcmp(want.data(), got.data(), n * 4)) << n;
    for (const Glu act : {Glu::kSilu, Glu::kGeluTanh, Glu::kGeluErf}) {
      for (uint32_t i = 0; i < n; ++i) {
        const float a = act == Glu::kSilu       ? numerics::silu(x[i])
                        : act == Glu::kGeluTanh ? numerics::gelu_tanh(x[i])
                                                : numerics::gelu_erf(x[i]);
        want[i] = a * w[i];
      }
      kernels_.glu(act, x.data(), w.data(), n, got.data());
      EXPECT_EQ(0, std::memcmp(want.data(), got.data(), n * 4)) << n;
    }
    for (uint32_t i = 0; i < n; ++i) want[i] = numerics::clamped_swiglu(x[i] * 3.0f, w[i] * 5.0f);
    std::vector<float> wide_x = x, wide_w = w;
    for (float& value : wide_x) value = value * 3.0f;
    for (float& value : wide_w) value = value * 5.0f;
    kernels_.glu(Glu::kClampedSwiglu, wide_x.data(), wide_w.data(), n, got.data());
    EXPECT_EQ(0, std::memcmp(want.data(), got.data(), n * 4)) << n;
    for (uint32_t rank = 0; rank < 3; ++rank) {
      for (uint32_t i = 0; i < n; ++i) want[i] = numerics::combine_expert(rank, 0.3f, x[i], want[i]);
      kernels_.combine(rank, 0.3f, x.data(), n, got.data());
      EXPECT_EQ(0, std::memcmp(want.data(), got.data(), n * 4)) << n << " rank " << rank;
    }
    std::vector<uint16_t> halves(n);
    kernels_.to_half(x.data(), n, halves.data());
    for (uint32_t i = 0; i < n; ++i) EXPECT_EQ(halves[i], numerics::float_to_half(x[i]));
    got = x;
    kernels_.softcap(got.data(), n, 30.0f);
    for (uint32_t i = 0; i < n; ++i)
      EXPECT_EQ(numerics::float_bits(got[i]), numerics::float_bits(numerics::softcap(x[i], 30.0f)));
    const numerics::Digest row = numerics::digest_row(x.data(), n);
    numerics::Digest sum;
    bool bad = false;
    const uint64_t middle = std::min<uint64_t>(n, (n / 4) * 2);
    kernels_.digest(x.data(), n, 0, middle, &sum.a, &sum.b, &bad);
    kernels_.digest(x.data(), n, middle, n, &sum.a, &sum.b, &bad);
    EXPECT_EQ(sum, row) << n;
    EXPECT_FALSE(bad);
  }
}

TEST_P(CpuKernels, DigestSeesNanAndInfinity) {
  std::vector<float> x(99, -1.0f);
  for (const uint32_t bits : {0x7fc00000u, 0xffc00000u, 0x7f800000u}) {
    for (const size_t at : {size_t{0}, size_t{51}, size_t{98}}) {
      x[at] = numerics::bits_float(bits);
      numerics::Digest sum;
      bool bad = false;
      kernels_.digest(x.data(), x.size(), 0, x.size(), &sum.a, &sum.b, &bad);
      EXPECT_TRUE(bad) << bits << " at " << at;
      x[at] = -1.0f;
    }
  }
  x[3] = numerics::bits_float(0xff800000u);  // -Inf masks a token: allowed
  numerics::Digest sum;
  bool bad = false;
  kernels_.digest(x.data(), x.size(), 0, x.size(), &sum.a, &sum.b, &bad);
  EXPECT_FALSE(bad);
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, CpuKernels, testing::ValuesIn(available_isas()),
                         [](const auto& param) { return std::string(isa_name(param.param)); });

}  // namespace
}  // namespace orcd::cpu
