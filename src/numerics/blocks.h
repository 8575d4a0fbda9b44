// Block formats of weights: a group of 32 elements decoded to integers, integer scales and float factors
// (rule N3). value[i] = round(round(d * scale) * w[i]) + round(dm * min), halves of 16 with their own scale
// and min where the format has them; this is bit for bit the dequantisation of the `gguf` Python package.
// A scale that all 32 elements share is part of d, likewise a shared min of dm: an 11-bit factor times a
// 6-bit integer is exact in binary32.
// Layouts: ggml's block structures (ggml-common.h of the ggml project).
#pragma once

#include "numerics/formats.h"
#include "numerics/scalar.h"

namespace orcd::numerics {

struct WeightGroup {
  int16_t w[32];     // integers, centred where the format is symmetric
  int32_t scale[2];  // of elements 0..15 and 16..31; 1 where the group has one scale
  int32_t min[2];    // multiplies dm; 1 where the group has one minimum, 0 where the format has none
  float d;           // factor of the integer products
  float dm;          // factor of the minimum term, sign included: Q4_1 m, K-quants -dmin * min
};

ORCD_HD uint16_t load_u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

ORCD_HD WeightGroup plain_group(float d) { return {{}, {1, 1}, {0, 0}, d, 0.0f}; }

// Block of 18 bytes: d f16, 16 bytes of nibbles (low: elements 0..15, high: 16..31), value d * (q - 8).
ORCD_HD WeightGroup decode_q4_0(const uint8_t* b) {
  WeightGroup g = plain_group(half_to_float(load_u16(b)));
  for (int i = 0; i < 16; ++i) {
    g.w[i] = static_cast<int16_t>((b[2 + i] & 15) - 8);
    g.w[16 + i] = static_cast<int16_t>((b[2 + i] >> 4) - 8);
  }
  return g;
}

// 20 bytes: d, m f16, nibbles; d * q + m.
ORCD_HD WeightGroup decode_q4_1(const uint8_t* b) {
  WeightGroup g = plain_group(half_to_float(load_u16(b)));
  g.dm = half_to_float(load_u16(b + 2));
  g.min[0] = g.min[1] = 1;
  for (int i = 0; i < 16; ++i) {
    g.w[i] = static_cast<int16_t>(b[4 + i] & 15);
    g.w[16 + i] = static_cast<int16_t>(b[4 + i] >> 4);
  }
  return g;
}

// Adds the fifth bit: bit i of the 32-bit word at `high` belongs to element i.
ORCD_HD void add_fifth_bits(const uint8_t* high, WeightGroup* g) {
  for (int i = 0; i < 32; ++i)
    g->w[i] = static_cast<int16_t>(g->w[i] + (((high[i / 8] >> (i % 8)) & 1) << 4));
}

// 22 bytes: d f16, 32 high bits, nibbles; d * (q - 16).
ORCD_HD WeightGroup decode_q5_0(const uint8_t* b) {
  WeightGroup g = plain_group(half_to_float(load_u16(b)));
  for (int i = 0; i < 16; ++i) {
    g.w[i] = static_cast<int16_t>((b[6 + i] & 15) - 16);
    g.w[16 + i] = static_cast<int16_t>((b[6 + i] >> 4) - 16);
  }
  add_fifth_bits(b + 2, &g);
  return g;
}

// 24 bytes: d, m f16, 32 high bits, nibbles; d * q + m.
ORCD_HD WeightGroup decode_q5_1(const uint8_t* b) {
  WeightGroup g = plain_group(half_to_float(load_u16(b)));
  g.dm = half_to_float(load_u16(b + 2));
  g.min[0] = g.min[1] = 1;
  for (int i = 0; i < 16; ++i) {
    g.w[i] = static_cast<int16_t>(b[8 + i] & 15);
    g.w[16 + i] = static_cast<int16_t>(b[8 + i] >> 4);
  }
  add_fifth_bits(b + 4, &g);
  return g;
}

// 34 bytes: d f16, 32 int8; d * q.
ORCD_HD WeightGroup decode_q8_0(const uint8_t* b) {
  WeightGroup g = plain_group(half_to_float(load_u16(b)));
  for (int i = 0; i < 32; ++i) g.w[i] = static_cast<int8_t>(b[2 + i]);
  return g;
}

// The 6-bit scale and min of sub-block j of a K-quant's 12 packed bytes.
ORCD_HD void k_scale_min(const uint8_t* s, int j, int32_t* scale, int32_t* min) {
  if (j < 4) {
    *scale = s[j] & 63;
    *min = s[j + 4] & 63;
  } else {
    *scale = (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4);
    *min = (s[j + 4] >> 4) | ((s[j] >> 6) << 4);
  }
}

// Factors of sub-block j of a K-quant with minimums: d, dmin f16, then the 12 bytes.
ORCD_HD WeightGroup k_group(const uint8_t* b, int j) {
  int32_t scale = 0, min = 0;
  k_scale_min(b + 4, j, &scale, &min);
  WeightGroup g = plain_group(half_to_float(load_u16(b)) * static_cast<float>(scale));
  g.dm = -half_to_float(load_u16(b + 2)) * static_cast<float>(min);
  g.min[0] = g.min[1] = 1;
  return g;
}

// 144 bytes for 256: d, dmin f16, 12 bytes of scales and mins, 128 bytes of nibbles (64 elements share 32
// bytes).
ORCD_HD WeightGroup decode_q4_k(const uint8_t* b, int group) {
  WeightGroup g = k_group(b, group);
  const uint8_t* q = b + 16 + (group / 2) * 32;
  for (int i = 0; i < 32; ++i) g.w[i] = static_cast<int16_t>(group % 2 ? q[i] >> 4 : q[i] & 15);
  return g;
}

// 176 bytes for 256: d, dmin, 12 bytes of scales and mins, 32 bytes of high bits (bit `group` of byte i), 128
// of nibbles.
ORCD_HD WeightGroup decode_q5_k(const uint8_t* b, int group) {
  WeightGroup g = k_group(b, group);
  const uint8_t* high = b + 16;
  const uint8_t* q = b + 48 + (group / 2) * 32;
  for (int i = 0; i < 32; ++i) {
    g.w[i] = static_cast<int16_t>((group % 2 ? q[i] >> 4 : q[i] & 15) | (((high[i] >> group) & 1) << 4));
  }
  return g;
}

// 210 bytes for 256: 128 of low nibbles, 64 of high 2-bit pairs, 16 int8 scales (one per 16), d f16; d * sc *
// (q - 32).
ORCD_HD WeightGroup decode_q6_k(const uint8_t* b, int group) {
  WeightGroup g = plain_group(half_to_float(load_u16(b + 208)));
  const int half = group / 4, part = group % 4;  // 128 elements share 64 bytes of ql and 32 of qh
  const uint8_t* low = b + half * 64 + (part % 2) * 32;
  const uint8_t* high = b + 128 + half * 32;
  for (int i = 0; i < 32; ++i) {
    const int nibble = part < 2 ? low[i] & 15 : low[i] >> 4;
    g.w[i] = static_cast<int16_t>((nibble | ((high[i] >> (2 * part)) & 3) << 4) - 32);
  }
  g.scale[0] = static_cast<int8_t>(b[192 + half * 8 + part * 2]);
  g.scale[1] = static_cast<int8_t>(b[192 + half * 8 + part * 2 + 1]);
  return g;
}

// 84 bytes for 256: 16 bytes {scale, minimum << 4} (one per 16), 64 of 2-bit codes (128 elements share 32
// bytes), d, dmin f16; d * sc * q - dmin * mn.
ORCD_HD WeightGroup decode_q2_k(const uint8_t* b, int group) {
  WeightGroup g = plain_group(half_to_float(load_u16(b + 80)));
  g.dm = -half_to_float(load_u16(b + 82));
  const uint8_t* q = b + 16 + (group / 4) * 32;
  for (int i = 0; i < 32; ++i) g.w[i] = static_cast<int16_t>((q[i] >> (2 * (group % 4))) & 3);
  for (int half = 0; half < 2; ++half) {
    g.scale[half] = b[2 * group + half] & 15;
    g.min[half] = b[2 * group + half] >> 4;
  }
  return g;
}

// The 6-bit scale of sub-block j (0..15) of a Q3_K's 12 packed bytes: 8 of low nibbles, 4 of high pairs.
ORCD_HD int32_t q3_k_scale(const uint8_t* s, int j) {
  const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
  return (low | ((s[8 + j % 4] >> (2 * (j / 4))) & 3) << 4) - 32;
}

// 110 bytes for 256: 32 of high bits (bit `group` of byte i; 0 takes 4 away), 64 of 2-bit codes as Q2_K, 12
// of scales (one per 16), d f16; d * (sc - 32) * (q - 4).
ORCD_HD WeightGroup decode_q3_k(const uint8_t* b, int group) {
  WeightGroup g = plain_group(half_to_float(load_u16(b + 108)));
  const uint8_t* q = b + 32 + (group / 4) * 32;
  for (int i = 0; i < 32; ++i) {
    const int high = (b[i] >> group) & 1;
    g.w[i] = static_cast<int16_t>(((q[i] >> (2 * (group % 4))) & 3) + 4 * high - 4);
  }
  for (int half = 0; half < 2; ++half) g.scale[half] = q3_k_scale(b + 96, 2 * group + half);
  return g;
}

// Codebooks of the 4-bit formats without even steps: the integer that a code stands for.
// IQ4: fitted by the ggml project. MXFP4: E2M1 (OCP Microscaling Formats 1.0, 2023) times 2.
ORCD_HD constexpr int iq4_value(int code) {
  constexpr int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return kValues[code];
}
ORCD_HD constexpr int mxfp4_value(int code) {
  constexpr int8_t kValues[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  return kValues[code];
}

ORCD_HD constexpr int codebook_value(TensorType type, int code) {
  return type == TensorType::kMXFP4 ? mxfp4_value(code) : iq4_value(code);
}

// 2^(exponent - 128): an E8M0 scale, halved for the doubled codebook. 255 (NaN in the OCP's text) is 2^127,
// as the `gguf` package has it.
ORCD_HD float e8m0_half(uint8_t exponent) {
  return bits_float(exponent < 2 ? 0x00200000u << exponent : (uint32_t{exponent} - 1) << 23);
}

// 18 bytes: d f16, nibbles as Q4_0; d * codebook[q].
ORCD_HD WeightGroup decode_iq4_nl(const uint8_t* b) {
  WeightGroup g = plain_group(half_to_float(load_u16(b)));
  for (int i = 0; i < 16; ++i) {
    g.w[i] = static_cast<int16_t>(iq4_value(b[2 + i] & 15));
    g.w[16 + i] = static_cast<int16_t>(iq4_value(b[2 + i] >> 4));
  }
  return g;
}

// The 6-bit scale of group j (0..7) of an IQ4_XS block: high pairs in a u16, low nibbles in 4 bytes after it.
ORCD_HD int32_t iq4_xs_scale(const uint8_t* s, int j) {
  const int low = (s[2 + j / 2] >> (4 * (j % 2))) & 15;
  return (low | ((load_u16(s) >> (2 * j)) & 3) << 4) - 32;
}

// 136 bytes for 256: d f16, 6 bytes of scales, 128 of nibbles (32 elements share 16 bytes, as Q4_0);
// d * (sc - 32) * codebook[q].
ORCD_HD WeightGroup decode_iq4_xs(const uint8_t* b, int group) {
  const auto scale = static_cast<float>(iq4_xs_scale(b + 2, group));
  WeightGroup g = plain_group(half_to_float(load_u16(b)) * scale);
  const uint8_t* q = b + 8 + group * 16;
  for (int i = 0; i < 16; ++i) {
    g.w[i] = static_cast<int16_t>(iq4_value(q[i] & 15));
    g.w[16 + i] = static_cast<int16_t>(iq4_value(q[i] >> 4));
  }
  return g;
}

// 17 bytes: an E8M0 exponent, nibbles as Q4_0; 2^(e - 128) * codebook[q].
ORCD_HD WeightGroup decode_mxfp4(const uint8_t* b) {
  WeightGroup g = plain_group(e8m0_half(b[0]));
  for (int i = 0; i < 16; ++i) {
    g.w[i] = static_cast<int16_t>(mxfp4_value(b[1 + i] & 15));
    g.w[16 + i] = static_cast<int16_t>(mxfp4_value(b[1 + i] >> 4));
  }
  return g;
}

// Group `group` (elements 32 * group ...) of a row of a block format. REQUIRES is_block_format(type).
ORCD_HD WeightGroup decode_group(TensorType type, const uint8_t* row, uint64_t group) {
  const int sub = static_cast<int>(group % 8);
  switch (type) {
    case TensorType::kQ4_0:
      return decode_q4_0(row + group * 18);
    case TensorType::kQ4_1:
      return decode_q4_1(row + group * 20);
    case TensorType::kQ5_0:
      return decode_q5_0(row + group * 22);
    case TensorType::kQ5_1:
      return decode_q5_1(row + group * 24);
    case TensorType::kQ8_0:
      return decode_q8_0(row + group * 34);
    case TensorType::kIQ4_NL:
      return decode_iq4_nl(row + group * 18);
    case TensorType::kMXFP4:
      return decode_mxfp4(row + group * 17);
    case TensorType::kQ2_K:
      return decode_q2_k(row + group / 8 * 84, sub);
    case TensorType::kQ3_K:
      return decode_q3_k(row + group / 8 * 110, sub);
    case TensorType::kIQ4_XS:
      return decode_iq4_xs(row + group / 8 * 136, sub);
    case TensorType::kQ4_K:
      return decode_q4_k(row + group / 8 * 144, sub);
    case TensorType::kQ5_K:
      return decode_q5_k(row + group / 8 * 176, sub);
    default:
      return decode_q6_k(row + group / 8 * 210, sub);
  }
}

// Formats whose linear layers use quantised activations and integer sums.
ORCD_HD constexpr bool is_block_format(TensorType type) {
  return type != TensorType::kF32 && type != TensorType::kF16 && type != TensorType::kBF16;
}

// Element of a float format's row.
ORCD_HD float load_element(TensorType type, const uint8_t* row, uint64_t i) {
  if (type == TensorType::kF16) return half_to_float(load_u16(row + 2 * i));
  if (type == TensorType::kBF16) return bfloat_to_float(load_u16(row + 2 * i));
  return bits_float(static_cast<uint32_t>(load_u16(row + 4 * i)) |
                    static_cast<uint32_t>(load_u16(row + 4 * i + 2)) << 16);
}

ORCD_HD constexpr bool has_minimum(TensorType type) {
  return type == TensorType::kQ4_1 || type == TensorType::kQ5_1 || type == TensorType::kQ2_K ||
         type == TensorType::kQ4_K || type == TensorType::kQ5_K;
}

// Formats whose codes are looked up in a table of integers.
ORCD_HD constexpr bool has_codebook(TensorType type) {
  return type == TensorType::kIQ4_NL || type == TensorType::kIQ4_XS || type == TensorType::kMXFP4;
}

// Formats in which 16 elements have an integer scale (and minimum) of their own.
ORCD_HD constexpr bool has_half_scales(TensorType type) {
  return type == TensorType::kQ2_K || type == TensorType::kQ3_K || type == TensorType::kQ6_K;
}

// The 32 values of a group. Without a minimum nothing is added: -0 stays -0.
ORCD_HD void dequantize_group(const WeightGroup& g, bool has_min, float* out) {
  for (int i = 0; i < 32; ++i) {
    const int half = i / 16;
    const float value = g.d * static_cast<float>(g.scale[half]) * static_cast<float>(g.w[i]);
    out[i] = has_min ? value + g.dm * static_cast<float>(g.min[half]) : value;
  }
}

// out: [n] values of a row in any computing format. REQUIRES n a multiple of the format's block for block
// formats.
inline void dequantize_row(TensorType type, const uint8_t* row, uint64_t n, float* out) {
  if (!is_block_format(type)) {
    for (uint64_t i = 0; i < n; ++i) out[i] = load_element(type, row, i);
    return;
  }
  for (uint64_t group = 0; group < n / 32; ++group)
    dequantize_group(decode_group(type, row, group), has_minimum(type), out + group * 32);
}

}  // namespace orcd::numerics
