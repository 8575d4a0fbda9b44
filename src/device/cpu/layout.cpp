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

// Two bits of each code, from `shift`, as pairs.
void pack_pairs(const uint32_t* word, int shift, uint8_t* mine) {
  for (int half = 0; half < 2; ++half) {
    uint32_t pairs = 0;
    for (int s = 0; s < 4; ++s) pairs |= (word[4 * half + s] >> shift & 0x03030303u) << (2 * s);
    store_word(mine + 64 * half, pairs);
  }
}

// One bit of each code, number `shift`.
void pack_bits(const uint32_t* word, int shift, uint8_t* mine) {
  uint32_t bits = 0;
  for (int j = 0; j < 8; ++j) bits |= (word[j] >> shift & 0x01010101u) << j;
  store_word(mine, bits);
}

// Where the 16 bytes of codes of group `sub` stand in a block of a format with a codebook.
uint32_t codebook_codes_at(TensorType type, uint64_t sub) {
  if (type == TensorType::kIQ4_XS) return static_cast<uint32_t>(8 + 16 * sub);
  return type == TensorType::kMXFP4 ? 1 : 2;
}

// Stores the codes of one group of one row, four to a word; file is the row's block as in the file.
// g is not looked at where the format has a codebook.
void pack_codes(TensorType type, const WeightGroup& g, const uint8_t* file, uint64_t group, uint32_t row,
                uint8_t* out) {
  if (numerics::has_codebook(type)) {  // the file's nibbles are the tile's
    const uint8_t* codes = file + codebook_codes_at(type, group % 8);
    for (int j = 0; j < 4; ++j) store_word(out + row * 4 + 64 * j, load_word(codes + 4 * j));
    return;
  }
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
  if (type == TensorType::kQ2_K || type == TensorType::kQ3_K) {
    pack_pairs(word, 0, mine);
    if (type == TensorType::kQ3_K) pack_bits(word, 2, mine + 128);
    return;
  }
  for (int j = 0; j < 4; ++j) store_word(mine + 64 * j, (word[j] & kNibbles) | (word[j + 4] & kNibbles) << 4);
  if (has_fifth_bits(type)) {
    pack_bits(word, 4, mine + 256);
  } else if (type == TensorType::kQ6_K) {
    pack_pairs(word, 4, mine + 256);
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
    case TensorType::kQ2_K:
      put_half(scales + row * 2, file + 80);
      put_half(scales + 32 + row * 2, file + 82);
      scales[64 + sub * 32 + row] = file[2 * sub];
      scales[64 + sub * 32 + 16 + row] = file[2 * sub + 1];
      return;
    case TensorType::kIQ4_XS:
      put_half(scales + row * 2, file);
      scales[32 + sub * 16 + row] =
          static_cast<uint8_t>(numerics::iq4_xs_scale(file + 2, static_cast<int>(sub)));
      return;
    case TensorType::kMXFP4:
      scales[row] = file[0];
      return;
    case TensorType::kQ3_K:
    case TensorType::kQ6_K:
      put_half(scales + row * 2, file + (type == TensorType::kQ3_K ? 108 : 208));
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
      const WeightGroup g = numerics::has_codebook(type) ? numerics::plain_group(0.0f)
                                                         : numerics::decode_group(type, bytes, group);
      const uint64_t block = group / groups_per_block;
      const uint8_t* file = bytes + block * format->block_bytes;
      pack_codes(type, g, file, group, row, tile + group * group_quant_bytes(type));
      pack_scales(type, g, file, group, row, tile + layout.quant_bytes + block * block_scale_bytes(type));
    }
  }
}

namespace {

// The 32 integers of a group of one row of a tile.
void unpack_codes(TensorType type, const uint8_t* quants, uint32_t row, int16_t* w) {
  const auto pair = [&](const uint8_t* at, uint32_t i) {
    return (at[(i / 16) * 64 + row * 4 + i % 4] >> (2 * ((i % 16) / 4))) & 3;
  };
  const auto bit = [&](const uint8_t* at, uint32_t i) { return (at[row * 4 + i % 4] >> (i / 4)) & 1; };
  for (uint32_t i = 0; i < 32; ++i) {
    if (type == TensorType::kQ8_0) {
      w[i] = static_cast<int8_t>(quants[(i / 4) * 64 + row * 4 + i % 4]);
      continue;
    }
    if (type == TensorType::kQ2_K || type == TensorType::kQ3_K) {
      const int third = type == TensorType::kQ3_K ? bit(quants + 128, i) << 2 : 0;
      w[i] = static_cast<int16_t>((pair(quants, i) | third) - zero_point(type));
      continue;
    }
    const uint8_t byte = quants[((i % 16) / 4) * 64 + row * 4 + i % 4];
    int code = i < 16 ? byte & 15 : byte >> 4;
    if (has_fifth_bits(type)) code |= bit(quants + 256, i) << 4;
    if (type == TensorType::kQ6_K) code |= pair(quants + 256, i) << 4;
    w[i] = static_cast<int16_t>(numerics::has_codebook(type) ? numerics::codebook_value(type, code)
                                                             : code - zero_point(type));
  }
}

}  // namespace

WeightGroup unpack_group(TensorType type, const uint8_t* tile, const TileLayout& layout, uint32_t row,
                         uint64_t group) {
  WeightGroup g = numerics::plain_group(0.0f);
  unpack_codes(type, tile + group * group_quant_bytes(type), row, g.w);
  const uint8_t* scales =
      tile + layout.quant_bytes + (is_super_block(type) ? group / 8 : group) * block_scale_bytes(type);
  const uint64_t sub = group % 8;
  if (type == TensorType::kMXFP4) {
    g.d = numerics::e8m0_half(scales[row]);
    return g;
  }
  g.d = numerics::half_to_float(numerics::load_u16(scales + row * 2));
  switch (type) {
    case TensorType::kQ2_K:
      g.dm = -numerics::half_to_float(numerics::load_u16(scales + 32 + row * 2));
      for (uint32_t half = 0; half < 2; ++half) {
        const uint8_t both = scales[64 + sub * 32 + 16 * half + row];
        g.scale[half] = both & 15;
        g.min[half] = both >> 4;
      }
      break;
    case TensorType::kIQ4_XS:
      g.d = g.d * static_cast<float>(static_cast<int8_t>(scales[32 + sub * 16 + row]));
      break;
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      g.d = g.d * static_cast<float>(scales[64 + sub * 32 + row]);
      g.dm = -numerics::half_to_float(numerics::load_u16(scales + 32 + row * 2)) *
             static_cast<float>(scales[64 + sub * 32 + 16 + row]);
      g.min[0] = g.min[1] = 1;
      break;
    case TensorType::kQ3_K:
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
