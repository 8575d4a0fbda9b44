#include "device/cpu/layout.h"

#include <cstring>

#include "base/units.h"

namespace orcd::cpu {
namespace {

using numerics::WeightGroup;

void put_half(uint8_t* at, const uint8_t* half) { std::memcpy(at, half, 2); }

constexpr uint32_t kNibbles = 0x0f0f0f0fu;

uint32_t load_word(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, 4);
  return word;
}
void store_word(uint8_t* p, uint32_t word) { std::memcpy(p, &word, 4); }

// Stores the codes of one group of one row, four to a word.
void pack_codes(TensorType type, const WeightGroup& g, uint32_t row, uint8_t* out) {
  uint8_t codes[32];
  const int offset = zero_point(type);
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(g.w[i] + offset);
  uint32_t word[8];
  for (int j = 0; j < 8; ++j) word[j] = load_word(codes + 4 * j);
  uint8_t* mine = out + row * 4;
  if (type == TensorType::kQ8_0) {
    for (int j = 0; j < 8; ++j) store_word(mine + 64 * j, word[j]);
    return;
  }
  for (int j = 0; j < 4; ++j) store_word(mine + 64 * j, (word[j] & kNibbles) | (word[j + 4] & kNibbles) << 4);
  if (has_fifth_bits(type)) {
    uint32_t bits = 0;
    for (int j = 0; j < 8; ++j) bits |= (word[j] >> 4 & 0x01010101u) << j;
    store_word(mine + 256, bits);
  } else if (type == TensorType::kQ6_K) {
    for (int half = 0; half < 2; ++half) {
      uint32_t pairs = 0;
      for (int s = 0; s < 4; ++s) pairs |= (word[4 * half + s] >> 4 & 0x03030303u) << (2 * s);
      store_word(mine + 256 + 64 * half, pairs);
    }
  }
}

// Stores the scales of one group of one row; file is the row's block (or superblock) as in the file.
void pack_scales(TensorType type, const WeightGroup& g, const uint8_t* file, uint64_t group, uint32_t row,
                 uint8_t* scales) {
  const uint64_t sub = group % 8;
  int32_t scale = 0, min = 0;
  switch (type) {
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      put_half(scales + row * 2, file);
      put_half(scales + 32 + row * 2, file + 2);
      numerics::k_scale_min(file + 4, static_cast<int>(sub), &scale, &min);
      scales[64 + sub * 32 + row] = static_cast<uint8_t>(scale);
      scales[64 + sub * 32 + 16 + row] = static_cast<uint8_t>(min);
      return;
    case TensorType::kQ6_K:
      put_half(scales + row * 2, file + 208);
      scales[32 + sub * 32 + row] = static_cast<uint8_t>(g.scale[0]);
      scales[32 + sub * 32 + 16 + row] = static_cast<uint8_t>(g.scale[1]);
      return;
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
      put_half(scales + row * 2, file);
      put_half(scales + 32 + row * 2, file + 2);
      return;
    default:
      put_half(scales + row * 2, file);
      return;
  }
}

uint32_t element_bytes(TensorType type) { return type == TensorType::kF32 ? 4 : 2; }

template <uint32_t kBytes>
void interleave(uint64_t cols, const uint8_t* rows, uint64_t row_bytes, uint32_t n_rows, uint8_t* tile) {
  for (uint64_t k = 0; k < cols; ++k) {
    for (uint32_t row = 0; row < n_rows; ++row)
      std::memcpy(tile + (k * kTileRows + row) * kBytes, rows + row * row_bytes + k * kBytes, kBytes);
  }
}

}  // namespace

TileLayout tile_layout(TensorType type, uint64_t cols) {
  TileLayout layout{};
  if (!numerics::is_block_format(type)) {
    layout.quant_bytes = align_up(cols * kTileRows * element_bytes(type), kTileAlignment);
  } else {
    const uint64_t groups = cols / 32;
    layout.quant_bytes = groups * group_quant_bytes(type);
    layout.scale_bytes = (is_super_block(type) ? groups / 8 : groups) * block_scale_bytes(type);
  }
  layout.tile_bytes = align_up(layout.quant_bytes + layout.scale_bytes, kTileAlignment);
  return layout;
}

uint64_t packed_bytes(TensorType type, uint64_t rows, uint64_t cols) {
  return tile_count(rows) * tile_layout(type, cols).tile_bytes;
}

void pack_tile(TensorType type, uint64_t cols, const uint8_t* rows, uint64_t row_bytes, uint32_t n_rows,
               uint8_t* tile) {
  const TileLayout layout = tile_layout(type, cols);
  std::memset(tile, 0, layout.tile_bytes);
  if (!numerics::is_block_format(type)) {
    element_bytes(type) == 4 ? interleave<4>(cols, rows, row_bytes, n_rows, tile)
                             : interleave<2>(cols, rows, row_bytes, n_rows, tile);
    return;
  }
  const FormatInfo* format = find_format(type);
  const uint64_t groups_per_block = format->block_elements / 32;
  for (uint32_t row = 0; row < n_rows; ++row) {
    const uint8_t* bytes = rows + row * row_bytes;
    for (uint64_t group = 0; group < cols / 32; ++group) {
      const WeightGroup g = numerics::decode_group(type, bytes, group);
      const uint64_t block = group / groups_per_block;
      pack_codes(type, g, row, tile + group * group_quant_bytes(type));
      pack_scales(type, g, bytes + block * format->block_bytes, group, row,
                  tile + layout.quant_bytes + block * block_scale_bytes(type));
    }
  }
}

WeightGroup unpack_group(TensorType type, const uint8_t* tile, const TileLayout& layout, uint32_t row,
                         uint64_t group) {
  WeightGroup g = numerics::plain_group(0.0f);
  const uint8_t* quants = tile + group * group_quant_bytes(type);
  if (type == TensorType::kQ8_0) {
    for (int i = 0; i < 32; ++i) g.w[i] = static_cast<int8_t>(quants[(i / 4) * 64 + row * 4 + i % 4]);
  } else {
    const int offset = zero_point(type);
    const uint8_t* high = quants + 256;
    for (uint32_t i = 0; i < 32; ++i) {
      const uint8_t byte = quants[((i % 16) / 4) * 64 + row * 4 + i % 4];
      int code = i < 16 ? byte & 15 : byte >> 4;
      if (has_fifth_bits(type)) {
        code |= ((high[row * 4 + i % 4] >> (i / 4)) & 1) << 4;
      } else if (type == TensorType::kQ6_K) {
        code |= ((high[(i / 16) * 64 + row * 4 + i % 4] >> (2 * ((i % 16) / 4))) & 3) << 4;
      }
      g.w[i] = static_cast<int16_t>(code - offset);
    }
  }
  const uint8_t* scales =
      tile + layout.quant_bytes + (is_super_block(type) ? group / 8 : group) * block_scale_bytes(type);
  const uint64_t sub = group % 8;
  g.d = numerics::half_to_float(numerics::load_u16(scales + row * 2));
  switch (type) {
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      g.d = g.d * static_cast<float>(scales[64 + sub * 32 + row]);
      g.dm = -numerics::half_to_float(numerics::load_u16(scales + 32 + row * 2)) *
             static_cast<float>(scales[64 + sub * 32 + 16 + row]);
      g.min[0] = g.min[1] = 1;
      break;
    case TensorType::kQ6_K:
      g.scale[0] = static_cast<int8_t>(scales[32 + sub * 32 + row]);
      g.scale[1] = static_cast<int8_t>(scales[32 + sub * 32 + 16 + row]);
      break;
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
      g.dm = numerics::half_to_float(numerics::load_u16(scales + 32 + row * 2));
      g.min[0] = g.min[1] = 1;
      break;
    default:
      break;
  }
  return g;
}

void dequantize_packed_row(TensorType type, const uint8_t* matrix, uint64_t cols, uint64_t row, float* out) {
  const TileLayout layout = tile_layout(type, cols);
  const uint8_t* tile = matrix + row / kTileRows * layout.tile_bytes;
  const auto lane = static_cast<uint32_t>(row % kTileRows);
  if (!numerics::is_block_format(type)) {
    const uint32_t size = element_bytes(type);
    for (uint64_t k = 0; k < cols; ++k)
      out[k] = numerics::load_element(type, tile + (k * kTileRows + lane) * size, 0);
    return;
  }
  for (uint64_t group = 0; group < cols / 32; ++group) {
    numerics::dequantize_group(unpack_group(type, tile, layout, lane, group), numerics::has_minimum(type),
                               out + group * 32);
  }
}

}  // namespace orcd::cpu
