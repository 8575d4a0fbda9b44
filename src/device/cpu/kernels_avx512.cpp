#include "device/cpu/simd_avx512.h"
// The lanes come first: kernels_shared.h is written over them.
#include "device/cpu/kernels_shared.h"

namespace orcd::cpu {
namespace {

// What load_codes() added to the integers: signed bytes are flipped to unsigned there, codebooks are looked
// up with the offset in them, the rest lie unsigned already.
constexpr int code_offset(TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
    case TensorType::kIQ4_NL:
    case TensorType::kIQ4_XS:
      return 128;
    case TensorType::kMXFP4:
      return 12;
    default:
      return zero_point(type);
  }
}

// The codebook of kType with its offset, in each quarter of a vector.
template <TensorType kType>
ORCD_INLINE __m512i codebook() {
  static constexpr Codebook<kType, code_offset(kType)> kTable;
  return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(kTable.values)));
}

// The two bits from bit 2 s of every byte, s = 0..3, in w[0..3].
ORCD_INLINE void load_pairs(const uint8_t* quants, __m512i* w) {
  const __m512i bytes = _mm512_load_si512(quants), pair = _mm512_set1_epi8(3);
  for (int s = 0; s < 4; ++s) w[s] = _mm512_and_si512(_mm512_srli_epi16(bytes, 2 * s), pair);
}

// The 8 vectors of unsigned codes of a group: vector j holds elements 4j .. 4j + 3 of each row.
template <TensorType kType>
ORCD_INLINE void load_codes(const uint8_t* quants, __m512i* w) {
  const __m512i nibble = _mm512_set1_epi8(15);
  if constexpr (kType == TensorType::kQ8_0) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
    for (int j = 0; j < 8; ++j) w[j] = _mm512_xor_si512(_mm512_load_si512(quants + 64 * j), flip);
    return;
  }
  if constexpr (kType == TensorType::kQ2_K || kType == TensorType::kQ3_K) {
    load_pairs(quants, w);
    load_pairs(quants + 64, w + 4);
    if constexpr (kType == TensorType::kQ2_K) return;
    const __m512i bits = _mm512_load_si512(quants + 128), third = _mm512_set1_epi8(4);
    for (int j = 0; j < 8; ++j) {
      const __m512i moved = j < 2 ? _mm512_slli_epi16(bits, 2 - j) : _mm512_srli_epi16(bits, j - 2);
      w[j] = _mm512_or_si512(w[j], _mm512_and_si512(moved, third));
    }
    return;
  }
  for (int j = 0; j < 4; ++j) {
    const __m512i bytes = _mm512_load_si512(quants + 64 * j);
    w[j] = _mm512_and_si512(bytes, nibble);
    w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
  }
  if constexpr (numerics::has_codebook(kType)) {
    for (int j = 0; j < 8; ++j) w[j] = _mm512_shuffle_epi8(codebook<kType>(), w[j]);
  } else if constexpr (has_fifth_bits(kType)) {
    const __m512i bits = _mm512_load_si512(quants + 256), fifth = _mm512_set1_epi8(0x10);
    for (int j = 0; j < 8; ++j) {
      const __m512i moved = j < 4 ? _mm512_slli_epi16(bits, 4 - j) : _mm512_srli_epi16(bits, j - 4);
      w[j] = _mm512_or_si512(w[j], _mm512_and_si512(moved, fifth));
    }
  } else if constexpr (kType == TensorType::kQ6_K) {
    const __m512i pair = _mm512_set1_epi8(0x30);
    for (int h = 0; h < 2; ++h) {
      const __m512i bytes = _mm512_load_si512(quants + 256 + 64 * h);
      w[4 * h] = _mm512_or_si512(w[4 * h], _mm512_and_si512(_mm512_slli_epi16(bytes, 4), pair));
      w[4 * h + 1] = _mm512_or_si512(w[4 * h + 1], _mm512_and_si512(_mm512_slli_epi16(bytes, 2), pair));
      w[4 * h + 2] = _mm512_or_si512(w[4 * h + 2], _mm512_and_si512(bytes, pair));
      w[4 * h + 3] = _mm512_or_si512(w[4 * h + 3], _mm512_and_si512(_mm512_srli_epi16(bytes, 2), pair));
    }
  }
}

ORCD_INLINE __m512 load_halves(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
ORCD_INLINE __m512 load_u8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
// Nibbles from bit `shift` of 16 bytes.
ORCD_INLINE __m512 load_nibbles(const uint8_t* p, unsigned shift) {
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(bytes, shift), _mm512_set1_epi32(15)));
}
ORCD_INLINE __m512 load_i8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

// 2^(exponent - 128) of 16 E8M0 exponents: numerics::e8m0_half().
ORCD_INLINE __m512 load_e8m0(const uint8_t* p) {
  const __m512i exponent = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(exponent, _mm512_set1_epi32(1)), 23);
  return _mm512_castsi512_ps(_mm512_mask_sllv_epi32(normal,
                                                    _mm512_cmplt_epi32_mask(exponent, _mm512_set1_epi32(2)),
                                                    _mm512_set1_epi32(0x00200000), exponent));
}

struct Scales {
  __m512 d, dm, scale0, scale1, min0, min1;  // a scale of the whole group is in d, a minimum in dm
};

template <TensorType kType>
ORCD_INLINE Scales load_scales(const uint8_t* scales, uint64_t group) {
  Scales s{};
  if constexpr (is_super_block(kType)) {
    const uint8_t* block = scales + group / 8 * block_scale_bytes(kType);
    s.d = load_halves(block);
    if constexpr (kType == TensorType::kQ2_K) {
      s.dm = _mm512_xor_ps(load_halves(block + 32), _mm512_set1_ps(-0.0f));
      const uint8_t* both = block + 64 + group % 8 * 32;
      s.scale0 = load_nibbles(both, 0);
      s.scale1 = load_nibbles(both + 16, 0);
      s.min0 = load_nibbles(both, 4);
      s.min1 = load_nibbles(both + 16, 4);
    } else if constexpr (kType == TensorType::kIQ4_XS) {
      s.d = _mm512_mul_ps(s.d, load_i8(block + 32 + group % 8 * 16));
    } else if constexpr (numerics::has_half_scales(kType)) {
      s.scale0 = load_i8(block + 32 + group % 8 * 32);
      s.scale1 = load_i8(block + 48 + group % 8 * 32);
    } else {
      const __m512 minus_dmin = _mm512_xor_ps(load_halves(block + 32), _mm512_set1_ps(-0.0f));
      s.d = _mm512_mul_ps(s.d, load_u8(block + 64 + group % 8 * 32));
      s.dm = _mm512_mul_ps(minus_dmin, load_u8(block + 80 + group % 8 * 32));
    }
  } else if constexpr (kType == TensorType::kMXFP4) {
    s.d = load_e8m0(scales + group * block_scale_bytes(kType));
  } else {
    s.d = load_halves(scales + group * block_scale_bytes(kType));
    if constexpr (numerics::has_minimum(kType))
      s.dm = load_halves(scales + group * block_scale_bytes(kType) + 32);
  }
  return s;
}

ORCD_INLINE __m512i dot4(const __m512i* w, const int8_t* x, __m512i acc) {
  for (int j = 0; j < 4; ++j) {
    int32_t quad;
    memcpy(&quad, x + 4 * j, 4);
    acc = _mm512_dpbusd_epi32(acc, w[j], _mm512_set1_epi32(quad));
  }
  return acc;
}

// One link of the chain for 16 rows and one token. The products with integer scales are exact in binary32
// (below 2^24), so they may be taken after the conversion.
template <TensorType kType>
ORCD_INLINE __m512 chain(const __m512i* w, const Scales& s, const int8_t* x, const GroupScale& xs,
                         __m512 acc) {
  const __m512 dx = _mm512_set1_ps(xs.d);
  if constexpr (numerics::has_half_scales(kType)) {
    const __m512i low = dot4(w, x, _mm512_set1_epi32(-zero_point(kType) * xs.sum_low));
    const __m512i high = dot4(w + 4, x + 16, _mm512_set1_epi32(-zero_point(kType) * xs.sum_high));
    const __m512 sum =
        _mm512_fmadd_ps(s.scale1, _mm512_cvtepi32_ps(high), _mm512_mul_ps(s.scale0, _mm512_cvtepi32_ps(low)));
    acc = _mm512_fmadd_ps(_mm512_mul_ps(s.d, dx), sum, acc);
    if constexpr (numerics::has_minimum(kType)) {
      const __m512 first_min = _mm512_mul_ps(s.min0, _mm512_set1_ps(static_cast<float>(xs.sum_low)));
      const __m512 min = _mm512_fmadd_ps(s.min1, _mm512_set1_ps(static_cast<float>(xs.sum_high)), first_min);
      acc = _mm512_fmadd_ps(s.dm, _mm512_mul_ps(dx, min), acc);
    }
    return acc;
  } else {
    const __m512i start = code_offset(kType) == 0
                              ? _mm512_setzero_si512()
                              : _mm512_set1_epi32(-code_offset(kType) * (xs.sum_low + xs.sum_high));
    const __m512i sum = _mm512_add_epi32(dot4(w, x, start), dot4(w + 4, x + 16, _mm512_setzero_si512()));
    acc = _mm512_fmadd_ps(_mm512_mul_ps(s.d, dx), _mm512_cvtepi32_ps(sum), acc);
    if constexpr (numerics::has_minimum(kType)) acc = _mm512_fmadd_ps(s.dm, _mm512_set1_ps(xs.dsum), acc);
    return acc;
  }
}

template <TensorType kType, int kTokens>
ORCD_INLINE void block_tokens(const LinearArgs& args, const Strips& strips, const uint8_t* data,
                              const uint8_t* scales, uint64_t tile, uint32_t token) {
  const uint64_t groups = args.cols / 32;
  const int8_t* xq = args.xq + token * args.cols;
  const GroupScale* xs = args.xs + token * groups;
  __m512 total[kTokens] = {};
  for (uint32_t s = 0; s < strips.n; ++s) {
    __m512 acc[kTokens];
    for (__m512& a : acc) a = _mm512_setzero_ps();
    for (uint64_t g = strips.begin[s]; g < strips.begin[s + 1]; ++g) {
      const uint8_t* quants = data + g * group_quant_bytes(kType);
      prefetch_ahead<kType>(quants, scales, g);
      __m512i w[8];
      load_codes<kType>(quants, w);
      const Scales scale = load_scales<kType>(scales, g);
      ORCD_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        acc[t] = chain<kType>(w, scale, xq + t * args.cols + g * 32, xs[t * groups + g], acc[t]);
      }
    }
    ORCD_UNROLL
    for (int t = 0; t < kTokens; ++t) total[t] = s == 0 ? acc[t] : _mm512_add_ps(total[t], acc[t]);
  }
  for (int t = 0; t < kTokens; ++t) store_tile(args, tile, token + static_cast<uint32_t>(t), V16{total[t]});
}

template <TensorType kType>
void linear_blocks(const LinearArgs& args) {
  const Strips strips = strips_of(args, 32);
  const TileLayout layout = tile_layout(kType, args.cols);
  for (uint64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const uint8_t* data = args.weights + tile * layout.tile_bytes;
    const uint8_t* scales = data + layout.quant_bytes;
    uint32_t token = 0;
    for (; token + 8 <= args.n_tokens; token += 8)
      block_tokens<kType, 8>(args, strips, data, scales, tile, token);
    if (token + 4 <= args.n_tokens) {
      block_tokens<kType, 4>(args, strips, data, scales, tile, token);
      token += 4;
    }
    if (token + 2 <= args.n_tokens) {
      block_tokens<kType, 2>(args, strips, data, scales, tile, token);
      token += 2;
    }
    if (token < args.n_tokens) block_tokens<kType, 1>(args, strips, data, scales, tile, token);
  }
}

}  // namespace
}  // namespace orcd::cpu

#include "device/cpu/kernels_linear.h"

namespace orcd::cpu {

const Kernels& avx512_kernels() {
  static constexpr Kernels kTable = kernels_of(linear);
  return kTable;
}

}  // namespace orcd::cpu
