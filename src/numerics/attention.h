// Attention over paged keys and values (rule N4): the scalar definition.
#pragma once

#include "numerics/functions.h"
#include "numerics/norm.h"

namespace orcd::numerics {

inline constexpr uint32_t kPageKeys = 64;      // kv::kPagePositions
inline constexpr uint32_t kPagesPerSplit = 4;  // a split covers 256 positions, aligned to absolute position
inline constexpr uint32_t kMaxHeadDim = 512;

// Running softmax state of one query head: maximum, sum, and unnormalised output [head_dim].
struct SoftmaxState {
  float max;
  float sum;
};

// Adds keys [first, last) of one page (0 <= first < last <= 64) to the state. Keys outside are not touched at
// all.
//   s_j = chain over d ascending of fma(q[d], K[d][j]), from 0; softcap if cap > 0
//   m' = max(m, max_j s_j); c = exp(m - m'); p_j = exp(s_j - m'), p_j = 0 for keys outside
//   sum' = fma(sum, c, tree_64(p)); o[d] = o[d] * c, then chain over j ascending of fma(p_j, V[j][d])
// q: [head_dim], already scaled; k: [head_dim][64] binary16; v: [64][head_dim] binary16; o: [head_dim].
ORCD_HD void attend_page(const float* q, const uint16_t* k, const uint16_t* v, uint32_t head_dim,
                         uint32_t first, uint32_t last, float cap, SoftmaxState* state, float* o) {
  float p[kPageKeys];
  float max = state->max;
  for (uint32_t j = 0; j < kPageKeys; ++j) {
    p[j] = 0.0f;
    if (j < first || j >= last) continue;
    float s = 0.0f;
    for (uint32_t d = 0; d < head_dim; ++d) s = fma_rn(q[d], half_to_float(k[d * kPageKeys + j]), s);
    if (cap > 0.0f) s = softcap(s, cap);
    p[j] = s;
    max = s > max ? s : max;
  }
  const float correction = exp_f32(state->max - max);
  for (uint32_t j = first; j < last; ++j) p[j] = exp_f32(p[j] - max);
  for (uint32_t d = 0; d < head_dim; ++d) o[d] = o[d] * correction;
  for (uint32_t j = first; j < last; ++j) {
    for (uint32_t d = 0; d < head_dim; ++d) o[d] = fma_rn(p[j], half_to_float(v[j * head_dim + d]), o[d]);
  }
  state->sum = fma_rn(state->sum, correction, tree_sum(p, kPageKeys));
  state->max = max;
}

// Folds split `b` into `a`, in ascending order of position:
//   m = max(ma, mb); ca = exp(ma - m); cb = exp(mb - m); sum = fma(sa, ca, sb * cb); o = fma(oa, ca, ob * cb)
ORCD_HD void merge_splits(SoftmaxState* a, float* oa, const SoftmaxState& b, const float* ob,
                          uint32_t head_dim) {
  const float max = b.max > a->max ? b.max : a->max;
  const float ca = exp_f32(a->max - max), cb = exp_f32(b.max - max);
  a->sum = fma_rn(a->sum, ca, b.sum * cb);
  for (uint32_t d = 0; d < head_dim; ++d) oa[d] = fma_rn(oa[d], ca, ob[d] * cb);
  a->max = max;
}

// Adds a sink: a logit that takes part in the maximum and the sum and has no value (Xiao et al. 2023;
// gpt-oss, OpenAI 2025). After the last split:
//   m' = max(m, sink); c = exp(m - m'); sum' = fma(sum, c, exp(sink - m')); o[d] = o[d] * c
ORCD_HD void add_sink(float sink, SoftmaxState* state, float* o, uint32_t head_dim) {
  const float max = sink > state->max ? sink : state->max;
  const float correction = exp_f32(state->max - max);
  state->sum = fma_rn(state->sum, correction, exp_f32(sink - max));
  for (uint32_t d = 0; d < head_dim; ++d) o[d] = o[d] * correction;
  state->max = max;
}

// The state before any key: exp(-Inf - m) is 0, so the first page starts the chains from 0.
ORCD_HD SoftmaxState empty_softmax() { return {bits_float(0xff800000u), 0.0f}; }

// First key that a query at `position` sees: window keys, itself included; window 0 = all.
ORCD_HD uint32_t first_visible(uint32_t position, uint32_t window) {
  return window != 0 && position + 1 > window ? position + 1 - window : 0;
}

// One query head at `position` over its pages. k_pages[i], v_pages[i]: page of positions 64 i .. 64 i + 63;
// only pages that hold visible keys are read. out: [head_dim] = o * (1 / sum). scratch: [head_dim]. Splits
// wholly outside the window take no part; the first that holds a visible key starts the fold. sink: of this
// head, or nullptr.
ORCD_HD void attention(const float* q, const uint16_t* const* k_pages, const uint16_t* const* v_pages,
                       uint32_t position, uint32_t window, uint32_t head_dim, float cap, float* out,
                       float* scratch, const float* sink = nullptr) {
  const uint32_t begin = first_visible(position, window), end = position + 1;
  SoftmaxState total = empty_softmax();
  bool started = false;
  const uint32_t split_keys = kPageKeys * kPagesPerSplit;
  for (uint32_t split = begin / split_keys; split * split_keys < end; ++split) {
    SoftmaxState state = empty_softmax();
    float* o = started ? scratch : out;
    for (uint32_t d = 0; d < head_dim; ++d) o[d] = 0.0f;
    for (uint32_t page = split * kPagesPerSplit; page < (split + 1) * kPagesPerSplit; ++page) {
      const uint32_t base = page * kPageKeys;
      const uint32_t first = begin > base ? begin - base : 0;
      const uint32_t last = end > base ? (end - base < kPageKeys ? end - base : kPageKeys) : 0;
      if (first >= last) continue;
      attend_page(q, k_pages[page], v_pages[page], head_dim, first, last, cap, &state, o);
    }
    if (started) {
      merge_splits(&total, out, state, scratch, head_dim);
    } else {
      total = state;
      started = true;
    }
  }
  if (sink != nullptr) add_sink(*sink, &total, out, head_dim);
  const float inverse = 1.0f / total.sum;
  for (uint32_t d = 0; d < head_dim; ++d) out[d] = out[d] * inverse;
}

}  // namespace orcd::numerics
