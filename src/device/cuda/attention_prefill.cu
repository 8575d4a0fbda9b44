// Attention of many tokens (rule N4): a block is one KV head and kRows query rows, a row being a head of a
// token, so that the heads of a group and neighbouring tokens share every page. A kernel is made for kDim
// dimensions; smaller heads go through it with what they lack left out. Products are register tiles;
// each score and each output element is still one chain in ascending order.
#include "device/cuda/attention_heads.cuh"
#include "device/cuda/ptx.cuh"

namespace orcd::cuda {
namespace {

constexpr uint32_t kWeightStride = 72;  // floats of a key's row of weights: 64 rows, and no bank conflicts

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

// To f32. Rows of n values each come to stand kStride apart; n is a multiple of 8.
template <uint32_t kThreads, uint32_t kStride>
__device__ __forceinline__ void widen_raw(float* page, const uint16_t* raw, uint32_t head_dim, uint32_t n) {
#pragma unroll 8
  for (uint32_t i = threadIdx.x; i < head_dim * kPageKeys / 4; i += kThreads) {
    const uint2 four = reinterpret_cast<const uint2*>(raw)[i];
    const float2 a = half_pair(four.x), b = half_pair(four.y);
    const uint32_t to = kStride == n ? i * 4 : i * 4 / n * kStride + i * 4 % n;
    *reinterpret_cast<float4*>(page + to) = make_float4(a.x, a.y, b.x, b.y);
  }
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

__device__ __forceinline__ float larger(float a, float b) { return b > a ? b : a; }

// The page's weights of one row by four lanes, lane q having keys 16 i + 4 q + j: of N4's tree the strides 32
// and 16 run inside a lane, 8 and 4 between lanes, 2 and 1 inside again. state: of the row's split, the same
// in the four.
template <uint32_t kDim>
__device__ __forceinline__ void weigh_row(PrefillShared<kDim>& s, uint32_t row, uint32_t first, uint32_t last,
                                          float cap, numerics::SoftmaxState* state) {
  const uint32_t q = threadIdx.x % 4;
  float* weights = &s.weights[q][row];  // weight_row(16 i + 4 q + j) = i / 2 * 32 + j * 8 + i % 2 * 4 + q
  const auto weight = [&](uint32_t i, uint32_t j) -> float& {
    return weights[(i / 2 * 32 + j * 8 + i % 2 * 4) * kWeightStride];
  };
  float p[4][4];
  float max = state->max;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      const uint32_t key = 16 * i + 4 * q + j;
      p[i][j] = weight(i, j);
      if (cap > 0.0f) p[i][j] = softcap_call(p[i][j], cap);
      if (key >= first && key < last) max = larger(max, p[i][j]);
    }
  }
  max = larger(max, __shfl_xor_sync(~0u, max, 1));
  max = larger(max, __shfl_xor_sync(~0u, max, 2));
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      const uint32_t key = 16 * i + 4 * q + j;
      p[i][j] = key >= first && key < last ? numerics::exp_f32(p[i][j] - max) : 0.0f;
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
  const float correction = first < last ? numerics::exp_f32(state->max - max) : 1.0f;
  if (q == 0) s.correction[row] = correction;
  if (first < last) *state = {max, __fmaf_rn(state->sum, correction, sum)};
}

// o += weights * values; kWhole: every row sees the whole page.
template <uint32_t kDim, bool kWhole>
__device__ __forceinline__ void add_values(const PrefillShared<kDim>& s,
                                           float (&o)[Tiles<kDim>::kValueRows][Tiles<kDim>::kFours * 4]) {
  using T = Tiles<kDim>;
  const Place place = place_among(T::kColumns);
  const uint32_t row0 = place.row * T::kValueRows;
  uint32_t first[T::kValueRows], last[T::kValueRows];
#pragma unroll
  for (uint32_t r = 0; r < T::kValueRows; ++r) {
    const float correction = s.correction[row0 + r];
#pragma unroll
    for (uint32_t d = 0; d < T::kFours * 4; ++d) o[r][d] = o[r][d] * correction;
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
  load(0, 0, even);
#pragma unroll 1
  for (uint32_t four = 0; four < kPageKeys / 4; ++four) {
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

// kExact: heads have kDim dimensions, not fewer.
template <uint32_t kDim, bool kExact>
__global__ void __launch_bounds__(Tiles<kDim>::kThreads, Tiles<kDim>::kBlocks)
    prefill_attention_kernel(const AttentionArgs a) {
  using T = Tiles<kDim>;
  constexpr uint32_t kThreads = T::kThreads;
  const RopeArgs& r = a.rope;
  const uint32_t head_dim = kExact ? kDim : r.head_dim;
  extern __shared__ __align__(128) uint8_t dynamic[];
  PrefillShared<kDim>& s = *reinterpret_cast<PrefillShared<kDim>*>(dynamic);
  launch_dependents();
  const uint32_t per_kv = r.n_heads / r.n_kv_heads, kv_head = blockIdx.x;
  // Rows are heads of tokens, token by token; with more heads than rows a token's heads take several blocks.
  const uint32_t chunks = (per_kv + T::kRows - 1) / T::kRows;
  const uint32_t heads = chunks == 1 ? per_kv : T::kRows, tile_tokens = T::kRows / heads;
  const uint32_t first_head = kv_head * per_kv + blockIdx.z * heads;
  const uint32_t n_heads = min(heads, (kv_head + 1) * per_kv - first_head);
  // Later tokens see more keys: they start first.
  const uint32_t tile_begin = (gridDim.y - 1 - blockIdx.y) * tile_tokens;
  const uint32_t tile_end = min(tile_begin + tile_tokens, r.n_tokens);
  const Place place = place_among(T::kColumns);
  const uint32_t value_row = place.row * T::kValueRows;
  // The rows whose weights this thread makes: `row` and those a step further.
  constexpr uint32_t kRowStep = kThreads / 4;
  const uint32_t row = threadIdx.x / 4;
  const bool weighs = row < T::kRows;
  wait_for_inputs();

  // Runs of tokens of one sequence: nearly always one.
#pragma unroll 1
  for (uint32_t run = tile_begin; run < tile_end;) {
    const int32_t sequence = __ldcg(r.step.sequence + run);
    uint32_t run_end = run + 1;
    while (run_end < tile_end && __ldcg(r.step.sequence + run_end) == sequence) ++run_end;
    const int32_t* table = r.step.pages + static_cast<uint64_t>(sequence) * r.step.page_stride;
    const uint32_t first_position = static_cast<uint32_t>(__ldcg(r.step.position + run));
    const uint32_t end_all = static_cast<uint32_t>(__ldcg(r.step.position + run_end - 1)) + 1;
    const uint32_t begin_all = numerics::first_visible(first_position, a.window);
    const auto page_at = [&](int64_t id) {
      return r.pages + (id * r.n_kv_heads + kv_head) * 2 * head_dim * kPageKeys;
    };
    const uint16_t* page = page_at(__ldcg(table + begin_all / kPageKeys));
    __syncthreads();
    load_raw<kThreads>(s.raw, page, head_dim);
#pragma unroll 16
    for (uint32_t i = threadIdx.x; i < T::kRows * head_dim; i += kThreads) {
      const uint32_t query = i / head_dim, d = i % head_dim, token = tile_begin + query / heads;
      const uint32_t head = query % heads;
      const bool there = token >= run && token < run_end && head < n_heads;
      s.q[d][query] =
          there ? __ldcg(r.q + static_cast<uint64_t>(token) * r.q_stride + (first_head + head) * head_dim + d)
                : 0.0f;
    }
    if (threadIdx.x < T::kRows) {
      const uint32_t token = tile_begin + threadIdx.x / heads;
      s.position[threadIdx.x] =
          token >= run && token < run_end ? static_cast<uint32_t>(__ldcg(r.step.position + token)) : 0;
    }
    __syncthreads();
    finish_queries<kDim>(s, r, head_dim);
    // The visible keys of this thread's rows: none where a row is not in the run.
    uint32_t begin[T::kWeighed] = {}, end[T::kWeighed] = {};
    numerics::SoftmaxState state[T::kWeighed], total[T::kWeighed];
    bool started[T::kWeighed] = {}, split_seen[T::kWeighed] = {};
#pragma unroll
    for (uint32_t w = 0; w < T::kWeighed; ++w) {
      const uint32_t query = row + w * kRowStep, token = tile_begin + query / heads;
      if (weighs && token >= run && token < run_end && query % heads < n_heads) {
        const uint32_t position = static_cast<uint32_t>(__ldcg(r.step.position + token));
        begin[w] = numerics::first_visible(position, a.window);
        end[w] = position + 1;
      }
      state[w] = total[w] = numerics::empty_softmax();
    }
    float o[T::kValueRows][T::kFours * 4] = {}, sums[T::kValueRows][T::kFours * 4] = {};
#pragma unroll 1
    for (uint32_t base = begin_all / kPageKeys * kPageKeys; base < end_all; base += kPageKeys) {
      const bool more = base + kPageKeys < end_all;
      const int32_t next_id = more ? __ldcg(table + base / kPageKeys + 1) : 0;  // long before it is needed
      copy_async_wait<0>();
      __syncthreads();  // the raw keys are there; the last page's values and weights have been used
      widen_raw<kThreads, kPageKeys>(s.page, s.raw, head_dim, kPageKeys);
      uint32_t first[T::kWeighed], last[T::kWeighed];
      bool mine_whole = true;
#pragma unroll
      for (uint32_t w = 0; w < T::kWeighed; ++w) {
        first[w] = begin[w] > base ? min(begin[w] - base, kPageKeys) : 0;
        last[w] = end[w] > base ? min(end[w] - base, kPageKeys) : 0;
        if (first[w] >= last[w]) first[w] = last[w] = 0;
        mine_whole = mine_whole && first[w] == 0 && last[w] == kPageKeys;
        if (weighs && threadIdx.x % 4 == 0) {
          s.first[row + w * kRowStep] = static_cast<uint8_t>(first[w]);
          s.last[row + w * kRowStep] = static_cast<uint8_t>(last[w]);
        }
      }
      const bool whole = __syncthreads_and(!weighs || mine_whole);
      load_raw<kThreads>(s.raw, page + head_dim * kPageKeys, head_dim);
      score_page<kDim>(s, head_dim);
      __syncthreads();
#pragma unroll
      for (uint32_t w = 0; w < T::kWeighed; ++w) {
        if (weighs) weigh_row<kDim>(s, row + w * kRowStep, first[w], last[w], a.softcap, &state[w]);
        split_seen[w] = split_seen[w] || first[w] < last[w];
      }
      copy_async_wait<0>();
      __syncthreads();
      // Columns past head_dim hold what was there before; what they add up to is not stored.
      widen_raw<kThreads, kDim>(s.page, s.raw, head_dim, head_dim);
      const bool split_ends = (base + kPageKeys) % kSplitKeys == 0 || base + kPageKeys >= end_all;
      if (split_ends && weighs) {
#pragma unroll
        for (uint32_t w = 0; w < T::kWeighed; ++w) {
          // The fold of the row's splits (numerics::merge_splits).
          Action action = kSkip;
          float ca = 0.0f, cb = 0.0f;
          if (split_seen[w] && !started[w]) {
            action = kTake;
            total[w] = state[w];
            started[w] = true;
          } else if (split_seen[w]) {
            action = kMerge;
            const float max = larger(total[w].max, state[w].max);
            ca = exp_call(total[w].max - max);
            cb = exp_call(state[w].max - max);
            total[w] = {max, __fmaf_rn(total[w].sum, ca, __fmul_rn(state[w].sum, cb))};
          }
          if (threadIdx.x % 4 == 0) {
            s.action[row + w * kRowStep] = action;
            s.merge_a[row + w * kRowStep] = ca;
            s.merge_b[row + w * kRowStep] = cb;
          }
          state[w] = numerics::empty_softmax();
          split_seen[w] = false;
        }
      }
      __syncthreads();
      if (more) {
        page = page_at(next_id);
        load_raw<kThreads>(s.raw, page, head_dim);
      }
      if (whole) {
        add_values<kDim, true>(s, o);
      } else {
        add_values<kDim, false>(s, o);
      }
      if (!split_ends) continue;
#pragma unroll
      for (uint32_t i = 0; i < T::kValueRows; ++i) {
        const uint8_t action = s.action[value_row + i];
        const float ca = s.merge_a[value_row + i], cb = s.merge_b[value_row + i];
#pragma unroll
        for (uint32_t d = 0; d < T::kFours * 4; ++d) {
          const float merged = __fmaf_rn(sums[i][d], ca, __fmul_rn(o[i][d], cb));
          sums[i][d] = action == kSkip ? sums[i][d] : action == kTake ? o[i][d] : merged;
          o[i][d] = 0.0f;
        }
      }
    }
    __syncthreads();
    if (weighs && threadIdx.x % 4 == 0) {
#pragma unroll
      for (uint32_t w = 0; w < T::kWeighed; ++w) {
        const uint32_t query = row + w * kRowStep;
        float2 with_sink = make_float2(1.0f, total[w].sum);
        if (a.sinks && query % heads < n_heads)
          with_sink = add_sink(__ldg(a.sinks + first_head + query % heads), total[w].max, total[w].sum);
        s.merge_a[query] = with_sink.x;
        s.correction[query] = 1.0f / with_sink.y;
      }
    }
    __syncthreads();
#pragma unroll
    for (uint32_t i = 0; i < T::kValueRows; ++i) {
      const uint32_t query = value_row + i, token = tile_begin + query / heads, head = query % heads;
      const bool there = token >= run && token < run_end && head < n_heads;
      const float with_sink = s.merge_a[query], inverse = s.correction[query];
#pragma unroll
      for (uint32_t f = 0; f < T::kFours; ++f) {
        const uint32_t d = f * 4 * T::kColumns + place.column * 4;
        float y[4];
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) y[j] = sums[i][f * 4 + j] * with_sink * inverse;
        store_four(a, token, (first_head + head) * head_dim + d, y, there && (kExact || d < head_dim));
      }
    }
    run = run_end;
  }
}

template <uint32_t kDim, bool kExact>
void launch_kernel(Calls* calls, const AttentionArgs& args) {
  using T = Tiles<kDim>;
  const RopeArgs& r = args.rope;
  const uint32_t per_kv = r.n_heads / r.n_kv_heads, chunks = (per_kv + T::kRows - 1) / T::kRows;
  const uint32_t tokens = T::kRows / (chunks == 1 ? per_kv : T::kRows);
  calls->launch("attention, many tokens", prefill_attention_kernel<kDim, kExact>,
                {dim3(r.n_kv_heads, (r.n_tokens + tokens - 1) / tokens, chunks), dim3(T::kThreads),
                 static_cast<uint32_t>(sizeof(PrefillShared<kDim>))},
                args);
}

template <uint32_t kDim>
void launch_dim(Calls* calls, const AttentionArgs& args) {
  if (args.rope.head_dim == kDim) return launch_kernel<kDim, true>(calls, args);
  launch_kernel<kDim, false>(calls, args);
}

template <uint32_t kDim>
void prepare_dim(Calls* calls) {
  calls->allow_shared(reinterpret_cast<const void*>(prefill_attention_kernel<kDim, true>),
                      sizeof(PrefillShared<kDim>));
  calls->allow_shared(reinterpret_cast<const void*>(prefill_attention_kernel<kDim, false>),
                      sizeof(PrefillShared<kDim>));
}

}  // namespace

void prepare_prefill_attention(Calls* calls) {
  prepare_dim<64>(calls);
  prepare_dim<128>(calls);
  prepare_dim<256>(calls);
}

bool has_prefill_attention(uint32_t head_dim) { return head_dim % 8 == 0 && head_dim <= 256; }

void launch_prefill_attention(Calls* calls, const AttentionArgs& args) {
  if (args.rope.head_dim <= 64) return launch_dim<64>(calls, args);
  if (args.rope.head_dim <= 128) return launch_dim<128>(calls, args);
  launch_dim<256>(calls, args);
}

}  // namespace orcd::cuda
