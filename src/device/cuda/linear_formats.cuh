// Codes and factors of the block formats in registers, as the matrix kernels use them (layout.h).
#pragma once

#include "device/cuda/activations.cuh"
#include "device/cuda/ptx.cuh"

namespace orcd::cuda {

// What a lane holds of a unit of a tile: the bytes of its four A registers for both groups.
struct LaneBits {
  uint4 low;         // nibbles, or Q8_0's first group, or codes of a codebook
  uint4 second;      // Q8_0's second group
  uint32_t high[2];  // what of the second group has no room in `low`; Q2_K, Q3_K: the two low bits
  uint32_t top;      // Q3_K's third bits
};

template <TensorType F>
__device__ __forceinline__ LaneBits load_bits(const uint8_t* unit, uint32_t lane) {
  LaneBits bits;
  if constexpr (has_pairs(F)) {
    const uint2 pairs = *reinterpret_cast<const uint2*>(unit + lane * 8);
    bits.high[0] = pairs.x;
    bits.high[1] = pairs.y;
    if constexpr (F == TensorType::kQ3_K)
      bits.top = *reinterpret_cast<const uint32_t*>(unit + 256 + lane * 4);
    return bits;
  }
  bits.low = *reinterpret_cast<const uint4*>(unit + lane * 16);
  if constexpr (F == TensorType::kQ8_0) bits.second = *reinterpret_cast<const uint4*>(unit + 512 + lane * 16);
  if constexpr (has_fifth_bit(F)) bits.high[0] = *reinterpret_cast<const uint32_t*>(unit + 512 + lane * 4);
  if constexpr (F == TensorType::kQ6_K) {
    const uint2 high = *reinterpret_cast<const uint2*>(unit + 512 + lane * 8);
    bits.high[0] = high.x;
    bits.high[1] = high.y;
  }
  return bits;
}

// Four entries of a format's codebook from `first` on, as bytes.
template <TensorType F>
__device__ constexpr uint32_t codebook_word(int first) {
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i)
    word |= (static_cast<uint32_t>(numerics::codebook_value(F, first + i)) & 255u) << (8 * i);
  return word;
}

// The values of four codes, which stand in the low 16 bits: both halves of the codebook, then for each byte
// the half that the code's top bit names.
template <TensorType F>
__device__ __forceinline__ uint32_t look_up(uint32_t codes) {
  constexpr uint32_t kWords[4] = {codebook_word<F>(0), codebook_word<F>(4), codebook_word<F>(8),
                                  codebook_word<F>(12)};
  const uint32_t place = codes & 0x7777u;
  const uint32_t lower = __byte_perm(kWords[0], kWords[1], place),
                 upper = __byte_perm(kWords[2], kWords[3], place);
  return __byte_perm(lower, upper, 0x3210u | (codes & 0x8888u) >> 1);
}

__device__ __forceinline__ uint32_t shift_left(uint32_t x, int by) { return by >= 0 ? x << by : x >> -by; }

// Bits that scaled_codes() leaves below the value: the sums come out 2^shift times as large.
template <TensorType F>
__device__ constexpr int code_shift(int h) {
  switch (F) {
    case TensorType::kQ4_0:
      return 4;
    case TensorType::kQ4_1:
    case TensorType::kQ4_K:
      return h ? 4 : 0;
    case TensorType::kQ5_1:
    case TensorType::kQ5_K:
      return h ? 3 : 0;
    case TensorType::kQ3_K:
      return 5;
    case TensorType::kQ5_0:
      return 3;
    case TensorType::kQ6_K:
      return 2;
    default:
      return 0;
  }
}
// Whether the bytes of A are unsigned.
template <TensorType F>
inline constexpr bool kUnsignedCodes =
    F == TensorType::kQ4_1 || F == TensorType::kQ4_K || F == TensorType::kQ5_1 || F == TensorType::kQ5_K;

// Group h of a unit as A registers with the fewest instructions: codes times 2^code_shift. Not for Q2_K,
// whose codes take their scales with them (weighted_codes).
template <TensorType F>
__device__ __forceinline__ void scaled_codes(const LaneBits& bits, int h, uint32_t (&reg)[4]) {
  const uint32_t low[4] = {bits.low.x, bits.low.y, bits.low.z, bits.low.w};
  if constexpr (F == TensorType::kQ8_0) {
    const uint32_t second[4] = {bits.second.x, bits.second.y, bits.second.z, bits.second.w};
#pragma unroll
    for (int r = 0; r < 4; ++r) reg[r] = h ? second[r] : low[r];
  } else {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      if constexpr (numerics::has_codebook(F)) {
        reg[r] = look_up<F>(h ? low[r] >> 16 : low[r]);
      } else if constexpr (F == TensorType::kQ3_K) {
        reg[r] = (shift_left(bits.high[h], 5 - 2 * r) & 0x60606060u) |
                 (shift_left(bits.top, 7 - (4 * h + r)) & 0x80808080u);
      } else if constexpr (F == TensorType::kQ4_0) {
        reg[r] = (h ? low[r] : low[r] << 4) & 0xf0f0f0f0u;
      } else if constexpr (F == TensorType::kQ6_K) {
        reg[r] = h ? (shift_left(bits.high[r / 2], 2 - 4 * (r % 2)) & 0x3c3c3c3cu) | (low[r] & 0xc0c0c0c0u)
                   : (low[r] << 2) & 0xfcfcfcfcu;
      } else if constexpr (has_fifth_bit(F)) {
        if (h) {
          reg[r] = (shift_left(bits.high[0], 3 - 2 * r) & 0x18181818u) | (low[r] & 0xe0e0e0e0u);
        } else {
          reg[r] = kUnsignedCodes<F> ? low[r] & 0x1f1f1f1fu : (low[r] << 3) & 0xf8f8f8f8u;
        }
      } else {
        reg[r] = low[r] & (h ? 0xf0f0f0f0u : 0x0f0f0f0fu);
      }
    }
  }
}

// The same with the codes themselves, signed: for kernels that use a register many times.
template <TensorType F>
__device__ __forceinline__ void exact_codes(const LaneBits& bits, int h, uint32_t (&reg)[4]) {
  scaled_codes<F>(bits, h, reg);
  constexpr uint32_t kZero = static_cast<uint32_t>(zero_point(F)) * 0x01010101u;
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if constexpr (kZero != 0) {
      // Two's complement of fewer bits: back to the unsigned code, then minus the zero point byte by byte.
      const uint32_t code = ((reg[r] >> code_shift<F>(h)) & (2 * kZero - 0x01010101u)) ^ kZero;
      reg[r] = (code + (0x80808080u - kZero)) ^ 0x80808080u;
    } else if (code_shift<F>(h) != 0) {
      reg[r] = (reg[r] >> code_shift<F>(h)) & ((0xffu >> code_shift<F>(h)) * 0x01010101u);
    }
  }
}

// Q2_K: codes times their scales, which fit a byte, and the minimums in place of codes, so that a product
// with them is min0 * sum(x, 0..15) + min1 * sum(x, 16..31). words: the scales of rows g and g + 8.
__device__ __forceinline__ void weighted_codes(const LaneBits& bits, const uint32_t (&words)[2], int h,
                                               uint32_t (&codes)[4], uint32_t (&minimums)[4]) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const uint32_t byte = words[r % 2] >> (16 * h + 8 * (r / 2));
    codes[r] = ((bits.high[h] >> (2 * r)) & 0x03030303u) * (byte & 15u);
    minimums[r] = ((byte >> 4) & 15u) * 0x01010101u;
  }
}

// Scales of one row of a unit: 4 bytes, 8 where a group has d and m, 2 in the low half where it has a byte.
template <TensorType F>
struct RowScales {
  static constexpr uint32_t kWords = F == TensorType::kQ4_1 || F == TensorType::kQ5_1 ? 2 : 1;
  uint32_t words[kWords];
};

template <TensorType F>
__device__ __forceinline__ RowScales<F> load_row_scales(const uint8_t* unit, uint32_t row) {
  RowScales<F> s;
  const uint8_t* at = unit + packed_shape(F).scales_at;
  if constexpr (RowScales<F>::kWords == 2) {
    const uint2 v = *reinterpret_cast<const uint2*>(at + row * 8);
    s.words[0] = v.x;
    s.words[1] = v.y;
  } else if constexpr (F == TensorType::kIQ4_XS || F == TensorType::kMXFP4) {
    s.words[0] = *reinterpret_cast<const uint16_t*>(at + row * 2);
  } else {
    s.words[0] = *reinterpret_cast<const uint32_t*>(at + row * 4);
  }
  return s;
}

// Whether a row's 256 elements share d alone, without a dmin.
template <TensorType F>
inline constexpr bool kSuperIsD = packed_shape(F).super_bytes == 32;

// What a row's 256 elements share, as it lies in stream 2: {d, dmin}, or d alone; 0 where there is no
// stream 2.
template <TensorType F>
__device__ __forceinline__ uint32_t load_row_super_bits(const uint8_t* super, uint32_t row) {
  if constexpr (kSuperIsD<F>) return *reinterpret_cast<const uint16_t*>(super + row * 2);
  if constexpr (packed_shape(F).super_bytes != 0) return *reinterpret_cast<const uint32_t*>(super + row * 4);
  return 0;
}

// The same as numbers: d and -dmin.
template <TensorType F>
__device__ __forceinline__ float2 row_super(uint32_t bits) {
  if constexpr (packed_shape(F).super_bytes == 0) return make_float2(0.0f, 0.0f);
  const float2 dm = half_pair(bits);
  return make_float2(dm.x, kSuperIsD<F> ? 0.0f : -dm.y);
}

template <TensorType F>
__device__ __forceinline__ float2 load_row_super(const uint8_t* super, uint32_t row) {
  return row_super<F>(load_row_super_bits<F>(super, row));
}

// d and dm of group h as decode_group gives them.
template <TensorType F>
__device__ __forceinline__ float2 group_factors(const RowScales<F>& s, float2 super, int h) {
  if constexpr (RowScales<F>::kWords == 2) {
    return half_pair(h ? s.words[1] : s.words[0]);
  } else if constexpr (numerics::has_half_scales(F)) {
    return super;
  } else if constexpr (F == TensorType::kMXFP4) {
    return make_float2(numerics::e8m0_half(static_cast<uint8_t>(s.words[0] >> (8 * h))), 0.0f);
  } else if constexpr (F == TensorType::kIQ4_XS) {
    const auto scale = static_cast<float>(static_cast<int8_t>(s.words[0] >> (8 * h)));
    return make_float2(__fmul_rn(super.x, scale), 0.0f);
  } else if constexpr (packed_shape(F).super_bytes != 0) {
    const uint32_t word = s.words[0] >> (16 * h);
    return make_float2(__fmul_rn(super.x, static_cast<float>(word & 255)),
                       __fmul_rn(super.y, static_cast<float>((word >> 8) & 255)));
  } else {
    const float2 d = half_pair(s.words[0]);
    return make_float2(h ? d.y : d.x, 0.0f);
  }
}

// Q6_K, Q3_K: scale of half `half` of group h.
__device__ __forceinline__ int32_t half_scale(uint32_t word, int h, int half) {
  return static_cast<int8_t>(word >> (16 * h + 8 * half));
}

// The sum over the products of group h with scaled_codes(), as a number: exact, as what bits are left below
// the value are zeros.
template <TensorType F>
__device__ __forceinline__ float unscaled(int32_t isum, int h) {
  const auto sum = static_cast<float>(isum);
  return code_shift<F>(h) == 0 ? sum : __fmul_rn(sum, 1.0f / static_cast<float>(1 << code_shift<F>(h)));
}

// One link of a chain: sum over the 32 products, x = {d, d * sum} of the activations.
template <TensorType F>
__device__ __forceinline__ float chain_link(float2 factors, float sum, float2 x, float acc) {
  acc = __fmaf_rn(__fmul_rn(factors.x, x.x), sum, acc);
  if constexpr (numerics::has_minimum(F)) acc = __fmaf_rn(factors.y, x.y, acc);
  return acc;
}

// {d, dm} factors of the activations in a link of Q2_K, whose minimums weigh the sums of halves: minimums as
// weighted_codes() gives them, times x.
__device__ __forceinline__ float2 with_minimums(float2 x, int32_t minimums) {
  return make_float2(x.x, __fmul_rn(x.x, static_cast<float>(minimums)));
}

// d (16 x 8) += A (codes) * B for one group.
template <TensorType F>
__device__ __forceinline__ void mma_group(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (kUnsignedCodes<F>) {
    mma_u8(d, a[0], a[1], a[2], a[3], b0, b1);
  } else {
    mma_s8(d, a[0], a[1], a[2], a[3], b0, b1);
  }
}

// Calls of<F>() for a block format. Comparisons, the usual formats first: the table of a switch and the jump
// through it cost a third of a microsecond when neither is in its cache.
template <TensorType... Fs, typename Of>
__device__ __forceinline__ void for_one_of(TensorType type, Of of) {
  auto value = static_cast<uint32_t>(type);
  const auto is = [&](TensorType f) {
    asm volatile("" : "+r"(value));  // or the compiler makes a table of it
    return value == static_cast<uint32_t>(f);
  };
  (void)((is(Fs) && (of.template operator()<Fs>(), true)) || ...);
}
template <typename Of>
__device__ __forceinline__ void for_format(TensorType type, Of of) {
  using enum TensorType;
  for_one_of<kQ4_K, kQ6_K, kQ5_0, kQ8_0, kQ4_0, kQ5_K, kMXFP4, kIQ4_XS, kIQ4_NL, kQ3_K, kQ4_1, kQ5_1, kQ2_K>(
      type, of);
}

// The output of one (row, token): strips folded left, bias added.
__device__ __forceinline__ float fold(const float* part, uint32_t strips, uint32_t stride, const float* bias,
                                      uint32_t row) {
  constexpr uint32_t kBatch = 4;  // whose loads are on their way together; strips are a power of two
  const float b = bias ? __ldg(bias + row) : 0.0f;
  float y = part[0];
  if (strips == 2) y = __fadd_rn(y, part[stride]);
#pragma unroll 1
  for (uint32_t first = 0; first + kBatch <= strips; first += kBatch) {
    float v[kBatch];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) v[i] = part[(first + i) * stride];
    if (first != 0) y = __fadd_rn(y, v[0]);
#pragma unroll
    for (uint32_t i = 1; i < kBatch; ++i) y = __fadd_rn(y, v[i]);
  }
  return bias ? __fadd_rn(y, b) : y;
}

}  // namespace orcd::cuda
