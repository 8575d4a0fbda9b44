// Philox4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011).
#pragma once

#include "numerics/scalar.h"

namespace orcd::numerics {

struct PhiloxBlock {
  uint32_t word[4];
};

ORCD_HD PhiloxBlock philox4x32(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * counter.word[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<uint32_t>(p1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(p1),
                static_cast<uint32_t>(p0 >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(p0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// The 64 random bits of (seed, choice) at a position (rule N6).
ORCD_HD uint64_t random_bits(uint64_t seed, uint32_t choice, uint64_t position) {
  const PhiloxBlock counter = {
      {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), choice, 0}};
  const PhiloxBlock out = philox4x32(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  return uint64_t{out.word[1]} << 32 | out.word[0];
}

}  // namespace orcd::numerics
