#include "device/cpu/simd_avx2.h"
// The lanes come first: kernels_shared.h is written over them.
#include "device/cpu/kernels_shared.h"

#include <bit>

namespace orcd::cpu {
namespace {

// How many products of codes and activations add up in int16 without saturation (pairs: 2 * code * 127 * n <=
// 32767).
constexpr int int16_steps(TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
    case TensorType::kIQ4_NL:
    case TensorType::kIQ4_XS:
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

// Moves bit `from` of every byte to bit `to`; what crosses into a neighbour is for the caller to mask off.
ORCD_INLINE __m256i move_bit(__m256i bytes, int from, int to) {
  return from < to ? _mm256_slli_epi16(bytes, to - from) : _mm256_srli_epi16(bytes, from - to);
}

// The codebook of kType in both halves of a vector.
template <TensorType kType>
ORCD_INLINE __m256i codebook() {
  static constexpr Codebook<kType, 0> kTable;
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(kTable.values)));
}

// Vector j of the codes of a group, for 8 rows (half 0 or 1 of the tile): elements 4j .. 4j + 3 of each row;
// of formats with a codebook, their integers.
template <TensorType kType>
ORCD_INLINE __m256i load_codes(const uint8_t* quants, int half, int j) {
  if constexpr (kType == TensorType::kQ8_0) return load_half_vector(quants + 64 * j + 32 * half);
  if constexpr (kType == TensorType::kQ2_K || kType == TensorType::kQ3_K) {
    const __m256i pairs = move_bit(load_half_vector(quants + 64 * (j / 4) + 32 * half), j % 4 * 2, 0);
    const __m256i low = _mm256_and_si256(pairs, _mm256_set1_epi8(3));
    if constexpr (kType == TensorType::kQ2_K) return low;
    const __m256i bits = move_bit(load_half_vector(quants + 128 + 32 * half), j, 2);
    return _mm256_or_si256(low, _mm256_and_si256(bits, _mm256_set1_epi8(4)));
  }
  const __m256i bytes = load_half_vector(quants + 64 * (j % 4) + 32 * half);
  __m256i codes = _mm256_and_si256(move_bit(bytes, j / 4 * 4, 0), _mm256_set1_epi8(15));
  if constexpr (has_fifth_bits(kType)) {
    const __m256i bits = move_bit(load_half_vector(quants + 256 + 32 * half), j, 4);
    codes = _mm256_or_si256(codes, _mm256_and_si256(bits, _mm256_set1_epi8(0x10)));
  } else if constexpr (kType == TensorType::kQ6_K) {
    const __m256i bits = move_bit(load_half_vector(quants + 256 + 64 * (j / 4) + 32 * half), j % 4 * 2, 4);
    codes = _mm256_or_si256(codes, _mm256_and_si256(bits, _mm256_set1_epi8(0x30)));
  } else if constexpr (numerics::has_codebook(kType)) {
    codes = _mm256_shuffle_epi8(codebook<kType>(), codes);
  }
  return codes;
}

ORCD_INLINE __m256 load_halves(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
ORCD_INLINE __m256 load_u8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
// Nibbles from bit `shift` of 8 bytes.
ORCD_INLINE __m256 load_nibbles(const uint8_t* p, int shift) {
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(bytes, shift), _mm256_set1_epi32(15)));
}
ORCD_INLINE __m256 load_i8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// 2^(exponent - 128) of 8 E8M0 exponents: numerics::e8m0_half().
ORCD_INLINE __m256 load_e8m0(const uint8_t* p) {
  const __m256i exponent = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(exponent, _mm256_set1_epi32(1)), 23);
  const __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), exponent);
  return _mm256_castsi256_ps(
      _mm256_blendv_epi8(normal, tiny, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), exponent)));
}

struct Scales {
  __m256 d, dm, scale0, scale1, min0, min1;  // a scale of the whole group is in d, a minimum in dm
};

template <TensorType kType>
ORCD_INLINE Scales load_scales(const uint8_t* scales, uint64_t group, int half) {
  Scales s{};
  if constexpr (is_super_block(kType)) {
    const uint8_t* block = scales + group / 8 * block_scale_bytes(kType);
    s.d = load_halves(block + 16 * half);
    if constexpr (kType == TensorType::kQ2_K) {
      s.dm = _mm256_xor_ps(load_halves(block + 32 + 16 * half), _mm256_set1_ps(-0.0f));
      const uint8_t* both = block + 64 + group % 8 * 32 + 8 * half;
      s.scale0 = load_nibbles(both, 0);
      s.scale1 = load_nibbles(both + 16, 0);
      s.min0 = load_nibbles(both, 4);
      s.min1 = load_nibbles(both + 16, 4);
    } else if constexpr (kType == TensorType::kIQ4_XS) {
      s.d = _mm256_mul_ps(s.d, load_i8(block + 32 + group % 8 * 16 + 8 * half));
    } else if constexpr (numerics::has_half_scales(kType)) {
      s.scale0 = load_i8(block + 32 + group % 8 * 32 + 8 * half);
      s.scale1 = load_i8(block + 48 + group % 8 * 32 + 8 * half);
    } else {
      const __m256 minus_dmin = _mm256_xor_ps(load_halves(block + 32 + 16 * half), _mm256_set1_ps(-0.0f));
      s.d = _mm256_mul_ps(s.d, load_u8(block + 64 + group % 8 * 32 + 8 * half));
      s.dm = _mm256_mul_ps(minus_dmin, load_u8(block + 80 + group % 8 * 32 + 8 * half));
    }
  } else if constexpr (kType == TensorType::kMXFP4) {
    s.d = load_e8m0(scales + group * block_scale_bytes(kType) + 8 * half);
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

// Products of codes and activations, added up by pairs in int16. Signed bytes lend their sign to the
// activations.
template <TensorType kType>
ORCD_INLINE __m256i multiply(__m256i codes, __m256i quad) {
  if constexpr (kType == TensorType::kQ8_0 || numerics::has_codebook(kType))
    return _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(quad, codes));
  return _mm256_maddubs_epi16(codes, quad);
}

// GCC would put an addition off until its sum is needed, and keep all the products in memory until then.
ORCD_INLINE __m256i in_place(__m256i sum) {
  asm("" : "+x"(sum));
  return sum;
}

// sums[half][t]: the products of code vectors [kFirst, kLast) of a group, 8 rows a half, with the activations
// of token t, in int32. Both halves at once: they share the broadcasts. kUnpacked: a byte a code, as Q8_0
// lies.
template <TensorType kType, bool kUnpacked, int kFirst, int kLast, int kTokens>
ORCD_INLINE void dot(const uint8_t* quants, const int8_t* x, uint64_t x_stride, __m256i (&sums)[2][kTokens]) {
  constexpr TensorType kLayout = kUnpacked ? TensorType::kQ8_0 : kType;
  constexpr int kSteps = int16_steps(kType) < kLast - kFirst ? int16_steps(kType) : kLast - kFirst;
  const __m256i ones = _mm256_set1_epi16(1);
  ORCD_UNROLL
  for (int begin = kFirst; begin < kLast; begin += kSteps) {
    __m256i pairs[2][kTokens];
    ORCD_UNROLL
    for (int j = begin; j < begin + kSteps; ++j) {
      const __m256i codes[2] = {load_codes<kLayout>(quants, 0, j), load_codes<kLayout>(quants, 1, j)};
      ORCD_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        const __m256i quad = broadcast_quad(x + t * x_stride + 4 * j);
        ORCD_UNROLL
        for (int half = 0; half < 2; ++half) {
          const __m256i product = multiply<kType>(codes[half], quad);
          pairs[half][t] = j == begin ? product : in_place(_mm256_add_epi16(pairs[half][t], product));
        }
      }
    }
    ORCD_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      ORCD_UNROLL
      for (int half = 0; half < 2; ++half) {
        const __m256i quads = _mm256_madd_epi16(pairs[half][t], ones);
        sums[half][t] = begin == kFirst ? quads : in_place(_mm256_add_epi32(sums[half][t], quads));
      }
    }
  }
}

// The zero point's share of a sum: zero_point(kType) times the sum of the activations.
template <TensorType kType>
ORCD_INLINE __m256i centre(__m256i sum, int32_t activations) {
  constexpr int kShift = std::bit_width(static_cast<unsigned>(zero_point(kType))) - 1;
  static_assert(zero_point(kType) == 0 || zero_point(kType) == 1 << (kShift < 0 ? 0 : kShift));
  if constexpr (zero_point(kType) == 0) return sum;
  return _mm256_sub_epi32(sum, _mm256_slli_epi32(_mm256_set1_epi32(activations), kShift));
}

// One link of the chain of each row and token, for a group; see kernels_avx512.cpp for why scales may follow
// the conversion.
template <TensorType kType, bool kUnpacked, int kTokens>
ORCD_INLINE void chain(const uint8_t* quants, const Scales (&scales)[2], const int8_t* x, uint64_t x_stride,
                       const GroupScale* xs, uint64_t xs_stride, __m256 (&acc)[2][kTokens]) {
  if constexpr (numerics::has_half_scales(kType)) {
    __m256i low[2][kTokens], high[2][kTokens];
    dot<kType, kUnpacked, 0, 4>(quants, x, x_stride, low);
    dot<kType, kUnpacked, 4, 8>(quants, x, x_stride, high);
    ORCD_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const GroupScale& token = xs[t * xs_stride];
      const __m256 dx = _mm256_set1_ps(token.d);
      ORCD_UNROLL
      for (int half = 0; half < 2; ++half) {
        const Scales& s = scales[half];
        const __m256 first = _mm256_cvtepi32_ps(centre<kType>(low[half][t], token.sum_low));
        const __m256 second = _mm256_cvtepi32_ps(centre<kType>(high[half][t], token.sum_high));
        const __m256 sum = _mm256_fmadd_ps(s.scale1, second, _mm256_mul_ps(s.scale0, first));
        acc[half][t] = _mm256_fmadd_ps(_mm256_mul_ps(s.d, dx), sum, acc[half][t]);
        if constexpr (numerics::has_minimum(kType)) {
          const __m256 first_min = _mm256_mul_ps(s.min0, _mm256_set1_ps(static_cast<float>(token.sum_low)));
          const __m256 min =
              _mm256_fmadd_ps(s.min1, _mm256_set1_ps(static_cast<float>(token.sum_high)), first_min);
          acc[half][t] = _mm256_fmadd_ps(s.dm, _mm256_mul_ps(dx, min), acc[half][t]);
        }
      }
    }
  } else {
    __m256i sums[2][kTokens];
    dot<kType, kUnpacked, 0, 8>(quants, x, x_stride, sums);
    ORCD_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const GroupScale& token = xs[t * xs_stride];
      const __m256 dx = _mm256_set1_ps(token.d);
      ORCD_UNROLL
      for (int half = 0; half < 2; ++half) {
        const Scales& s = scales[half];
        const __m256 sum = _mm256_cvtepi32_ps(centre<kType>(sums[half][t], token.sum_low + token.sum_high));
        acc[half][t] = _mm256_fmadd_ps(_mm256_mul_ps(s.d, dx), sum, acc[half][t]);
        if constexpr (numerics::has_minimum(kType))
          acc[half][t] = _mm256_fmadd_ps(s.dm, _mm256_set1_ps(token.dsum), acc[half][t]);
      }
    }
  }
}

// Strips [first, last) of one tile for kTokens tokens, added to what y holds if first > 0. quants: where the
// codes of strip `first` begin.
template <TensorType kType, bool kUnpacked, int kTokens>
ORCD_INLINE void block_tokens(const LinearArgs& args, const Strips& strips, uint32_t first, uint32_t last,
                              const uint8_t* quants, const uint8_t* scales, uint64_t tile, uint32_t token) {
  constexpr uint64_t kGroupBytes = group_quant_bytes(kUnpacked ? TensorType::kQ8_0 : kType);
  const uint64_t groups = args.cols / 32;
  const int8_t* xq = args.xq + token * args.cols;
  const GroupScale* xs = args.xs + token * groups;
  V16 total[kTokens] = {};
  if (first > 0) {
    for (int t = 0; t < kTokens; ++t) total[t] = load_tile(args, tile, token + static_cast<uint32_t>(t));
  }
  for (uint32_t s = first; s < last; ++s) {
    __m256 acc[2][kTokens];
    for (auto& half : acc) {
      for (__m256& a : half) a = _mm256_setzero_ps();
    }
    for (uint64_t g = strips.begin[s]; g < strips.begin[s + 1]; ++g, quants += kGroupBytes) {
      if constexpr (!kUnpacked) prefetch_ahead<kType>(quants, scales, g);
      const Scales scale[2] = {load_scales<kType>(scales, g, 0), load_scales<kType>(scales, g, 1)};
      chain<kType, kUnpacked>(quants, scale, xq + g * 32, args.cols, xs + g, groups, acc);
    }
    for (int t = 0; t < kTokens; ++t) {
      const V16 sum{acc[0][t], acc[1][t]};
      total[t] = s == 0 ? sum : v_add(total[t], sum);
    }
  }
  for (int t = 0; t < kTokens; ++t) store_tile(args, tile, token + static_cast<uint32_t>(t), total[t]);
}

// A byte for each code of n groups, as Q8_0 lies in a tile.
template <TensorType kType>
ORCD_INLINE void unpack_groups(const uint8_t* quants, uint64_t n, uint8_t* scratch) {
  for (uint64_t g = 0; g < n; ++g, quants += group_quant_bytes(kType), scratch += 512) {
    ORCD_UNROLL
    for (int j = 0; j < 8; ++j) {
      for (int half = 0; half < 2; ++half) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(scratch + 64 * j + 32 * half),
                           load_codes<kType>(quants, half, j));
      }
    }
  }
}

// Many tokens: some strips at a time are unpacked to stay in the first-level cache while the tokens go by.
template <TensorType kType>
ORCD_INLINE uint32_t unpacked_tokens(const LinearArgs& args, const Strips& strips, const uint8_t* data,
                                     const uint8_t* scales, uint64_t tile) {
  constexpr uint64_t kMostGroups = 16;  // 8 KiB
  const uint32_t n_tokens = args.n_tokens / 4 * 4;
  for (uint32_t first = 0, last = 0; first < strips.n; first = last) {
    const uint64_t begin = strips.begin[first];
    do ++last;
    while (last < strips.n && strips.begin[last + 1] - begin <= kMostGroups);
    unpack_groups<kType>(data + begin * group_quant_bytes(kType), strips.begin[last] - begin, args.scratch);
    for (uint32_t token = 0; token < n_tokens; token += 4)
      block_tokens<kType, true, 4>(args, strips, first, last, args.scratch, scales, tile, token);
  }
  return n_tokens;
}

template <TensorType kType>
void linear_blocks(const LinearArgs& args) {
  const Strips strips = strips_of(args, 32);
  const TileLayout layout = tile_layout(kType, args.cols);
  const bool unpack = args.n_tokens > 8 && kType != TensorType::kQ8_0;
  for (uint64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const uint8_t* data = args.weights + tile * layout.tile_bytes;
    const uint8_t* scales = data + layout.quant_bytes;
    uint32_t token = unpack ? unpacked_tokens<kType>(args, strips, data, scales, tile) : 0;
    for (; token + 4 <= args.n_tokens; token += 4)
      block_tokens<kType, false, 4>(args, strips, 0, strips.n, data, scales, tile, token);
    if (token + 2 <= args.n_tokens) {
      block_tokens<kType, false, 2>(args, strips, 0, strips.n, data, scales, tile, token);
      token += 2;
    }
    if (token < args.n_tokens)
      block_tokens<kType, false, 1>(args, strips, 0, strips.n, data, scales, tile, token);
  }
}

}  // namespace
}  // namespace orcd::cpu

#include "device/cpu/kernels_linear.h"

namespace orcd::cpu {

const Kernels& avx2_kernels() {
  static constexpr Kernels kTable = kernels_of(linear);
  return kTable;
}

}  // namespace orcd::cpu
