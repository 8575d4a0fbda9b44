// Sixteen float lanes as two AVX2 registers.
#pragma once

#include <immintrin.h>

#include "device/cpu/simd.h"
#include "numerics/scalar.h"

namespace orcd::cpu {
namespace {

// Query rows, and vectors of keys or values, that attention keeps in registers at once.
constexpr int kAttendBlock = 4, kAttendChunks = 1;

struct V16 {
  __m256 low, high;
};

ORCD_INLINE V16 v_set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
ORCD_INLINE V16 v_load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
ORCD_INLINE void v_store(float* p, const V16& v) {
  _mm256_storeu_ps(p, v.low);
  _mm256_storeu_ps(p + 8, v.high);
}
ORCD_INLINE V16 v_add(const V16& a, const V16& b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
ORCD_INLINE V16 v_mul(const V16& a, const V16& b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
ORCD_INLINE V16 v_fma(const V16& a, const V16& b, const V16& c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
ORCD_INLINE V16 v_load_half(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
ORCD_INLINE void v_store_half(uint16_t* p, const V16& v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v.low, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(v.high, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace
}  // namespace orcd::cpu
