// Kernels written once over sixteen lanes. Included by each kernels_<isa>.cpp after its simd_<isa>.h;
// everything is in an unnamed namespace, so each instruction set has its own copy.
#pragma once

#include "device/cpu/kernels.h"
#include "numerics/attention.h"
#include "numerics/digest.h"
#include "numerics/experts.h"
#include "numerics/functions.h"
#include "numerics/linear.h"
#include "numerics/norm.h"

namespace orcd::cpu {
namespace {

using numerics::fma_rn;
using numerics::kPageKeys;

// Asks the second-level cache for what the two streams of a block-format matrix, codes and scales, need a
// little later. The first level cannot have as many lines on their way, and the hardware's own prefetching
// starts anew with each tile.
template <TensorType kType>
ORCD_INLINE void prefetch_ahead(const uint8_t* quants, const uint8_t* scales, uint64_t group) {
  constexpr uint64_t kAhead = 8192;
  constexpr int kSecondLevel = 2;
  for (uint32_t line = 0; line < group_quant_bytes(kType); line += 64)
    __builtin_prefetch(quants + kAhead + line, 0, kSecondLevel);
  const uint64_t block = is_super_block(kType) ? group / 8 : group;
  __builtin_prefetch(scales + block * block_scale_bytes(kType) + kAhead, 0, kSecondLevel);
}

// Scores of kRows query rows against the 64 keys of a page, kChunks vectors of keys at a time; keys outside a
// row's range give values nobody reads.
template <int kRows, int kChunks>
ORCD_INLINE void page_scores(const float* const* q, const uint16_t* k, uint32_t head_dim, float* const* p) {
  for (int first = 0; first < 4; first += kChunks) {
    V16 s[kRows][kChunks];
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kChunks; ++c) s[r][c] = v_set1(0.0f);
    }
    for (uint32_t d = 0; d < head_dim; ++d) {
      for (int c = 0; c < kChunks; ++c) {
        const V16 key = v_load_half(k + d * kPageKeys + 16 * (first + c));
        for (int r = 0; r < kRows; ++r) s[r][c] = v_fma(v_set1(q[r][d]), key, s[r][c]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kChunks; ++c) v_store(p[r] + 16 * (first + c), s[r][c]);
    }
  }
}

// o[r] += p[r][j] * V[j] for kWidth vectors of dimensions from d0, j ascending within each row's range.
template <int kRows, int kWidth>
ORCD_INLINE void page_values(const float* const* p, const uint16_t* v, uint32_t head_dim, uint32_t d0,
                             const uint32_t* first, const uint32_t* last, float* const* o) {
  V16 acc[kRows][kWidth];
  uint32_t all_first = 0, all_last = kPageKeys, any_first = kPageKeys, any_last = 0;
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kWidth; ++c) acc[r][c] = v_load(o[r] + d0 + 16 * c);
    all_first = first[r] > all_first ? first[r] : all_first;
    all_last = last[r] < all_last ? last[r] : all_last;
    any_first = first[r] < any_first ? first[r] : any_first;
    any_last = last[r] > any_last ? last[r] : any_last;
  }
  for (uint32_t j = any_first; j < any_last; ++j) {
    V16 value[kWidth];
    for (int c = 0; c < kWidth; ++c) value[c] = v_load_half(v + uint64_t{j} * head_dim + d0 + 16 * c);
    const bool everyone = j >= all_first && j < all_last;
    for (int r = 0; r < kRows; ++r) {
      if (!everyone && (j < first[r] || j >= last[r])) continue;
      const V16 weight = v_set1(p[r][j]);
      for (int c = 0; c < kWidth; ++c) acc[r][c] = v_fma(weight, value[c], acc[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kWidth; ++c) v_store(o[r] + d0 + 16 * c, acc[r][c]);
  }
}

struct PageRows {
  const float* q[kMaxAttendRows];
  float* o[kMaxAttendRows];
  float* p[kMaxAttendRows];
  numerics::SoftmaxState* state[kMaxAttendRows];
  uint32_t first[kMaxAttendRows], last[kMaxAttendRows];
};

template <int kRows>
ORCD_INLINE void attend_rows(const PageRows& rows, uint32_t at, const uint16_t* k, const uint16_t* v,
                             uint32_t head_dim, float cap) {
  constexpr int kChunks = kRows == 1 ? 4 : kAttendChunks;
  page_scores<kRows, kChunks>(rows.q + at, k, head_dim, rows.p + at);
  for (uint32_t r = at; r < at + kRows; ++r) {
    float* p = rows.p[r];
    const uint32_t first = rows.first[r], last = rows.last[r];
    if (cap > 0.0f) {
      for (uint32_t j = first; j < last; ++j) p[j] = numerics::softcap(p[j], cap);
    }
    float max = rows.state[r]->max;
    for (uint32_t j = first; j < last; ++j) max = p[j] > max ? p[j] : max;
    const float correction = numerics::exp_f32(rows.state[r]->max - max);
    for (uint32_t j = 0; j < first; ++j) p[j] = 0.0f;
    for (uint32_t j = last; j < kPageKeys; ++j) p[j] = 0.0f;
    if (first == 0 && last == kPageKeys) {
      for (uint32_t j = 0; j < kPageKeys; ++j) p[j] = numerics::exp_f32(p[j] - max);
    } else {
      for (uint32_t j = first; j < last; ++j) p[j] = numerics::exp_f32(p[j] - max);
    }
    float tree[kPageKeys];
    for (uint32_t j = 0; j < kPageKeys; ++j) tree[j] = p[j];
    rows.state[r]->sum = fma_rn(rows.state[r]->sum, correction, numerics::tree_sum(tree, kPageKeys));
    rows.state[r]->max = max;
    float* o = rows.o[r];
    for (uint32_t d = 0; d < head_dim; ++d) o[d] = o[d] * correction;
  }
  uint32_t d = 0;
  for (; d + 16 * kChunks <= head_dim; d += 16 * kChunks)
    page_values<kRows, kChunks>(rows.p + at, v, head_dim, d, rows.first + at, rows.last + at, rows.o + at);
  for (; d + 16 <= head_dim; d += 16)
    page_values<kRows, 1>(rows.p + at, v, head_dim, d, rows.first + at, rows.last + at, rows.o + at);
  for (; d < head_dim; ++d) {
    for (uint32_t r = at; r < at + kRows; ++r) {
      float acc = rows.o[r][d];
      for (uint32_t j = rows.first[r]; j < rows.last[r]; ++j) {
        acc = fma_rn(rows.p[r][j], numerics::half_to_float(v[uint64_t{j} * head_dim + d]), acc);
      }
      rows.o[r][d] = acc;
    }
  }
}

void attend(const AttendArgs& args) {
  const uint32_t dim = args.head_dim;
  numerics::SoftmaxState state[kMaxAttendRows], total[kMaxAttendRows];
  bool started[kMaxAttendRows] = {};
  uint32_t begin[kMaxAttendRows];
  uint32_t all_begin = ~0u, all_end = 0;
  for (uint32_t r = 0; r < args.n_rows; ++r) {
    begin[r] = numerics::first_visible(args.position[r], args.window);
    all_begin = begin[r] < all_begin ? begin[r] : all_begin;
    all_end = args.position[r] + 1 > all_end ? args.position[r] + 1 : all_end;
  }
  const uint32_t split_keys = kPageKeys * numerics::kPagesPerSplit;
  for (uint32_t split = all_begin / split_keys; split * split_keys < all_end; ++split) {
    for (uint32_t r = 0; r < args.n_rows; ++r) {
      state[r] = numerics::empty_softmax();
      float* o = args.scratch + uint64_t{r} * dim;
      for (uint32_t d = 0; d < dim; ++d) o[d] = 0.0f;
    }
    for (uint32_t page = split * numerics::kPagesPerSplit; page < (split + 1) * numerics::kPagesPerSplit;
         ++page) {
      const uint32_t base = page * kPageKeys;
      if (base >= all_end || base + kPageKeys <= all_begin) continue;
      PageRows rows;
      uint32_t n = 0;
      for (uint32_t r = 0; r < args.n_rows; ++r) {
        const uint32_t end = args.position[r] + 1;
        const uint32_t first = begin[r] > base ? begin[r] - base : 0;
        const uint32_t last = end > base ? (end - base < kPageKeys ? end - base : kPageKeys) : 0;
        if (first >= last) continue;
        rows.q[n] = args.q[r];
        rows.o[n] = args.scratch + uint64_t{r} * dim;
        rows.p[n] = args.scratch + uint64_t{kMaxAttendRows} * dim + n * kPageKeys;
        rows.state[n] = &state[r];
        rows.first[n] = first;
        rows.last[n] = last;
        ++n;
      }
      const uint8_t* head = args.kv + args.pages[page] * args.page_stride + args.head_offset;
      const auto* k = reinterpret_cast<const uint16_t*>(head);
      const uint16_t* v = k + uint64_t{dim} * kPageKeys;
      uint32_t at = 0;
      for (; at + kAttendBlock <= n; at += kAttendBlock)
        attend_rows<kAttendBlock>(rows, at, k, v, dim, args.softcap);
      for (; at < n; ++at) attend_rows<1>(rows, at, k, v, dim, args.softcap);
    }
    for (uint32_t r = 0; r < args.n_rows; ++r) {
      if (state[r].sum == 0.0f)
        continue;  // no visible key in this split: one has p = 1, so the sum is at least 1
      const float* o = args.scratch + uint64_t{r} * dim;
      if (started[r]) {
        numerics::merge_splits(&total[r], args.out[r], state[r], o, dim);
        continue;
      }
      total[r] = state[r];
      started[r] = true;
      for (uint32_t d = 0; d < dim; ++d) args.out[r][d] = o[d];
    }
  }
  for (uint32_t r = 0; r < args.n_rows; ++r) {
    if (args.sink[r] != nullptr) numerics::add_sink(*args.sink[r], &total[r], args.out[r], dim);
    const float inverse = 1.0f / total[r].sum;
    for (uint32_t d = 0; d < dim; ++d) args.out[r][d] = args.out[r][d] * inverse;
  }
}

void quantize(const float* x, uint64_t n, int8_t* q, GroupScale* scales) {
  for (uint64_t at = 0, group = 0; at < n; at += 32, ++group) {
    numerics::QuantizedGroup g;
    if (n - at >= 32) {
      numerics::quantize_group(x + at, 32, &g);
    } else {
      numerics::quantize_group(x + at, static_cast<uint32_t>(n - at), &g);
    }
    for (int i = 0; i < 32; ++i) q[at + i] = g.q[i];
    scales[group] = {g.d, g.d * static_cast<float>(g.sum_low + g.sum_high), g.sum_low, g.sum_high};
  }
}

void rms_norm(const float* x, uint32_t n, const float* w, float eps, float* y) {
  alignas(64) float lanes[numerics::kLanes];
  V16 acc[16];
  for (V16& a : acc) a = v_set1(0.0f);
  uint32_t i = 0;
  for (; i + numerics::kLanes <= n; i += numerics::kLanes) {
    for (uint32_t c = 0; c < 16; ++c) {
      const V16 value = v_load(x + i + 16 * c);
      acc[c] = v_fma(value, value, acc[c]);
    }
  }
  for (uint32_t c = 0; c < 16; ++c) v_store(lanes + 16 * c, acc[c]);
  for (uint32_t lane = 0; i + lane < n; ++lane) lanes[lane] = fma_rn(x[i + lane], x[i + lane], lanes[lane]);
  const float inverse = numerics::rms_inverse(numerics::tree_sum(lanes, numerics::kLanes), n, eps);
  if (w != nullptr) {
    for (uint32_t j = 0; j < n; ++j) y[j] = x[j] * inverse * w[j];
  } else {
    for (uint32_t j = 0; j < n; ++j) y[j] = x[j] * inverse;
  }
}

template <typename Act>
ORCD_INLINE void glu_with(Act act, const float* gate, const float* up, uint64_t n, float* h) {
  if (up != nullptr) {
    for (uint64_t i = 0; i < n; ++i) h[i] = act(gate[i]) * up[i];
  } else {
    for (uint64_t i = 0; i < n; ++i) h[i] = act(gate[i]);
  }
}

void glu(Glu act, const float* gate, const float* up, uint64_t n, float* h) {
  switch (act) {
    case Glu::kSilu:
      glu_with([](float x) { return numerics::silu(x); }, gate, up, n, h);
      return;
    case Glu::kGeluTanh:
      glu_with([](float x) { return numerics::gelu_tanh(x); }, gate, up, n, h);
      return;
    case Glu::kGeluErf:
      glu_with([](float x) { return numerics::gelu_erf(x); }, gate, up, n, h);
      return;
    case Glu::kClampedSwiglu:
      for (uint64_t i = 0; i < n; ++i) h[i] = numerics::clamped_swiglu(gate[i], up[i]);
      return;
  }
}

void add(const float* y, uint64_t n, float* x) {
  for (uint64_t i = 0; i < n; ++i) x[i] = x[i] + y[i];
}

void combine(uint32_t rank, float weight, const float* o, uint64_t n, float* y) {
  if (rank == 0) {
    for (uint64_t i = 0; i < n; ++i) y[i] = numerics::combine_expert(0, weight, o[i], 0.0f);
  } else {
    for (uint64_t i = 0; i < n; ++i) y[i] = numerics::combine_expert(1, weight, o[i], y[i]);
  }
}

void to_half(const float* x, uint64_t n, uint16_t* out) {
  uint64_t i = 0;
  for (; i + 16 <= n; i += 16) v_store_half(out + i, v_load(x + i));
  for (; i < n; ++i) out[i] = numerics::float_to_half(x[i]);
}

void softcap_row(float* x, uint64_t n, float cap) {
  for (uint64_t i = 0; i < n; ++i) x[i] = numerics::softcap(x[i], cap);
}

void digest(const float* row, uint64_t n, uint64_t begin, uint64_t end, uint64_t* a, uint64_t* b, bool* bad) {
  uint64_t sum_a = 0, sum_b = 0;
  uint32_t worst = 0;  // 1 if a NaN or +Inf was seen
  const uint64_t pairs_end = end / 2;
  for (uint64_t i = begin / 2; i < pairs_end; ++i) {
    const float low = row[2 * i], high = row[2 * i + 1];
    const uint64_t index = i;
    const uint64_t mixed = numerics::mix64(numerics::digest_word(low, high) ^
                                           (index * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull));
    sum_a += mixed;
    sum_b += mixed * (2 * index + 1);
    worst |= static_cast<uint32_t>(!(low < numerics::bits_float(0x7f800000u))) |
             static_cast<uint32_t>(!(high < numerics::bits_float(0x7f800000u)));
  }
  numerics::Digest digest{sum_a, sum_b};
  if (end % 2 != 0 && end == n) {
    numerics::digest_add(&digest, numerics::digest_word(row[n - 1], 0.0f), n / 2);
    worst |= static_cast<uint32_t>(!(row[n - 1] < numerics::bits_float(0x7f800000u)));
  }
  *a += digest.a;
  *b += digest.b;
  *bad = *bad || worst != 0;
}

uint64_t read_sum(const uint8_t* bytes, uint64_t n) {
  const auto* words = reinterpret_cast<const uint64_t*>(bytes);
  uint64_t sum[8] = {};
  for (uint64_t i = 0; i + 8 <= n / 8; i += 8) {
    for (uint64_t j = 0; j < 8; ++j) sum[j] += words[i + j];
  }
  uint64_t total = 0;
  for (const uint64_t s : sum) total += s;
  return total;
}

// The codebook of kType, each integer plus kOffset.
template <TensorType kType, int kOffset>
struct Codebook {
  alignas(16) uint8_t values[16];
  constexpr Codebook() : values() {
    for (int code = 0; code < 16; ++code)
      values[code] = static_cast<uint8_t>(numerics::codebook_value(kType, code) + kOffset);
  }
};

// Where each strip begins, in units of `unit` elements of K: divided out once a call, not once a tile.
struct Strips {
  uint32_t n;
  uint64_t begin[numerics::kMaxStrips + 1];
};

ORCD_INLINE Strips strips_of(const LinearArgs& args, uint64_t unit) {
  Strips strips;
  strips.n = args.strips;
  for (uint32_t s = 0; s <= args.strips; ++s) {
    strips.begin[s] = numerics::strip_begin(args.cols, args.strips, s) / unit;
  }
  return strips;
}

// Rows of a float format: lanes are rows, K in order; the chain of linear_floats.
ORCD_INLINE V16 load_float_lanes(TensorType type, const uint8_t* tile, uint64_t k) {
  if (type == TensorType::kF32) return v_load(reinterpret_cast<const float*>(tile) + k * kTileRows);
  const auto* halves = reinterpret_cast<const uint16_t*>(tile) + k * kTileRows;
  if (type == TensorType::kF16) return v_load_half(halves);
  float lanes[kTileRows];
  for (uint32_t r = 0; r < kTileRows; ++r) lanes[r] = numerics::bfloat_to_float(halves[r]);
  return v_load(lanes);
}

template <int kTokens>
ORCD_INLINE void float_tile(const LinearArgs& args, const Strips& strips, const uint8_t* tile, uint32_t token,
                            V16* total) {
  for (uint32_t s = 0; s < strips.n; ++s) {
    V16 acc[kTokens];
    for (V16& a : acc) a = v_set1(0.0f);
    for (uint64_t k = strips.begin[s]; k < strips.begin[s + 1]; ++k) {
      const V16 w = load_float_lanes(args.type, tile, k);
      for (int t = 0; t < kTokens; ++t)
        acc[t] = v_fma(w, v_set1(args.xf[(token + t) * args.xf_stride + k]), acc[t]);
    }
    for (int t = 0; t < kTokens; ++t) total[t] = s == 0 ? acc[t] : v_add(total[t], acc[t]);
  }
}

// Writes the sums of one tile for one token; rows past the end of the matrix are dropped.
ORCD_INLINE void store_tile(const LinearArgs& args, uint64_t tile, uint32_t token, const V16& total) {
  const uint64_t row = tile * kTileRows;
  float* y = args.y + token * args.y_stride + (row - args.y_row);
  if (row + kTileRows <= args.rows) {
    v_store(y, total);
    return;
  }
  float lanes[kTileRows];
  v_store(lanes, total);
  for (uint64_t r = 0; row + r < args.rows; ++r) y[r] = lanes[r];
}

// What store_tile() wrote; lanes past the end of the matrix are 0.
ORCD_INLINE V16 load_tile(const LinearArgs& args, uint64_t tile, uint32_t token) {
  const uint64_t row = tile * kTileRows;
  const float* y = args.y + token * args.y_stride + (row - args.y_row);
  if (row + kTileRows <= args.rows) return v_load(y);
  float lanes[kTileRows] = {};
  for (uint64_t r = 0; row + r < args.rows; ++r) lanes[r] = y[r];
  return v_load(lanes);
}

template <int kTokens>
ORCD_INLINE void float_tokens(const LinearArgs& args, const Strips& strips, const uint8_t* tile_data,
                              uint64_t tile, uint32_t token) {
  V16 total[kTokens] = {};
  float_tile<kTokens>(args, strips, tile_data, token, total);
  for (int t = 0; t < kTokens; ++t) store_tile(args, tile, token + static_cast<uint32_t>(t), total[t]);
}

void linear_float_format(const LinearArgs& args) {
  const Strips strips = strips_of(args, 1);
  const TileLayout layout = tile_layout(args.type, args.cols);
  for (uint64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const uint8_t* data = args.weights + tile * layout.tile_bytes;
    uint32_t token = 0;
    for (; token + 4 <= args.n_tokens; token += 4) float_tokens<4>(args, strips, data, tile, token);
    for (; token < args.n_tokens; ++token) float_tokens<1>(args, strips, data, tile, token);
  }
}

// The table of these kernels and the given one.
constexpr Kernels kernels_of(void (*linear)(const LinearArgs&)) {
  return {linear, attend, quantize, rms_norm, glu, add, combine, to_half, softcap_row, digest, read_sum};
}

}  // namespace
}  // namespace orcd::cpu
