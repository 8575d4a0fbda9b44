// Counts of operands for which device/cuda/exact_math.cuh and what it stands for differ.
#pragma once

#include <cstdint>

namespace orcd::test {

// code_scales() against amax / 127 and 127 / amax, for every ordinary amax and 0.
uint64_t different_code_scales(int device);
// inverse_root() against 1 / sqrt(x), for every x from 2^-84 to 2^61.
uint64_t different_inverse_roots(int device);
// exp_nonpositive() against numerics::exp_f32, for every x <= 0 and NaN.
uint64_t different_exponentials(int device);
// reciprocal() against 1 / b, for every b >= 0.
uint64_t different_reciprocals(int device);
// half_bits() against numerics::float_to_half, for every float.
uint64_t different_halves(int device);
// divide() against a / n, for every a from 1 to 2 and some at the ends of what is ordinary; n: an integer.
uint64_t different_quotients(int device, uint32_t n);

}  // namespace orcd::test
