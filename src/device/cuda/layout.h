// How matrices lie in VRAM: block formats in the order in which mma.m16n8k32 reads them, float formats with
// rows across lanes. Host and device.
//
// A block-format matrix is tiles of 16 rows (the last padded with zeros); a tile is units of 64 elements of
// K, in order.
//   unit: 32 lanes x 16 bytes of low bits, then high bits, then scales (stream 1); what 256 elements share is
//   in stream 2.
// Lane l = 4 g + t holds, in register r and byte j, element row = g + 8 (r & 1), k = 16 (r >> 1) + 4 t + j of
// a group of 32: the A fragment. Nibble formats hold the unit's first group in the low nibbles and the second
// in the high ones; formats of five and six bits the first group's codes and above each as many of the second
// group's top bits as a byte has room for. Formats with a zero point (Q4_0, Q5_0, Q6_K, Q3_K) hold two's
// complement: value = code - zero point is stored with code's top bit flipped.
//   Q5_x, Q5_K  then lane: u32, bits 0, 1 of the second group's (register r, byte j) at bits 8 j + 2 r
//   Q6_K        then lane: 2 u32, bits 0 .. 3 of the second group's (r, j) in word r / 2,
//               at bits 8 j + 4 (r & 1)
// Formats of two and three bits have no nibbles:
//   Q2_K, Q3_K  lane: 2 u32, of group h: bits 0, 1 of (r, j) at bits 8 j + 2 r
//   Q3_K        then lane: u32, third bit of (r, h, j) at bit 8 j + 4 h + r
// Formats with a codebook keep the codes of a register together, as the look-up wants them:
//   IQ4_NL, IQ4_XS, MXFP4  lane: 4 u32, of register r: code of (h, j) at bits 16 h + 4 j
// Scales and stream 2 are by row, 0..15:
//   Q4_0, Q5_0, Q8_0, IQ4_NL  {d of group 0, d of group 1}   (f16)
//   Q4_1, Q5_1        {d, m of group 0, d, m of group 1}     (f16)
//   Q4_K, Q5_K        {sc0, mn0, sc1, mn1} (u8); stream 2: {d, dmin} (f16)
//   Q6_K, Q3_K        {low, high half of group 0, of group 1} (i8); stream 2: d (f16)
//   Q2_K              {scale | minimum << 4 of low, high half of group 0, of group 1} (u8); stream 2: {d,
//   dmin} IQ4_XS            {scale of group 0, of group 1} (i8); stream 2: d (f16) MXFP4 {exponent of group
//   0, of group 1} (u8)
// A unit of a K that is an odd multiple of 32 has an empty second group, which no chain visits.
#pragma once

#include <cstdint>

#include "numerics/blocks.h"

namespace orcd::cuda {

inline constexpr uint32_t kTileRows = 16;
inline constexpr uint32_t kUnit = 64;
inline constexpr uint32_t kFloatTileRows = 32;  // rows across the lanes of a warp

struct PackedShape {
  uint32_t unit_bytes;   // stream 1, a unit of a tile
  uint32_t super_bytes;  // stream 2, 256 elements of a tile; 0 where the format has none
  uint32_t scales_at;    // offset of the scales in the unit
};

ORCD_HD constexpr PackedShape packed_shape(TensorType type) {
  switch (type) {
    case TensorType::kQ4_0:
      return {576, 0, 512};
    case TensorType::kQ4_1:
      return {640, 0, 512};
    case TensorType::kQ5_0:
      return {704, 0, 640};
    case TensorType::kQ5_1:
      return {768, 0, 640};
    case TensorType::kQ8_0:
      return {1088, 0, 1024};
    case TensorType::kQ4_K:
      return {576, 64, 512};
    case TensorType::kQ5_K:
      return {704, 64, 640};
    case TensorType::kQ6_K:
      return {832, 32, 768};
    case TensorType::kQ2_K:
      return {320, 64, 256};
    case TensorType::kQ3_K:
      return {448, 32, 384};
    case TensorType::kIQ4_NL:
      return {576, 0, 512};
    case TensorType::kIQ4_XS:
      return {544, 32, 512};
    case TensorType::kMXFP4:
      return {544, 0, 512};
    default:
      return {0, 0, 0};
  }
}

ORCD_HD uint64_t tiles_of(uint64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
ORCD_HD uint64_t units_of(uint64_t cols) { return (cols + kUnit - 1) / kUnit; }
ORCD_HD uint64_t element_bytes(TensorType type) { return type == TensorType::kF32 ? 4 : 2; }

// Where stream 2 begins.
ORCD_HD uint64_t super_offset(TensorType type, uint64_t rows, uint64_t cols) {
  return tiles_of(rows) * units_of(cols) * packed_shape(type).unit_bytes;
}

// Bytes of a matrix in VRAM. Float formats: [rows / 32][cols][32].
ORCD_HD uint64_t packed_bytes(TensorType type, uint64_t rows, uint64_t cols) {
  if (!numerics::is_block_format(type))
    return (rows + kFloatTileRows - 1) / kFloatTileRows * kFloatTileRows * cols * element_bytes(type);
  return super_offset(type, rows, cols) + tiles_of(rows) * (cols / 256) * packed_shape(type).super_bytes;
}

// A matrix in VRAM.
struct Matrix {
  const uint8_t* data = nullptr;
  TensorType type = TensorType::kF32;
  uint64_t rows = 0, cols = 0;
};

// The zero point of a format's codes in a file, which is the value of their top bit too; 0 where they have
// none.
ORCD_HD constexpr int32_t zero_point(TensorType type) {
  switch (type) {
    case TensorType::kQ3_K:
      return 4;
    case TensorType::kQ4_0:
      return 8;
    case TensorType::kQ5_0:
      return 16;
    case TensorType::kQ6_K:
      return 32;
    default:
      return 0;
  }
}

// Formats of two and three bits.
ORCD_HD constexpr bool has_pairs(TensorType type) {
  return type == TensorType::kQ2_K || type == TensorType::kQ3_K;
}

ORCD_HD constexpr bool has_fifth_bit(TensorType type) {
  return type == TensorType::kQ5_0 || type == TensorType::kQ5_1 || type == TensorType::kQ5_K;
}

// Of the formats that have bytes of a whole code and a part of another: how many bits a code has; 0
// elsewhere.
ORCD_HD constexpr uint32_t wide_bits(TensorType type) {
  return has_fifth_bit(type) ? 5 : type == TensorType::kQ6_K ? 6 : 0;
}

// The integer of element (row, k) of a packed matrix, as decode_group gives it.
ORCD_HD int32_t packed_value(const Matrix& m, uint64_t row, uint64_t k) {
  const PackedShape shape = packed_shape(m.type);
  const uint8_t* unit = m.data + (row / kTileRows * units_of(m.cols) + k / kUnit) * shape.unit_bytes;
  const uint32_t r16 = static_cast<uint32_t>(row % kTileRows), in = static_cast<uint32_t>(k % kUnit);
  const uint32_t h = in / 32, e = in % 32, j = e % 4, t = (e % 16) / 4;
  const uint32_t lane = (r16 % 8) * 4 + t, r = r16 / 8 + 2 * (e / 16);
  if (m.type == TensorType::kQ8_0) return static_cast<int8_t>(unit[h * 512 + lane * 16 + r * 4 + j]);
  if (numerics::has_codebook(m.type)) {
    const uint8_t codes = unit[lane * 16 + r * 4 + h * 2 + j / 2];
    return numerics::codebook_value(m.type, j % 2 ? codes >> 4 : codes & 15);
  }
  if (has_pairs(m.type)) {
    int32_t pair = (unit[lane * 8 + h * 4 + j] >> (2 * r)) & 3;
    if (m.type == TensorType::kQ3_K) pair |= ((unit[256 + lane * 4 + j] >> (4 * h + r)) & 1) << 2;
    return (pair ^ zero_point(m.type)) - zero_point(m.type);
  }
  const uint8_t byte = unit[lane * 16 + r * 4 + j];
  const uint32_t bits = wide_bits(m.type);
  int32_t value = 0;
  if (bits == 0) {
    value = h ? byte >> 4 : byte & 15;
  } else if (h == 0) {
    value = byte & ((1 << bits) - 1);
  } else {
    value = bits == 5 ? (byte >> 5) << 2 | (unit[512 + lane * 4 + j] >> (2 * r) & 3)
                      : (byte >> 6) << 4 | (unit[512 + lane * 8 + r / 2 * 4 + j] >> (4 * (r % 2)) & 15);
  }
  return (value ^ zero_point(m.type)) - zero_point(m.type);
}

// A group's scales and factors; its integers are left zero.
ORCD_HD numerics::WeightGroup packed_scales(const Matrix& m, uint64_t row, uint64_t group) {
  using numerics::half_to_float;
  using numerics::load_u16;
  const PackedShape shape = packed_shape(m.type);
  const uint64_t tile = row / kTileRows;
  const uint8_t* unit = m.data + (tile * units_of(m.cols) + group / 2) * shape.unit_bytes;
  const uint8_t* super =
      m.data + super_offset(m.type, m.rows, m.cols) + (tile * (m.cols / 256) + group / 8) * shape.super_bytes;
  const uint32_t h = static_cast<uint32_t>(group % 2), r16 = static_cast<uint32_t>(row % kTileRows);
  const uint8_t* scales = unit + shape.scales_at;
  numerics::WeightGroup w = numerics::plain_group(0.0f);
  switch (m.type) {
    case TensorType::kQ4_0:
    case TensorType::kQ5_0:
    case TensorType::kQ8_0:
    case TensorType::kIQ4_NL:
      w.d = half_to_float(load_u16(scales + r16 * 4 + h * 2));
      break;
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
      w.d = half_to_float(load_u16(scales + r16 * 8 + h * 4));
      w.dm = half_to_float(load_u16(scales + r16 * 8 + h * 4 + 2));
      w.min[0] = w.min[1] = 1;
      break;
    case TensorType::kIQ4_XS:
      w.d = half_to_float(load_u16(super + r16 * 2)) *
            static_cast<float>(static_cast<int8_t>(scales[r16 * 2 + h]));
      break;
    case TensorType::kMXFP4:
      w.d = numerics::e8m0_half(scales[r16 * 2 + h]);
      break;
    case TensorType::kQ2_K:
      w.d = half_to_float(load_u16(super + r16 * 4));
      w.dm = -half_to_float(load_u16(super + r16 * 4 + 2));
      for (uint32_t half = 0; half < 2; ++half) {
        w.scale[half] = scales[r16 * 4 + h * 2 + half] & 15;
        w.min[half] = scales[r16 * 4 + h * 2 + half] >> 4;
      }
      break;
    case TensorType::kQ3_K:
    case TensorType::kQ6_K:
      w.d = half_to_float(load_u16(super + r16 * 2));
      w.scale[0] = static_cast<int8_t>(scales[r16 * 4 + h * 2]);
      w.scale[1] = static_cast<int8_t>(scales[r16 * 4 + h * 2 + 1]);
      break;
    default:
      w.d = half_to_float(load_u16(super + r16 * 4)) * static_cast<float>(scales[r16 * 4 + h * 2]);
      w.dm = -half_to_float(load_u16(super + r16 * 4 + 2)) * static_cast<float>(scales[r16 * 4 + h * 2 + 1]);
      w.min[0] = w.min[1] = 1;
      break;
  }
  return w;
}

}  // namespace orcd::cuda
