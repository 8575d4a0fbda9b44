// Sixteen float lanes without vector instructions: the definition that simd_avx2.h and simd_avx512.h follow.
#pragma once

#include "device/cpu/simd.h"
#include "numerics/scalar.h"

namespace orcd::cpu {
namespace {

// Query rows whose scores are kept in registers together.
constexpr int kAttendBlock = 4, kAttendChunks = 4;

struct V16 {
  float lane[16];
};

ORCD_INLINE V16 v_set1(float x) {
  V16 v;
  for (float& lane : v.lane) lane = x;
  return v;
}
ORCD_INLINE V16 v_load(const float* p) {
  V16 v;
  for (int i = 0; i < 16; ++i) v.lane[i] = p[i];
  return v;
}
ORCD_INLINE void v_store(float* p, const V16& v) {
  for (int i = 0; i < 16; ++i) p[i] = v.lane[i];
}
ORCD_INLINE V16 v_add(const V16& a, const V16& b) {
  V16 v;
  for (int i = 0; i < 16; ++i) v.lane[i] = a.lane[i] + b.lane[i];
  return v;
}
ORCD_INLINE V16 v_mul(const V16& a, const V16& b) {
  V16 v;
  for (int i = 0; i < 16; ++i) v.lane[i] = a.lane[i] * b.lane[i];
  return v;
}
ORCD_INLINE V16 v_fma(const V16& a, const V16& b, const V16& c) {
  V16 v;
  for (int i = 0; i < 16; ++i) v.lane[i] = numerics::fma_rn(a.lane[i], b.lane[i], c.lane[i]);
  return v;
}
ORCD_INLINE V16 v_load_half(const uint16_t* p) {
  V16 v;
  for (int i = 0; i < 16; ++i) v.lane[i] = numerics::half_to_float(p[i]);
  return v;
}
ORCD_INLINE void v_store_half(uint16_t* p, const V16& v) {
  for (int i = 0; i < 16; ++i) p[i] = numerics::float_to_half(v.lane[i]);
}

}  // namespace
}  // namespace orcd::cpu
