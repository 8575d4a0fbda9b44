// How weights lie in the CPU device's memory: tiles of 16 interleaved rows (lane = row), quants and scales in
// two streams a tile. The same for every instruction set, so that the plan and the digests are too.
#pragma once

#include <cstdint>

#include "numerics/blocks.h"

namespace orcd::cpu {

inline constexpr uint32_t kTileRows = 16;
inline constexpr uint32_t kTileAlignment = 64;

// A tile holds 16 rows of K elements; rows past the end of the matrix are zeros with zero scales.
//
// Quants of a group (32 elements of K), in 64-byte vectors of 4 bytes for each of the 16 rows:
//   nibbles, 4 vectors: byte b of row r of vector j holds element 4j + b (low) and 16 + 4j + b (high)
//   fifth bits, 1 vector: bit j of byte b of row r is that of element 4j + b
//   pairs, 2 vectors: bits 2s.. of byte b of row r of vector h belong to element 16 h + 4 s + b
//   bytes (Q8_0), 8 vectors: byte b of row r of vector j is element 4j + b
// Q4_0, Q4_1, Q4_K, IQ4_NL, IQ4_XS, MXFP4: nibbles. Q5_*: nibbles, fifth bits. Q6_K: nibbles, pairs (bits 4,
// 5). Q2_K: pairs. Q3_K: pairs, then the third bits as fifth bits lie. Q8_0: bytes.
//
// Scales: 32-blocks: d [16] f16, then m [16] f16 for Q4_1 and Q5_1. MXFP4: exponent [16] u8.
//   Q4_K, Q5_K per 256: d [16], dmin [16] f16, then for each of the 8 groups scale [16] u8, min [16] u8.
//   Q6_K per 256: d [16] f16, then for each of the 8 groups scale of the low half [16] i8, of the high half
//   [16] i8. Q3_K: the same.
//   Q2_K per 256: d [16], dmin [16] f16, then for each of the 8 groups {scale, min << 4} of the low half [16]
//   u8, of the high half [16] u8.
//   IQ4_XS per 256: d [16] f16, then for each of the 8 groups scale [16] i8.
// Float formats: [K][16] elements, no scales.
struct TileLayout {
  uint64_t quant_bytes;  // of one tile, a multiple of 64; the scales follow
  uint64_t scale_bytes;  // of one tile
  uint64_t tile_bytes;   // stride from tile to tile, a multiple of 64
};

TileLayout tile_layout(TensorType type, uint64_t cols);
constexpr uint64_t tile_count(uint64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
uint64_t packed_bytes(TensorType type, uint64_t rows, uint64_t cols);

constexpr bool has_fifth_bits(TensorType type) {
  return type == TensorType::kQ5_0 || type == TensorType::kQ5_1 || type == TensorType::kQ5_K;
}

constexpr uint32_t group_quant_bytes(TensorType type) {
  if (has_fifth_bits(type)) return 256 + 64;
  switch (type) {
    case TensorType::kQ6_K:
      return 256 + 128;
    case TensorType::kQ8_0:
      return 512;
    case TensorType::kQ2_K:
      return 128;
    case TensorType::kQ3_K:
      return 128 + 64;
    default:
      return 256;
  }
}
// Bytes of scales: of a group for 32-blocks, of a superblock of 256 for K-quants.
constexpr uint32_t block_scale_bytes(TensorType type) {
  switch (type) {
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
      return 64;
    case TensorType::kQ2_K:
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      return 64 + 8 * 32;
    case TensorType::kQ3_K:
    case TensorType::kQ6_K:
      return 32 + 8 * 32;
    case TensorType::kIQ4_XS:
      return 32 + 8 * 16;
    case TensorType::kMXFP4:
      return 16;
    default:
      return 32;
  }
}
// Offset added to a centred integer so that it is stored unsigned.
constexpr int zero_point(TensorType type) {
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
constexpr bool is_super_block(TensorType type) {
  return type == TensorType::kQ2_K || type == TensorType::kQ3_K || type == TensorType::kQ4_K ||
         type == TensorType::kQ5_K || type == TensorType::kQ6_K || type == TensorType::kIQ4_XS;
}

// Packs n_rows <= 16 rows, each row_bytes long as in the file, into one tile.
void pack_tile(TensorType type, uint64_t cols, const uint8_t* rows, uint64_t row_bytes, uint32_t n_rows,
               uint8_t* tile);

// One group of one row out of a tile: the inverse of pack_tile, for look-ups and the scalar kernels.
numerics::WeightGroup unpack_group(TensorType type, const uint8_t* tile, const TileLayout& layout,
                                   uint32_t row, uint64_t group);

// out: [cols] values of row `row` of a packed matrix.
void dequantize_packed_row(TensorType type, const uint8_t* matrix, uint64_t cols, uint64_t row, float* out);

}  // namespace orcd::cpu
