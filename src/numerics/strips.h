// Strips of K (rule N3): how many partial chains a linear layer has. A function of the weight's shape alone.
#pragma once

#include "numerics/scalar.h"

namespace orcd::numerics {

inline constexpr uint32_t kStripUnit = 64;  // strip edges are multiples of 64 elements of K
inline constexpr uint32_t kMaxStrips = 16;
inline constexpr uint32_t kStripTarget = 4096;  // rows / 16 * strips that keep a large GPU's memory busy

// Smallest power of two S with ceil(rows / 16) * S >= 4096, at most 16, and at least two units a strip.
ORCD_HD uint32_t strip_count(uint64_t rows, uint64_t cols) {
  const uint64_t tiles = (rows + 15) / 16;
  const uint64_t units = (cols + kStripUnit - 1) / kStripUnit;
  uint32_t strips = 1;
  while (strips < kMaxStrips && tiles * strips < kStripTarget && uint64_t{strips} * 4 <= units) strips *= 2;
  return strips;
}

// First element of K of strip s; strip s ends where s + 1 begins; strip_begin(cols, S, S) == cols.
ORCD_HD uint64_t strip_begin(uint64_t cols, uint32_t strips, uint32_t s) {
  const uint64_t units = (cols + kStripUnit - 1) / kStripUnit;
  const uint64_t begin = units * s / strips * kStripUnit;
  return begin < cols ? begin : cols;
}

}  // namespace orcd::numerics
