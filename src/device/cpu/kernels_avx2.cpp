#include "device/cpu/simd_avx2.h"
// The lanes come first: kernels_shared.h is written over them.
#include "device/cpu/kernels_shared.h"

namespace orcd::cpu {
namespace {

// How many products of codes and activations add up in int16 without saturation (pairs: 2 * code * 127 * n <=
// 32767).
constexpr int int16_steps(TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
      return 1;
    case TensorType::kQ6_K:
      return 2;
    case TensorType::kQ5_0:
    case TensorType::kQ5_1:
    case TensorType::kQ5_K:
      return 4;
    default:
      return 8;
  }
}

ORCD_INLINE __m256i load_half_vector(const uint8_t* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}

// Bits of a 32-bit mask as bytes: 16 where the bit is set.
ORCD_INLINE __m256i expand_fifth_bits(const uint8_t* mask) {
  int32_t bits;
  memcpy(&bits, mask, 4);
  const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2,
                                          2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i select = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201ull));
  const __m256i bytes = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread), select);
  return _mm256_and_si256(_mm256_cmpeq_epi8(bytes, select), _mm256_set1_epi8(16));
}

// The codes of 8 rows (half 0 or 1 of the tile) of a group: vector j holds elements 4j .. 4j + 3 of each row.
template <TensorType kType>
ORCD_INLINE void load_codes(const uint8_t* quants, int half, __m256i* w) {
  if constexpr (kType == TensorType::kQ8_0) {
    for (int j = 0; j < 8; ++j) w[j] = load_half_vector(quants + 64 * j + 32 * half);
    return;
  }
  const __m256i nibble = _mm256_set1_epi8(15);
  for (int j = 0; j < 4; ++j) {
    const __m256i bytes = load_half_vector(quants + 64 * j + 32 * half);
    w[j] = _mm256_and_si256(bytes, nibble);
    w[j + 4] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
  }
  if constexpr (group_quant_bytes(kType) == 256 + 64) {
    for (int j = 0; j < 8; ++j)
      w[j] = _mm256_or_si256(w[j], expand_fifth_bits(quants + 256 + 8 * j + 4 * half));
  } else if constexpr (kType == TensorType::kQ6_K) {
    const __m256i pair = _mm256_set1_epi8(0x30);
    for (int h = 0; h < 2; ++h) {
      const __m256i bytes = load_half_vector(quants + 256 + 64 * h + 32 * half);
      w[4 * h] = _mm256_or_si256(w[4 * h], _mm256_and_si256(_mm256_slli_epi16(bytes, 4), pair));
      w[4 * h + 1] = _mm256_or_si256(w[4 * h + 1], _mm256_and_si256(_mm256_slli_epi16(bytes, 2), pair));
      w[4 * h + 2] = _mm256_or_si256(w[4 * h + 2], _mm256_and_si256(bytes, pair));
      w[4 * h + 3] = _mm256_or_si256(w[4 * h + 3], _mm256_and_si256(_mm256_srli_epi16(bytes, 2), pair));
    }
  }
}

ORCD_INLINE __m256 load_halves(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
ORCD_INLINE __m256 load_u8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
ORCD_INLINE __m256 load_i8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

struct Scales {
  __m256 d, dm, scale0, scale1;  // a scale of the whole group is in d, a minimum in dm
};

template <TensorType kType>
ORCD_INLINE Scales load_scales(const uint8_t* scales, uint64_t group, int half) {
  Scales s{};
  if constexpr (is_super_block(kType)) {
    const uint8_t* block = scales + group / 8 * block_scale_bytes(kType);
    s.d = load_halves(block + 16 * half);
    if constexpr (kType == TensorType::kQ6_K) {
      s.scale0 = load_i8(block + 32 + group % 8 * 32 + 8 * half);
      s.scale1 = load_i8(block + 48 + group % 8 * 32 + 8 * half);
    } else {
      const __m256 minus_dmin = _mm256_xor_ps(load_halves(block + 32 + 16 * half), _mm256_set1_ps(-0.0f));
      s.d = _mm256_mul_ps(s.d, load_u8(block + 64 + group % 8 * 32 + 8 * half));
      s.dm = _mm256_mul_ps(minus_dmin, load_u8(block + 80 + group % 8 * 32 + 8 * half));
    }
  } else {
    s.d = load_halves(scales + group * block_scale_bytes(kType) + 16 * half);
    if constexpr (numerics::has_minimum(kType))
      s.dm = load_halves(scales + group * block_scale_bytes(kType) + 32 + 16 * half);
  }
  return s;
}

ORCD_INLINE __m256i broadcast_quad(const int8_t* x) {
  int32_t quad;
  memcpy(&quad, x, 4);
  return _mm256_set1_epi32(quad);
}

// Sum over kCount vectors of 4 products a row, in int32.
template <TensorType kType, int kCount>
ORCD_INLINE __m256i dot(const __m256i* w, const int8_t* x) {
  const __m256i ones = _mm256_set1_epi16(1);
  constexpr int kSteps = int16_steps(kType) < kCount ? int16_steps(kType) : kCount;
  __m256i sum = _mm256_setzero_si256();
  for (int j = 0; j < kCount; j += kSteps) {
    __m256i pairs = _mm256_setzero_si256();
    for (int i = j; i < j + kSteps; ++i) {
      const __m256i quad = broadcast_quad(x + 4 * i);
      __m256i product;
      if constexpr (kType == TensorType::kQ8_0) {
        product = _mm256_maddubs_epi16(_mm256_abs_epi8(w[i]), _mm256_sign_epi8(quad, w[i]));
      } else {
        product = _mm256_maddubs_epi16(w[i], quad);
      }
      pairs = i == j ? product : _mm256_add_epi16(pairs, product);
    }
    const __m256i quads = _mm256_madd_epi16(pairs, ones);
    sum = j == 0 ? quads : _mm256_add_epi32(sum, quads);
  }
  return sum;
}

// One link of the chain for 8 rows and one token; see kernels_avx512.cpp for why scales may follow the
// conversion.
template <TensorType kType>
ORCD_INLINE __m256 chain(const __m256i* w, const Scales& s, const int8_t* x, const GroupScale& xs,
                         __m256 acc) {
  const __m256 dx = _mm256_set1_ps(xs.d);
  if constexpr (kType == TensorType::kQ6_K) {
    const __m256i low = _mm256_sub_epi32(dot<kType, 4>(w, x), _mm256_set1_epi32(32 * xs.sum_low));
    const __m256i high = _mm256_sub_epi32(dot<kType, 4>(w + 4, x + 16), _mm256_set1_epi32(32 * xs.sum_high));
    const __m256 sum =
        _mm256_fmadd_ps(s.scale1, _mm256_cvtepi32_ps(high), _mm256_mul_ps(s.scale0, _mm256_cvtepi32_ps(low)));
    return _mm256_fmadd_ps(_mm256_mul_ps(s.d, dx), sum, acc);
  } else {
    __m256i sum = dot<kType, 8>(w, x);
    if constexpr (zero_point(kType) != 0)
      sum = _mm256_sub_epi32(sum, _mm256_set1_epi32(zero_point(kType) * (xs.sum_low + xs.sum_high)));
    acc = _mm256_fmadd_ps(_mm256_mul_ps(s.d, dx), _mm256_cvtepi32_ps(sum), acc);
    if constexpr (numerics::has_minimum(kType)) acc = _mm256_fmadd_ps(s.dm, _mm256_set1_ps(xs.dsum), acc);
    return acc;
  }
}

// Where the codes of a group come from: the packed tile, or bytes that unpack_tile() left in the scratch.
template <TensorType kType, bool kUnpacked>
ORCD_INLINE void group_codes(const uint8_t* data, const uint8_t* scratch, uint64_t g, int half, __m256i* w) {
  if constexpr (kUnpacked) {
    for (int j = 0; j < 8; ++j) w[j] = load_half_vector(scratch + g * 512 + 256 * half + 32 * j);
  } else {
    load_codes<kType>(data + g * group_quant_bytes(kType), half, w);
  }
}

template <TensorType kType>
ORCD_INLINE void unpack_tile(const uint8_t* data, uint64_t groups, uint8_t* scratch) {
  for (uint64_t g = 0; g < groups; ++g) {
    for (int half = 0; half < 2; ++half) {
      __m256i w[8];
      load_codes<kType>(data + g * group_quant_bytes(kType), half, w);
      for (int j = 0; j < 8; ++j) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(scratch + g * 512 + 256 * half + 32 * j), w[j]);
      }
    }
  }
}

template <TensorType kType, bool kUnpacked, int kTokens>
ORCD_INLINE void block_tokens(const LinearArgs& args, const Strips& strips, const uint8_t* data,
                              const uint8_t* scales, uint64_t tile, uint32_t token) {
  const uint64_t groups = args.cols / 32;
  const int8_t* xq = args.xq + token * args.cols;
  const GroupScale* xs = args.xs + token * groups;
  __m256 total[2][kTokens] = {};
  for (int half = 0; half < 2; ++half) {
    for (uint32_t s = 0; s < strips.n; ++s) {
      __m256 acc[kTokens];
      for (__m256& a : acc) a = _mm256_setzero_ps();
      for (uint64_t g = strips.begin[s]; g < strips.begin[s + 1]; ++g) {
        __m256i w[8];
        group_codes<kType, kUnpacked>(data, args.scratch, g, half, w);
        const Scales scale = load_scales<kType>(scales, g, half);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          acc[t] = chain<kType>(w, scale, xq + t * args.cols + g * 32, xs[t * groups + g], acc[t]);
        }
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t)
        total[half][t] = s == 0 ? acc[t] : _mm256_add_ps(total[half][t], acc[t]);
    }
  }
  for (int t = 0; t < kTokens; ++t)
    store_tile(args, tile, token + static_cast<uint32_t>(t), V16{total[0][t], total[1][t]});
}

template <TensorType kType>
void linear_blocks(const LinearArgs& args) {
  const Strips strips = strips_of(args, 32);
  const TileLayout layout = tile_layout(kType, args.cols);
  const bool unpack = args.n_tokens > 8 && kType != TensorType::kQ8_0;
  for (uint64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const uint8_t* data = args.weights + tile * layout.tile_bytes;
    const uint8_t* scales = data + layout.quant_bytes;
    uint32_t token = 0;
    if (unpack) {
      unpack_tile<kType>(data, args.cols / 32, args.scratch);
      for (; token + 4 <= args.n_tokens; token += 4)
        block_tokens<kType, true, 4>(args, strips, data, scales, tile, token);
    } else {
      for (; token + 4 <= args.n_tokens; token += 4)
        block_tokens<kType, false, 4>(args, strips, data, scales, tile, token);
    }
    for (; token < args.n_tokens; ++token)
      block_tokens<kType, false, 1>(args, strips, data, scales, tile, token);
  }
}

void linear(const LinearArgs& args) {
  switch (args.type) {
    case TensorType::kQ4_0:
      return linear_blocks<TensorType::kQ4_0>(args);
    case TensorType::kQ4_1:
      return linear_blocks<TensorType::kQ4_1>(args);
    case TensorType::kQ5_0:
      return linear_blocks<TensorType::kQ5_0>(args);
    case TensorType::kQ5_1:
      return linear_blocks<TensorType::kQ5_1>(args);
    case TensorType::kQ8_0:
      return linear_blocks<TensorType::kQ8_0>(args);
    case TensorType::kQ4_K:
      return linear_blocks<TensorType::kQ4_K>(args);
    case TensorType::kQ5_K:
      return linear_blocks<TensorType::kQ5_K>(args);
    case TensorType::kQ6_K:
      return linear_blocks<TensorType::kQ6_K>(args);
    default:
      return linear_float_format(args);
  }
}

}  // namespace

const Kernels& avx2_kernels() {
  static constexpr Kernels kTable = {linear, attend,  quantize,    rms_norm, glu,
                                     add,    to_half, softcap_row, digest,   read_sum};
  return kTable;
}

}  // namespace orcd::cpu
