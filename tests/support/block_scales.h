// Where the float scales of a block stand, for tests that make blocks of random bytes: any other byte is an
// integer, for which every value is valid.
#pragma once

#include <cmath>
#include <cstring>
#include <span>

#include "numerics/blocks.h"

namespace orcd::test {

// Every block format, in the order of its number.
inline constexpr TensorType kBlockTypes[] = {
    TensorType::kQ4_0,   TensorType::kQ4_1,   TensorType::kQ5_0, TensorType::kQ5_1, TensorType::kQ8_0,
    TensorType::kQ2_K,   TensorType::kQ3_K,   TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K,
    TensorType::kIQ4_NL, TensorType::kIQ4_XS, TensorType::kMXFP4};

// Byte offset of the binary16 d of a block; MXFP4: of its exponent.
constexpr size_t scale_at(TensorType type) {
  switch (type) {
    case TensorType::kQ2_K:
      return 80;
    case TensorType::kQ3_K:
      return 108;
    case TensorType::kQ6_K:
      return 208;
    default:
      return 0;
  }
}

inline void put_half(uint8_t* at, float value) {
  const uint16_t half = numerics::float_to_half(value);
  std::memcpy(at, &half, sizeof half);
}

// Sets d, and the minimum's factor where the format has one. MXFP4 takes the power of two at or below |d|.
inline void set_scales(TensorType type, float d, float minimum, uint8_t* block) {
  uint8_t* at = block + scale_at(type);
  if (type == TensorType::kMXFP4) {
    *at = static_cast<uint8_t>(128 + std::ilogb(d));
    return;
  }
  put_half(at, d);
  if (numerics::has_minimum(type)) put_half(at + 2, minimum);
}

}  // namespace orcd::test
