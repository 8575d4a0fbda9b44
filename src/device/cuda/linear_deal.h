// What follows from the shapes of a launch, and for one token, which block works on which tiles.
#pragma once

#include <algorithm>
#include <bit>

#include "device/cuda/linear.h"
#include "numerics/strips.h"

namespace orcd::cuda {

// What follows from the shapes. type_of(i): of segment i.
template <typename TypeOf>
inline void shape_segments(LinearArgs& args, TypeOf type_of) {
  args.n_units = static_cast<uint32_t>(units_of(args.cols));
  args.n_groups = args.cols / 32;
  args.n_tiles = 0;
  args.max_strips = 1;
  for (uint32_t i = 0; i < args.n_segments; ++i) {
    Segment& segment = args.segments[i];
    segment.strips = numerics::strip_count(segment.rows, args.cols);
    args.max_strips = segment.strips > args.max_strips ? segment.strips : args.max_strips;
    segment.strip_shift = static_cast<uint32_t>(std::countr_zero(segment.strips));
    segment.n_tiles = static_cast<uint32_t>(tiles_of(segment.rows));
    segment.super_at = super_offset(type_of(i), segment.rows, args.cols);
    segment.super_stride = args.cols / 256 * packed_shape(type_of(i)).super_bytes;
    args.n_tiles += segment.n_tiles;
  }
  args.max_shift = static_cast<uint32_t>(std::countr_zero(args.max_strips));
}

// How the warps of a block take a matrix for one token: sets of units of two tiles at a time.
inline constexpr uint32_t kTokenWarps = 16;
struct SetShape {
  uint32_t units;
  uint32_t unit_bytes, super_bytes,
      tile_bytes;  // tile_bytes: of a whole set in one tile, with its piece of stream 2
};
ORCD_HD constexpr SetShape set_shape(TensorType type, uint32_t tiles = 2) {
  const PackedShape shape = packed_shape(type);
  const bool is_wide = numerics::has_half_scales(type) || type == TensorType::kQ8_0;
  const uint32_t units = is_wide && tiles == 2 ? 2 : 4;
  return {units, shape.unit_bytes, shape.super_bytes, units * shape.unit_bytes + shape.super_bytes};
}

// Of a block's weights: a longer kernel lets the next one start early (LinearArgs::early).
inline constexpr uint32_t kEarlyBytes = 144 * 1024;

// Deals the tiles of the segments to blocks, one segment a block, so that the longest block is as short as
// n_sm blocks allow. tile_bytes: of a tile of each segment.
inline uint32_t deal_tiles(LinearArgs& args, uint32_t n_sm, const uint32_t (&tile_bytes)[3]) {
  const uint32_t tile_step = args.epilogue == Epilogue::kGlu ? 4 : 1;
  const uint32_t n = args.epilogue == Epilogue::kGlu ? 1 : args.n_segments;
  uint32_t steps[3], most[3];
  uint64_t step_bytes[3], limit = 0;
  for (uint32_t i = 0; i < n; ++i) {
    steps[i] = args.epilogue == Epilogue::kGlu ? (args.segments[0].rows + 31) / 32 : args.segments[i].n_tiles;
    step_bytes[i] = uint64_t{tile_bytes[i]} * tile_step;
    // Partial results of a block stay under 16 KiB.
    most[i] = std::max(1u, 256 / (args.segments[i].strips * tile_step));
    limit = std::max(limit, step_bytes[i]);
  }
  const auto blocks_of = [&](uint32_t i) {
    const auto each = static_cast<uint32_t>(std::min<uint64_t>(limit / step_bytes[i], most[i]));
    return (steps[i] + each - 1) / each;
  };
  for (;;) {
    uint32_t n_blocks = 0;
    uint64_t next = ~uint64_t{0};
    for (uint32_t i = 0; i < n; ++i) {
      n_blocks += blocks_of(i);
      if (limit / step_bytes[i] < std::min(most[i], steps[i]))
        next = std::min(next, (limit / step_bytes[i] + 1) * step_bytes[i]);
    }
    if (n_blocks <= n_sm || next == ~uint64_t{0}) break;
    limit = next;
  }
  // Blocks that are left over go where a block has the most to do.
  uint32_t blocks[3], spare = n_sm;
  for (uint32_t i = 0; i < n; ++i) {
    blocks[i] = blocks_of(i);
    spare -= std::min(spare, blocks[i]);
  }
  const auto load_of = [&](uint32_t i) { return static_cast<double>(steps[i] * step_bytes[i]) / blocks[i]; };
  for (; spare > 0; --spare) {
    uint32_t most_loaded = n;
    for (uint32_t i = 0; i < n; ++i) {
      if (blocks[i] < steps[i] && (most_loaded == n || load_of(i) > load_of(most_loaded))) most_loaded = i;
    }
    if (most_loaded == n) break;
    ++blocks[most_loaded];
  }
  uint32_t n_blocks = 0;
  args.part_rows = 0;
  args.early = false;
  args.other_block = 0;
  for (uint32_t i = 0; i < n; ++i) {
    Segment& s = args.segments[i];
    s.n_blocks = blocks[i];
    s.steps_per_block = steps[i] / s.n_blocks;
    s.extra_steps = steps[i] % s.n_blocks;
    const uint32_t tiles = (s.steps_per_block + (s.extra_steps != 0 ? 1 : 0)) * tile_step;
    args.part_rows = std::max(args.part_rows, (tiles + 1) / 2 * 2 * s.strips * kTileRows);
    args.early = args.early || uint64_t{tiles} * tile_bytes[i] > kEarlyBytes;
    n_blocks += s.n_blocks;
    if (i < args.other_segment) args.other_block = n_blocks;
  }
  return n_blocks;
}

}  // namespace orcd::cuda
