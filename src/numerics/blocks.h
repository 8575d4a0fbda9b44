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
