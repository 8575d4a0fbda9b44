// Shape of the paged KV cache: pages of 64 positions aligned to absolute position, binary16.
// One page of one layer, per kv head: K [head_dim][64] (dimension-major), then V [64][head_dim]
// (position-major).
#pragma once

#include <cstdint>

namespace orcd::kv {

inline constexpr uint32_t kPagePositions = 64;

// Bytes of one page of a layer: n_kv_heads * head_dim * 64 * 2 (K and V) * 2 (binary16).
constexpr uint64_t page_bytes(uint32_t n_kv_heads, uint32_t head_dim) {
  return uint64_t{n_kv_heads} * head_dim * kPagePositions * 2 * 2;
}
constexpr uint32_t pages_for(uint64_t n_positions) {
  return static_cast<uint32_t>((n_positions + kPagePositions - 1) / kPagePositions);
}

}  // namespace orcd::kv
