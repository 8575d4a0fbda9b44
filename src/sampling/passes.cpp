#include "sampling/passes.h"

#include <algorithm>
#include <array>
#include <bit>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "sampling/rules.h"

namespace orcd::sampling {
namespace {

uint64_t integer(float weight) { return static_cast<uint64_t>(static_cast<int64_t>(weight)); }

// What follows step 1 in a block: the tokens seen, the filling up.
ORCD_HD void finish_block(const float* logits, uint32_t size, const SamplingParams& params, uint64_t seen,
                          float* out) {
  for (uint64_t bits = params.repetition_penalty != 1.0f ? seen : 0; bits != 0; bits &= bits - 1) {
    const auto i = static_cast<uint32_t>(std::countr_zero(bits));
    out[i] = adjust_logit(logits[i], params.temperature, params.repetition_penalty, true);
  }
  for (uint32_t i = size; i < kBlock; ++i) out[i] = numerics::bits_float(0xff800000u);
}

bool adjust_block(const float* logits, uint32_t size, const SamplingParams& params, uint64_t seen, float* out,
                  float* max) {
  bool valid = true;
  for (uint32_t i = 0; i < size; ++i) {
    valid = valid && is_valid_logit(logits[i]);
    out[i] = adjust_logit(logits[i], params.temperature, 1.0f, false);
  }
  finish_block(logits, size, params, seen, out);
  *max = *std::max_element(out, out + kBlock);
  return valid;
}

uint64_t weigh_block(float* values, float max, float least) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < kBlock; ++i) {
    const float weight = token_weight(values[i], max);
    values[i] = weight >= least ? weight : 0.0f;
    sum += integer(values[i]);
  }
  return sum;
}
uint64_t cut_block(float* weights, float least) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < kBlock; ++i) {
    if (!(weights[i] >= least)) weights[i] = 0.0f;
    sum += integer(weights[i]);
  }
  return sum;
}

uint64_t collect_block(const float* weights, float least, uint32_t* bits) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < kBlock; ++i) {
    if (weights[i] >= least) bits[n++] = numerics::float_bits(weights[i]);
  }
  return n;
}

uint64_t keep_equal(uint32_t* keys, uint64_t n, uint32_t mask, uint32_t wanted) {
  uint64_t kept = 0;
  for (uint64_t j = 0; j < n; ++j) {
    if ((keys[j] & mask) == wanted) keys[kept++] = keys[j];
  }
  return kept;
}

#if defined(__x86_64__)
// Compiled for these processors alone, whatever the rest of the file is compiled for.
#define ORCD_AVX2 __attribute__((target("avx2,fma")))

// adjust_logit without a penalty. A finite logit that is not divided stays as it is.
ORCD_AVX2 inline __m256 divide_lanes(__m256 logit, __m256 temperature) {
  const __m256 minus_inf = _mm256_set1_ps(-__builtin_inff());
  const __m256 largest = _mm256_set1_ps(3.402823466e+38f), smallest = _mm256_set1_ps(-3.402823466e+38f);
  const __m256 l = _mm256_div_ps(logit, temperature);
  const __m256 bounded = _mm256_min_ps(_mm256_max_ps(l, smallest), largest);
  return _mm256_blendv_ps(bounded, logit, _mm256_cmp_ps(logit, minus_inf, _CMP_EQ_OQ));
}

ORCD_AVX2 bool adjust_block_avx2(const float* logits, uint32_t size, const SamplingParams& params,
                                 uint64_t seen, float* out, float* max) {
  const bool divide = !is_greedy(params.temperature) && params.temperature != 1.0f;
  const __m256 temperature = _mm256_set1_ps(params.temperature), inf = _mm256_set1_ps(__builtin_inff());
  __m256 bad = _mm256_setzero_ps();
  bool valid = true;
  uint32_t i = 0;
  for (; i + 8 <= size; i += 8) {
    const __m256 logit = _mm256_loadu_ps(logits + i);
    bad = _mm256_or_ps(bad, _mm256_cmp_ps(logit, inf, _CMP_NLT_UQ));  // NaN or +Inf
    _mm256_storeu_ps(out + i, divide ? divide_lanes(logit, temperature) : logit);
  }
  for (; i < size; ++i) {
    valid = valid && is_valid_logit(logits[i]);
    out[i] = adjust_logit(logits[i], params.temperature, 1.0f, false);
  }
  finish_block(logits, size, params, seen, out);
  __m256 most = _mm256_loadu_ps(out);
  for (uint32_t j = 8; j < kBlock; j += 8) most = _mm256_max_ps(most, _mm256_loadu_ps(out + j));
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  *max = _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  return valid && _mm256_movemask_ps(bad) == 0;
}

// Sums of integers below 2^53 are exact in binary64, in any order.
ORCD_AVX2 inline __m256d add_wide(__m256d sum, __m256 weights) {
  sum = _mm256_add_pd(sum, _mm256_cvtps_pd(_mm256_castps256_ps128(weights)));
  return _mm256_add_pd(sum, _mm256_cvtps_pd(_mm256_extractf128_ps(weights, 1)));
}
ORCD_AVX2 inline uint64_t total_of(__m256d sum) {
  double lanes[4];
  _mm256_storeu_pd(lanes, sum);
  return static_cast<uint64_t>(static_cast<int64_t>(lanes[0] + lanes[1] + lanes[2] + lanes[3]));
}

// token_weight of x = l - max <= 0: exp_f32 where -23 < x, where scaling by 2^n and by 2^32 is exact; 0
// elsewhere.
ORCD_AVX2 inline __m256 weight_lanes(__m256 x) {
  const __m256 magic = _mm256_set1_ps(12582912.0f);
  const __m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(1.44269504088896341f), magic);
  const __m256 whole = _mm256_sub_ps(t, magic);
  __m256 r = _mm256_fmadd_ps(whole, _mm256_set1_ps(-0.693359375f), x);
  r = _mm256_fmadd_ps(whole, _mm256_set1_ps(2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  for (const float c :
       {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
  }
  const __m256 y = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000 - 127 - 32));
  const __m256 scaled = _mm256_mul_ps(y, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  const __m256 weight = _mm256_round_ps(scaled, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
  return _mm256_and_ps(weight, _mm256_cmp_ps(x, _mm256_set1_ps(kZeroWeight), _CMP_GT_OQ));
}

ORCD_AVX2 uint64_t weigh_block_avx2(float* values, float max, float least) {
  __m256d sum = _mm256_setzero_pd();
  for (uint32_t i = 0; i < kBlock; i += 8) {
    __m256 weight = weight_lanes(_mm256_sub_ps(_mm256_loadu_ps(values + i), _mm256_set1_ps(max)));
    weight = _mm256_and_ps(weight, _mm256_cmp_ps(weight, _mm256_set1_ps(least), _CMP_GE_OQ));
    _mm256_storeu_ps(values + i, weight);
    sum = add_wide(sum, weight);
  }
  return total_of(sum);
}

ORCD_AVX2 uint64_t cut_block_avx2(float* weights, float least) {
  __m256d sum = _mm256_setzero_pd();
  for (uint32_t i = 0; i < kBlock; i += 8) {
    __m256 weight = _mm256_loadu_ps(weights + i);
    weight = _mm256_and_ps(weight, _mm256_cmp_ps(weight, _mm256_set1_ps(least), _CMP_GE_OQ));
    _mm256_storeu_ps(weights + i, weight);
    sum = add_wide(sum, weight);
  }
  return total_of(sum);
}

// kFront[m]: the lanes whose bit is set in m, in order.
constexpr auto kFront = [] {
  std::array<std::array<uint8_t, 8>, 256> table{};
  for (uint32_t mask = 0; mask < 256; ++mask) {
    uint32_t n = 0;
    for (uint8_t lane = 0; lane < 8; ++lane)
      if (mask >> lane & 1) table[mask][n++] = lane;
  }
  return table;
}();

// Stores the chosen lanes one after the other; all eight places are written.
ORCD_AVX2 inline uint64_t store_front(uint32_t* to, __m256i lanes, __m256i chosen) {
  const auto mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(chosen)));
  const __m128i order = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kFront[mask].data()));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm256_permutevar8x32_epi32(lanes, _mm256_cvtepu8_epi32(order)));
  return static_cast<uint64_t>(std::popcount(mask));
}

ORCD_AVX2 uint64_t collect_block_avx2(const float* weights, float least, uint32_t* bits) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < kBlock; i += 8) {
    const __m256 weight = _mm256_loadu_ps(weights + i);
    const __m256 chosen = _mm256_cmp_ps(weight, _mm256_set1_ps(least), _CMP_GE_OQ);
    n += store_front(bits + n, _mm256_castps_si256(weight), _mm256_castps_si256(chosen));
  }
  return n;
}

// What is written never passes what was read.
ORCD_AVX2 uint64_t keep_equal_avx2(uint32_t* keys, uint64_t n, uint32_t mask, uint32_t wanted) {
  uint64_t kept = 0, j = 0;
  for (; j + 8 <= n; j += 8) {
    const __m256i key = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + j));
    const __m256i digits = _mm256_and_si256(key, _mm256_set1_epi32(static_cast<int32_t>(mask)));
    const __m256i chosen = _mm256_cmpeq_epi32(digits, _mm256_set1_epi32(static_cast<int32_t>(wanted)));
    kept += store_front(keys + kept, key, chosen);
  }
  for (; j < n; ++j) {
    if ((keys[j] & mask) == wanted) keys[kept++] = keys[j];
  }
  return kept;
}
#endif

}  // namespace

const Passes& scalar_passes() {
  static constexpr Passes kPasses = {adjust_block, weigh_block, cut_block, collect_block, keep_equal};
  return kPasses;
}

const Passes& best_passes() {
#if defined(__x86_64__)
  static constexpr Passes kAvx2 = {adjust_block_avx2, weigh_block_avx2, cut_block_avx2, collect_block_avx2,
                                   keep_equal_avx2};
  static const bool kHasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (kHasAvx2) return kAvx2;
#endif
  return scalar_passes();
}

}  // namespace orcd::sampling
