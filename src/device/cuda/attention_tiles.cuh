// The parts of attention over many tokens (rule N4), each by a whole block: queries finished, scores of a
// page, its weights, its values, outputs. Products are register tiles; each score and each output element is
// still one chain in ascending order.
#pragma once

#include "device/cuda/attention_heads.cuh"
#include "device/cuda/ptx.cuh"

namespace orcd::cuda {

// Floats of a key's row of weights: 64 rows, and no bank conflicts.
inline constexpr uint32_t kWeightStride = 72;

// How a kernel for one head dimension is cut up. A warp's lanes are 8 columns (of keys, then of dimensions)
// by 4 rows, so that each 16-byte load of a warp is one pass through shared memory.
template <uint32_t kDim>
struct Tiles {
  static constexpr uint32_t kThreads = kDim == 128 ? 128 : 256;
  static constexpr uint32_t kBlocks = kDim <= 128 ? 2 : 1;  // of a multiprocessor
  static constexpr uint32_t kRows = kDim <= 128 ? 64 : 32;
  static constexpr uint32_t kQueryStride = kRows + 4;
  static constexpr uint32_t kKeyFours = kDim == 128 ? 2 : 1;  // of keys a thread scores
  static constexpr uint32_t kKeyColumns = kPageKeys / (4 * kKeyFours);
  static constexpr uint32_t kScoreRows = kRows / (kThreads / kKeyColumns);  // of a thread
  static constexpr uint32_t kValueRows = kDim == 128 ? 8 : 4;               // of a thread
  static constexpr uint32_t kColumns = kThreads / (kRows / kValueRows);     // threads along the dimensions
  static constexpr uint32_t kFours = kDim / (4 * kColumns);                 // of dimensions a thread
  static constexpr uint32_t kWeighed = kRows * 4 > kThreads ? kRows * 4 / kThreads : 1;  // rows, by a thread
};

// A thread's place among n_columns columns and the rest: lanes as above where there are enough columns.
struct Place {
  uint32_t column, row;
};
__device__ __forceinline__ Place place_among(uint32_t n_columns) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, across = n_columns / 8;
  return {warp % across * 8 + lane % 8, warp / across * 4 + lane / 8};
}

// Where the weights of a key lie: threads that store four neighbouring keys each then meet different banks.
__device__ __forceinline__ constexpr uint32_t weight_row(uint32_t key) {
  return key / 32 * 32 + key % 4 * 8 + key / 4 % 8;
}

template <uint32_t kDim>
struct PrefillShared {
  float page[kDim * kPageKeys];  // keys [d][64], then values [64][d]
  uint16_t raw[kDim * kPageKeys];
  float q[kDim][Tiles<kDim>::kQueryStride];
  float weights[kPageKeys][kWeightStride];  // scores, then their weights
  float correction[Tiles<kDim>::kRows];
  float merge_a[Tiles<kDim>::kRows], merge_b[Tiles<kDim>::kRows];
  uint32_t position[Tiles<kDim>::kRows];
  uint8_t first[Tiles<kDim>::kRows], last[Tiles<kDim>::kRows], action[Tiles<kDim>::kRows];
};
enum Action : uint8_t { kSkip, kTake, kMerge };

// One page's keys or values on their way: head_dim * 64 of them.
template <uint32_t kThreads>
__device__ __forceinline__ void load_raw(uint16_t* raw, const uint16_t* from, uint32_t head_dim) {
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(raw));
#pragma unroll 4
  for (uint32_t i = threadIdx.x; i < head_dim * kPageKeys / 8; i += kThreads)
    copy_async16(to + i * 16, from + i * 8);
  copy_async_commit();
}

// To f32. Rows of n values each come to stand kStride apart; n is a multiple of 8. Rounds of all threads are
// counted without threadIdx, so that a constant number of them needs no branches.
template <uint32_t kThreads, uint32_t kStride>
__device__ __forceinline__ void widen_raw(float* page, const uint16_t* raw, uint32_t head_dim, uint32_t n) {
  const auto widen = [&](uint32_t i) {
    const uint2 four = reinterpret_cast<const uint2*>(raw)[i];
    const float2 a = half_pair(four.x), b = half_pair(four.y);
    const uint32_t to = kStride == n ? i * 4 : i * 4 / n * kStride + i * 4 % n;
    *reinterpret_cast<float4*>(page + to) = make_float4(a.x, a.y, b.x, b.y);
  };
  const uint32_t n_fours = head_dim * kPageKeys / 4, rounds = n_fours / kThreads;
#pragma unroll 8
  for (uint32_t round = 0; round < rounds; ++round) widen(round * kThreads + threadIdx.x);
  if (threadIdx.x < n_fours % kThreads) widen(rounds * kThreads + threadIdx.x);
}

// The raw queries of all rows: norm, rotation, scale.
template <uint32_t kDim>
__device__ __forceinline__ void finish_queries(PrefillShared<kDim>& s, const RopeArgs& a, uint32_t head_dim) {
  using T = Tiles<kDim>;
  if (a.q_norm) {
#pragma unroll 1
    for (uint32_t row = threadIdx.x / 32; row < T::kRows; row += T::kThreads / 32)
      norm_head(a, &s.q[0][row], T::kQueryStride, a.q_norm);
    __syncthreads();
  }
  constexpr uint32_t kBatch =
      8;  // pairs of a thread, all loads of which are on their way before the first is used
  const uint32_t n_turned = a.n_dims / 2, n_pairs = T::kRows * head_dim / 2;
#pragma unroll 1
  for (uint32_t begin = threadIdx.x; begin < n_pairs; begin += kBatch * T::kThreads) {
    float *x[kBatch], *y[kBatch], was_x[kBatch], was_y[kBatch];
    float2 angle[kBatch];
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = min(begin + j * T::kThreads, n_pairs - 1), row = i % T::kRows, pair = i / T::kRows;
      const bool turns = pair < n_turned, halves = turns && a.halves;
      x[j] = &s.q[halves ? pair : 2 * pair][row];
      y[j] = &s.q[halves ? pair + n_turned : 2 * pair + 1][row];
      was_x[j] = *x[j];
      was_y[j] = *y[j];
      if (turns) angle[j] = __ldg(angles_of(a, s.position[row]) + pair);
    }
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = begin + j * T::kThreads;
      if (i >= n_pairs) break;
      if (i / T::kRows < n_turned) numerics::rotate_pair(&was_x[j], &was_y[j], angle[j].x, angle[j].y);
      *x[j] = was_x[j] * a.scale;
      *y[j] = was_y[j] * a.scale;
    }
  }
}

// Scores of the page into the weights.
template <uint32_t kDim>
__device__ __forceinline__ void score_page(PrefillShared<kDim>& s, uint32_t head_dim) {
  using T = Tiles<kDim>;
  const Place place = place_among(T::kKeyColumns);
  const float* q_at = &s.q[0][place.row * T::kScoreRows];
  const float* k_at = &s.page[place.column * 4];
  float score[T::kKeyFours][4][T::kScoreRows] = {};
  struct Operands {
    float q[T::kScoreRows], k[T::kKeyFours * 4];
  };
  const auto load = [&](uint32_t d, Operands& to) {
    if constexpr (T::kScoreRows == 4) {
      *reinterpret_cast<float4*>(to.q) = *reinterpret_cast<const float4*>(q_at + d * T::kQueryStride);
    } else {
      *reinterpret_cast<float2*>(to.q) = *reinterpret_cast<const float2*>(q_at + d * T::kQueryStride);
    }
#pragma unroll
    for (uint32_t f = 0; f < T::kKeyFours; ++f)
      *reinterpret_cast<float4*>(to.k + f * 4) =
          *reinterpret_cast<const float4*>(k_at + d * kPageKeys + f * 4 * T::kKeyColumns);
  };
  const auto multiply = [&](const Operands& x) {
#pragma unroll
    for (uint32_t f = 0; f < T::kKeyFours; ++f) {
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) {
#pragma unroll
        for (uint32_t r = 0; r < T::kScoreRows; ++r)
          score[f][j][r] = __fmaf_rn(x.q[r], x.k[f * 4 + j], score[f][j][r]);
      }
    }
  };
  // The operands of one dimension come while those of the one before are used; head_dim is a multiple of 8.
  // The last load is of what follows in shared memory, and not used.
  Operands even, odd;
  load(0, even);
#pragma unroll 4
  for (uint32_t d = 0; d < head_dim; d += 2) {
    load(d + 1, odd);
    multiply(even);
    load(d + 2, even);
    multiply(odd);
  }
#pragma unroll
  for (uint32_t f = 0; f < T::kKeyFours; ++f) {
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      float* to =
          &s.weights[weight_row(f * 4 * T::kKeyColumns + place.column * 4 + j)][place.row * T::kScoreRows];
      if constexpr (T::kScoreRows == 4) {
        *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(score[f][j]);
      } else {
        *reinterpret_cast<float2*>(to) = *reinterpret_cast<const float2*>(score[f][j]);
      }
    }
  }
}

// The page's weights of one row by four lanes, lane q having keys 16 i + 4 q + j: of N4's tree the strides 32
// and 16 run inside a lane, 8 and 4 between lanes, 2 and 1 inside again. state: of the row's split, the same
// in the four. kWhole: every row sees the whole page.
template <uint32_t kDim, bool kWhole>
__device__ __forceinline__ void weigh_row(PrefillShared<kDim>& s, uint32_t row, uint32_t first, uint32_t last,
                                          float cap, numerics::SoftmaxState* state) {
  const uint32_t q = threadIdx.x % 4;
  float* weights = &s.weights[q][row];  // weight_row(16 i + 4 q + j) = i / 2 * 32 + j * 8 + i % 2 * 4 + q
  const auto weight = [&](uint32_t i, uint32_t j) -> float& {
    return weights[(i / 2 * 32 + j * 8 + i % 2 * 4) * kWeightStride];
  };
  float p[4][4];
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) p[i][j] = weight(i, j);
  }
  if (cap > 0.0f) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) p[i][j] = softcap_call(p[i][j], cap);
    }
  }
  // Keys that the row does not see count as -Inf, of which exp is 0: no branches. fmaxf(), too, passes NaN
  // over, and a zero's sign does not matter to a difference's exp.
  float max = state->max;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      const uint32_t key = 16 * i + 4 * q + j;
      if (!kWhole) p[i][j] = key >= first && key < last ? p[i][j] : numerics::bits_float(0xff800000u);
    }
    max = fmaxf(max, fmaxf(fmaxf(p[i][0], p[i][1]), fmaxf(p[i][2], p[i][3])));
  }
  max = fmaxf(max, __shfl_xor_sync(~0u, max, 1));
  max = fmaxf(max, __shfl_xor_sync(~0u, max, 2));
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      p[i][j] = exp_nonpositive(p[i][j] - max);
      weight(i, j) = p[i][j];
    }
  }
#pragma unroll
  for (uint32_t j = 0; j < 4; ++j) {
    p[0][j] = (p[0][j] + p[2][j]) + (p[1][j] + p[3][j]);
    p[0][j] = p[0][j] + __shfl_xor_sync(~0u, p[0][j], 2);
    p[0][j] = p[0][j] + __shfl_xor_sync(~0u, p[0][j], 1);
  }
  const float sum = (p[0][0] + p[0][2]) + (p[0][1] + p[0][3]);
  // A row that sees nothing of the page keeps its state.
  const bool sees = kWhole || first < last;
  const float correction = sees ? exp_nonpositive(state->max - max) : 1.0f;
  if (q == 0) s.correction[row] = correction;
  if (sees) *state = {max, __fmaf_rn(state->sum, correction, sum)};
}

// o *= what the rows' maxima have risen by.
template <uint32_t kDim>
__device__ __forceinline__ void correct_outputs(
    const PrefillShared<kDim>& s, float (&o)[Tiles<kDim>::kValueRows][Tiles<kDim>::kFours * 4]) {
  using T = Tiles<kDim>;
  const uint32_t row0 = place_among(T::kColumns).row * T::kValueRows;
#pragma unroll
  for (uint32_t r = 0; r < T::kValueRows; ++r) {
    const float correction = s.correction[row0 + r];
#pragma unroll
    for (uint32_t d = 0; d < T::kFours * 4; ++d) o[r][d] = o[r][d] * correction;
  }
}

// o += weights * values of keys [4 begin, 4 end) of the page; kWhole: every row sees them.
template <uint32_t kDim, bool kWhole>
__device__ __forceinline__ void add_values(const PrefillShared<kDim>& s, uint32_t begin, uint32_t end,
                                           float (&o)[Tiles<kDim>::kValueRows][Tiles<kDim>::kFours * 4]) {
  using T = Tiles<kDim>;
  const Place place = place_among(T::kColumns);
  const uint32_t row0 = place.row * T::kValueRows;
  uint32_t first[T::kValueRows], last[T::kValueRows];
#pragma unroll
  for (uint32_t r = 0; r < T::kValueRows; ++r) {
    if constexpr (!kWhole) {
      first[r] = s.first[row0 + r];
      last[r] = s.last[row0 + r];
    }
  }
  const float* values = &s.page[place.column * 4];
  struct Operands {
    float p[T::kValueRows], v[T::kFours * 4];
  };
  const auto load = [&](uint32_t four, uint32_t j, Operands& to) {
    const float* weights = &s.weights[four / 8 * 32 + four % 8 + j * 8][row0];
#pragma unroll
    for (uint32_t r = 0; r < T::kValueRows; r += 4)
      *reinterpret_cast<float4*>(to.p + r) = *reinterpret_cast<const float4*>(weights + r);
#pragma unroll
    for (uint32_t f = 0; f < T::kFours; ++f)
      *reinterpret_cast<float4*>(to.v + f * 4) =
          *reinterpret_cast<const float4*>(values + (four * 4 + j) * kDim + f * 4 * T::kColumns);
  };
  const auto multiply = [&](uint32_t key, const Operands& x) {
#pragma unroll
    for (uint32_t r = 0; r < T::kValueRows; ++r) {
      const bool in = kWhole || (key >= first[r] && key < last[r]);  // a key outside is not touched at all
#pragma unroll
      for (uint32_t d = 0; d < T::kFours * 4; ++d) {
        const float next = __fmaf_rn(x.p[r], x.v[d], o[r][d]);
        o[r][d] = in ? next : o[r][d];
      }
    }
  };
  // As above: the operands of the next key come meanwhile.
  Operands even, odd;
  load(begin, 0, even);
#pragma unroll 1
  for (uint32_t four = begin; four < end; ++four) {
    load(four, 1, odd);
    multiply(four * 4, even);
    load(four, 2, even);
    multiply(four * 4 + 1, odd);
    load(four, 3, odd);
    multiply(four * 4 + 2, even);
    load(min(four + 1, kPageKeys / 4 - 1), 0, even);
    multiply(four * 4 + 3, odd);
  }
}

// Four outputs of a token from `column` on: f32, or quantised with the seven lanes that hold the rest of
// their group. Whole warps.
__device__ __forceinline__ void store_four(const AttentionArgs& a, uint32_t token, uint32_t column,
                                           const float (&y)[4], bool there) {
  if (!a.out_q) {
    float* out = a.out + static_cast<uint64_t>(token) * a.rope.q_stride + column;
    if (there) *reinterpret_cast<float4*>(out) = make_float4(y[0], y[1], y[2], y[3]);
    return;
  }
  const QuantizedPart<4> q = quantize_part(y);
  if (!there) return;
  uint8_t* cores = a.out_q + (static_cast<uint64_t>(column / 64) * (a.token_stride / 8) + token / 8) * 512;
  *reinterpret_cast<uint32_t*>(cores + column % 64 / 16 * 128 + token % 8 * 16 + column % 16) = q.words[0];
  if (column % 32 == 0) a.out_s[static_cast<uint64_t>(column / 32) * a.token_stride + token] = q.scale;
}

}  // namespace orcd::cuda
