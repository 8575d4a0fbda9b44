// A 128-bit digest of bytes and of logits that any device can compute in parallel: a sum of mixed 64-bit
// words. It detects corruption and difference; it is not cryptographic.
#pragma once

#include "numerics/scalar.h"

namespace orcd::numerics {

struct Digest {
  uint64_t a = 0, b = 0;
  bool operator==(const Digest&) const = default;
};

// Finaliser of MurmurHash3 (Appleby).
ORCD_HD uint64_t mix64(uint64_t z) {
  z ^= z >> 33;
  z *= 0xff51afd7ed558ccdull;
  z ^= z >> 33;
  z *= 0xc4ceb9fe1a85ec53ull;
  return z ^ (z >> 33);
}

// Adds word number `index` to a digest. Order does not matter: partial digests of disjoint words may be added
// up.
ORCD_HD void digest_add(Digest* digest, uint64_t word, uint64_t index) {
  const uint64_t mixed = mix64(word ^ (index * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull));
  digest->a += mixed;
  digest->b += mixed * (2 * index + 1);
}

// Two floats as one word. Any NaN counts as the same NaN: payloads differ between devices.
ORCD_HD uint64_t digest_word(float low, float high) {
  const uint32_t l = is_nan(low) ? 0x7fc00000u : float_bits(low);
  const uint32_t h = is_nan(high) ? 0x7fc00000u : float_bits(high);
  return uint64_t{h} << 32 | l;
}

// Digest of one row of n floats; an odd last float is paired with +0.
ORCD_HD Digest digest_row(const float* row, uint64_t n) {
  Digest digest;
  for (uint64_t i = 0; i < n; i += 2)
    digest_add(&digest, digest_word(row[i], i + 1 < n ? row[i + 1] : 0.0f), i / 2);
  return digest;
}

// Appends a row's digest to that of a sequence of rows; this one is ordered.
ORCD_HD void digest_chain(Digest* chain, const Digest& row) {
  chain->a = mix64(chain->a ^ 0x6a09e667f3bcc908ull) + row.a;
  chain->b = mix64(chain->b ^ 0xbb67ae8584caa73bull) + row.b;
}

// The row of a chain that holds one row only.
ORCD_HD Digest digest_of_only_row(const Digest& chain) {
  return {chain.a - mix64(0x6a09e667f3bcc908ull), chain.b - mix64(0xbb67ae8584caa73bull)};
}

// Bytes as little-endian words; a last partial word is padded with zeros.
inline Digest digest_bytes(const uint8_t* bytes, uint64_t n, uint64_t first_word = 0) {
  Digest digest;
  uint64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t word;
    memcpy(&word, bytes + i, 8);
    digest_add(&digest, word, first_word + i / 8);
  }
  if (i < n) {
    uint64_t word = 0;
    memcpy(&word, bytes + i, n - i);
    digest_add(&digest, word, first_word + i / 8);
  }
  return digest;
}

}  // namespace orcd::numerics
