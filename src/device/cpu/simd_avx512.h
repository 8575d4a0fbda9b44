// Sixteen float lanes as one AVX-512 register.
#pragma once

#include <immintrin.h>

#include "device/cpu/simd.h"
#include "numerics/scalar.h"

namespace orcd::cpu {
namespace {

// Query rows, and vectors of keys or values, that attention keeps in registers at once.
constexpr int kAttendBlock = 4, kAttendChunks = 4;

struct V16 {
  __m512 v;
};

ORCD_INLINE V16 v_set1(float x) { return {_mm512_set1_ps(x)}; }
ORCD_INLINE V16 v_load(const float* p) { return {_mm512_loadu_ps(p)}; }
ORCD_INLINE void v_store(float* p, const V16& v) { _mm512_storeu_ps(p, v.v); }
ORCD_INLINE V16 v_add(const V16& a, const V16& b) { return {_mm512_add_ps(a.v, b.v)}; }
ORCD_INLINE V16 v_mul(const V16& a, const V16& b) { return {_mm512_mul_ps(a.v, b.v)}; }
ORCD_INLINE V16 v_fma(const V16& a, const V16& b, const V16& c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
ORCD_INLINE V16 v_load_half(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
ORCD_INLINE void v_store_half(uint16_t* p, const V16& v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v.v, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace
}  // namespace orcd::cpu
