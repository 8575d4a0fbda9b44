// Attention of many tokens (rule N4): a block is one KV head and kRows query rows, a row being a head of a
// token, so that the heads of a group and neighbouring tokens share every page. A kernel is made for kDim
// dimensions; smaller heads go through it with what they lack left out. Products are register tiles;
// each score and each output element is still one chain in ascending order.
#include "device/cuda/attention_heads.cuh"
#include "device/cuda/ptx.cuh"

namespace orcd::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWeightStride = 72;  // floats of a key's row of weights: 64 rows, and no bank conflicts

// How a kernel for one head dimension is cut up.
template <uint32_t kDim>
struct Tiles {
  static constexpr uint32_t kRows = kDim <= 128 ? 64 : 32;
  static constexpr uint32_t kQueryStride = kRows + 4;
  static constexpr uint32_t kScoreRows = kRows / 16;                   // of a thread, times 4 keys
  static constexpr uint32_t kColumns = kDim / 4 < 32 ? kDim / 4 : 32;  // threads along the dimensions
  static constexpr uint32_t kFours = kDim / (4 * kColumns);            // of dimensions a thread
  static constexpr uint32_t kValueRows = kRows / (kThreads / kColumns);
};

template <uint32_t kDim>
struct PrefillShared {
  float page[kDim * kPageKeys];  // keys [d][64], then values [64][d]
  uint16_t raw[kDim * kPageKeys];
  float q[kDim][Tiles<kDim>::kQueryStride];
  float weights[kPageKeys][kWeightStride];  // scores, then their weights
  float correction[Tiles<kDim>::kRows];
  float merge_a[Tiles<kDim>::kRows], merge_b[Tiles<kDim>::kRows];
  uint8_t first[Tiles<kDim>::kRows], last[Tiles<kDim>::kRows], action[Tiles<kDim>::kRows];
};
enum Action : uint8_t { kSkip, kTake, kMerge };

// One page's keys or values on their way: head_dim * 64 of them.
__device__ __forceinline__ void load_raw(uint16_t* raw, const uint16_t* from, uint32_t head_dim) {
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(raw));
#pragma unroll 4
  for (uint32_t i = threadIdx.x; i < head_dim * kPageKeys / 8; i += kThreads)
    copy_async16(to + i * 16, from + i * 8);
  copy_async_commit();
}

// To f32. Rows of n values each come to stand kStride apart; n is a multiple of 8.
template <uint32_t kStride>
__device__ __forceinline__ void widen_raw(float* page, const uint16_t* raw, uint32_t head_dim, uint32_t n) {
#pragma unroll 4
  for (uint32_t i = threadIdx.x; i < head_dim * kPageKeys / 8; i += kThreads) {
    const uint4 eight = reinterpret_cast<const uint4*>(raw)[i];
    const float2 a = half_pair(eight.x), b = half_pair(eight.y), c = half_pair(eight.z),
                 d = half_pair(eight.w);
    float4* to = reinterpret_cast<float4*>(page + (i * 8 / n * kStride + i * 8 % n));
    to[0] = make_float4(a.x, a.y, b.x, b.y);
    to[1] = make_float4(c.x, c.y, d.x, d.y);
  }
}

// Scores of the page into the weights.
template <uint32_t kDim>
__device__ __forceinline__ void score_page(PrefillShared<kDim>& s, uint32_t head_dim) {
  using T = Tiles<kDim>;
  const uint32_t tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  float score[T::kScoreRows][4] = {};
#pragma unroll 8
  for (uint32_t d = 0; d < head_dim; ++d) {
    float q[T::kScoreRows];
    if constexpr (T::kScoreRows == 4) {
      *reinterpret_cast<float4*>(q) = *reinterpret_cast<const float4*>(&s.q[d][ty * 4]);
    } else {
      *reinterpret_cast<float2*>(q) = *reinterpret_cast<const float2*>(&s.q[d][ty * 2]);
    }
    const float4 k = *reinterpret_cast<const float4*>(&s.page[d * kPageKeys + tx * 4]);
#pragma unroll
    for (uint32_t r = 0; r < T::kScoreRows; ++r) {
      score[r][0] = __fmaf_rn(q[r], k.x, score[r][0]);
      score[r][1] = __fmaf_rn(q[r], k.y, score[r][1]);
      score[r][2] = __fmaf_rn(q[r], k.z, score[r][2]);
      score[r][3] = __fmaf_rn(q[r], k.w, score[r][3]);
    }
  }
#pragma unroll
  for (uint32_t j = 0; j < 4; ++j) {
#pragma unroll
    for (uint32_t r = 0; r < T::kScoreRows; ++r) s.weights[tx * 4 + j][ty * T::kScoreRows + r] = score[r][j];
  }
}

__device__ __forceinline__ float larger(float a, float b) { return b > a ? b : a; }

// The page's weights of one row by four lanes, lane q having keys q, q + 4, ...: the tree of N4 runs inside a
// lane down to stride 4. state: of the row's split, the same in the four.
template <uint32_t kDim>
__device__ __forceinline__ void weigh_row(PrefillShared<kDim>& s, uint32_t row, uint32_t first, uint32_t last,
                                          float cap, numerics::SoftmaxState* state) {
  const uint32_t q = threadIdx.x % 4;
  float p[16];
  float max = state->max;
#pragma unroll
  for (uint32_t m = 0; m < 16; ++m) {
    const uint32_t key = q + 4 * m;
    p[m] = s.weights[key][row];
    if (cap > 0.0f) p[m] = numerics::softcap(p[m], cap);
    if (key >= first && key < last) max = larger(max, p[m]);
  }
  max = larger(max, __shfl_xor_sync(~0u, max, 1));
  max = larger(max, __shfl_xor_sync(~0u, max, 2));
#pragma unroll
  for (uint32_t m = 0; m < 16; ++m) {
    const uint32_t key = q + 4 * m;
    p[m] = key >= first && key < last ? numerics::exp_f32(p[m] - max) : 0.0f;
    s.weights[key][row] = p[m];
  }
#pragma unroll
  for (uint32_t m = 0; m < 8; ++m) p[m] = p[m] + p[m + 8];
#pragma unroll
  for (uint32_t m = 0; m < 4; ++m) p[m] = p[m] + p[m + 4];
  p[0] = (p[0] + p[2]) + (p[1] + p[3]);
  float sum = p[0] + __shfl_xor_sync(~0u, p[0], 2);
  sum = sum + __shfl_xor_sync(~0u, sum, 1);
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
  const uint32_t tx = threadIdx.x % T::kColumns, row0 = threadIdx.x / T::kColumns * T::kValueRows;
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
#pragma unroll 4
  for (uint32_t j = 0; j < kPageKeys; ++j) {
    float p[T::kValueRows];
#pragma unroll
    for (uint32_t r = 0; r < T::kValueRows; r += 4)
      *reinterpret_cast<float4*>(p + r) = *reinterpret_cast<const float4*>(&s.weights[j][row0 + r]);
#pragma unroll
    for (uint32_t f = 0; f < T::kFours; ++f) {
      float v[4];
      *reinterpret_cast<float4*>(v) =
          *reinterpret_cast<const float4*>(&s.page[j * kDim + f * 4 * T::kColumns + tx * 4]);
#pragma unroll
      for (uint32_t r = 0; r < T::kValueRows; ++r) {
        const bool in = kWhole || (j >= first[r] && j < last[r]);  // a key outside is not touched at all
#pragma unroll
        for (uint32_t d = 0; d < 4; ++d) {
          const float next = __fmaf_rn(p[r], v[d], o[r][f * 4 + d]);
          o[r][f * 4 + d] = in ? next : o[r][f * 4 + d];
        }
      }
    }
  }
}

// kExact: heads have kDim dimensions, not fewer.
template <uint32_t kDim, bool kExact>
__global__ void __launch_bounds__(kThreads, kDim <= 128 ? 2 : 1)
    prefill_attention_kernel(const AttentionArgs a) {
  using T = Tiles<kDim>;
  const uint32_t head_dim = kExact ? kDim : a.head_dim;
  extern __shared__ __align__(128) uint8_t dynamic[];
  PrefillShared<kDim>& s = *reinterpret_cast<PrefillShared<kDim>*>(dynamic);
  launch_dependents();
  const uint32_t per_kv = a.n_heads / a.n_kv_heads, kv_head = blockIdx.x;
  // Rows are heads of tokens, token by token; with more heads than rows a token's heads take several blocks.
  const uint32_t chunks = (per_kv + T::kRows - 1) / T::kRows;
  const uint32_t heads = chunks == 1 ? per_kv : T::kRows, tile_tokens = T::kRows / heads;
  const uint32_t first_head = kv_head * per_kv + blockIdx.z * heads;
  const uint32_t n_heads = min(heads, (kv_head + 1) * per_kv - first_head);
  // Later tokens see more keys: they start first.
  const uint32_t tile_begin = (gridDim.y - 1 - blockIdx.y) * tile_tokens;
  const uint32_t tile_end = min(tile_begin + tile_tokens, a.n_tokens);
  const uint32_t tx = threadIdx.x % T::kColumns, value_row = threadIdx.x / T::kColumns * T::kValueRows;
  const uint32_t row = threadIdx.x / 4;  // whose weights this thread makes
  wait_for_inputs();

  // Runs of tokens of one sequence: nearly always one.
#pragma unroll 1
  for (uint32_t run = tile_begin; run < tile_end;) {
    const int32_t sequence = __ldcg(a.step.sequence + run);
    uint32_t run_end = run + 1;
    while (run_end < tile_end && __ldcg(a.step.sequence + run_end) == sequence) ++run_end;
    const int32_t* table = a.step.pages + static_cast<uint64_t>(sequence) * a.step.page_stride;
    const uint32_t first_position = static_cast<uint32_t>(__ldcg(a.step.position + run));
    const uint32_t end_all = static_cast<uint32_t>(__ldcg(a.step.position + run_end - 1)) + 1;
    const uint32_t begin_all = numerics::first_visible(first_position, a.window);
    const auto page_of = [&](uint32_t base) {
      const int64_t id = __ldcg(table + base / kPageKeys);
      return a.pages + (id * a.n_kv_heads + kv_head) * 2 * head_dim * kPageKeys;
    };
    __syncthreads();
    load_raw(s.raw, page_of(begin_all), head_dim);
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < T::kRows * head_dim; i += kThreads) {
      const uint32_t r = i / head_dim, d = i % head_dim, token = tile_begin + r / heads, head = r % heads;
      const bool there = token >= run && token < run_end && head < n_heads;
      s.q[d][r] =
          there ? __ldcg(a.q + static_cast<uint64_t>(token) * a.q_stride + (first_head + head) * head_dim + d)
                : 0.0f;
    }
    // The visible keys of this thread's row: none where the row is not in the run.
    const uint32_t token = tile_begin + row / heads;
    uint32_t begin = 0, end = 0;
    if (row < T::kRows && token >= run && token < run_end && row % heads < n_heads) {
      const uint32_t position = static_cast<uint32_t>(__ldcg(a.step.position + token));
      begin = numerics::first_visible(position, a.window);
      end = position + 1;
    }
    numerics::SoftmaxState state = numerics::empty_softmax(), total = numerics::empty_softmax();
    bool started = false, split_seen = false;
    float o[T::kValueRows][T::kFours * 4] = {}, sums[T::kValueRows][T::kFours * 4] = {};
#pragma unroll 1
    for (uint32_t base = begin_all / kPageKeys * kPageKeys; base < end_all; base += kPageKeys) {
      copy_async_wait<0>();
      __syncthreads();  // the raw keys are there; the last page's values and weights have been used
      widen_raw<kPageKeys>(s.page, s.raw, head_dim, kPageKeys);
      const uint32_t first = begin > base ? min(begin - base, kPageKeys) : 0;
      const uint32_t last = end > base ? min(end - base, kPageKeys) : 0;
      const bool seen = first < last;
      if (row < T::kRows && threadIdx.x % 4 == 0) {
        s.first[row] = seen ? static_cast<uint8_t>(first) : 0;
        s.last[row] = seen ? static_cast<uint8_t>(last) : 0;
      }
      const bool whole = __syncthreads_and(row >= T::kRows || (first == 0 && last == kPageKeys));
      load_raw(s.raw, page_of(base) + head_dim * kPageKeys, head_dim);
      score_page<kDim>(s, head_dim);
      __syncthreads();
      if (row < T::kRows) weigh_row<kDim>(s, row, seen ? first : 0, seen ? last : 0, a.softcap, &state);
      split_seen = split_seen || seen;
      copy_async_wait<0>();
      __syncthreads();
      // Columns past head_dim hold what was there before; what they add up to is not stored.
      widen_raw<kDim>(s.page, s.raw, head_dim, head_dim);
      const bool split_ends = (base + kPageKeys) % kSplitKeys == 0 || base + kPageKeys >= end_all;
      if (split_ends && row < T::kRows) {
        // The fold of the row's splits (numerics::merge_splits).
        Action action = kSkip;
        float ca = 0.0f, cb = 0.0f;
        if (split_seen && !started) {
          action = kTake;
          total = state;
          started = true;
        } else if (split_seen) {
          action = kMerge;
          const float max = larger(total.max, state.max);
          ca = exp_call(total.max - max);
          cb = exp_call(state.max - max);
          total = {max, __fmaf_rn(total.sum, ca, __fmul_rn(state.sum, cb))};
        }
        if (threadIdx.x % 4 == 0) {
          s.action[row] = action;
          s.merge_a[row] = ca;
          s.merge_b[row] = cb;
        }
        state = numerics::empty_softmax();
        split_seen = false;
      }
      __syncthreads();
      if (base + kPageKeys < end_all) load_raw(s.raw, page_of(base + kPageKeys), head_dim);
      if (whole) {
        add_values<kDim, true>(s, o);
      } else {
        add_values<kDim, false>(s, o);
      }
      if (!split_ends) continue;
#pragma unroll
      for (uint32_t r = 0; r < T::kValueRows; ++r) {
        const uint8_t action = s.action[value_row + r];
        const float ca = s.merge_a[value_row + r], cb = s.merge_b[value_row + r];
#pragma unroll
        for (uint32_t d = 0; d < T::kFours * 4; ++d) {
          const float merged = __fmaf_rn(sums[r][d], ca, __fmul_rn(o[r][d], cb));
          sums[r][d] = action == kSkip ? sums[r][d] : action == kTake ? o[r][d] : merged;
          o[r][d] = 0.0f;
        }
      }
    }
    __syncthreads();
    if (row < T::kRows && threadIdx.x % 4 == 0) {
      float2 with_sink = make_float2(1.0f, total.sum);
      if (a.sinks && row % heads < n_heads)
        with_sink = add_sink(__ldg(a.sinks + first_head + row % heads), total.max, total.sum);
      s.merge_a[row] = with_sink.x;
      s.correction[row] = 1.0f / with_sink.y;
    }
    __syncthreads();
#pragma unroll
    for (uint32_t r = 0; r < T::kValueRows; ++r) {
      const uint32_t i = value_row + r, to_token = tile_begin + i / heads, head = i % heads;
      if (to_token < run || to_token >= run_end || head >= n_heads) continue;
      const float with_sink = s.merge_a[i], inverse = s.correction[i];
      float* out =
          a.a + static_cast<uint64_t>(to_token) * a.a_stride + (first_head + head) * head_dim + tx * 4;
#pragma unroll
      for (uint32_t f = 0; f < T::kFours; ++f) {
        if (!kExact && f * 4 * T::kColumns + tx * 4 >= head_dim) break;
        *reinterpret_cast<float4*>(out + f * 4 * T::kColumns) =
            make_float4(sums[r][f * 4] * with_sink * inverse, sums[r][f * 4 + 1] * with_sink * inverse,
                        sums[r][f * 4 + 2] * with_sink * inverse, sums[r][f * 4 + 3] * with_sink * inverse);
      }
    }
    run = run_end;
  }
}

template <uint32_t kDim, bool kExact>
void launch_kernel(Calls* calls, const AttentionArgs& args) {
  using T = Tiles<kDim>;
  const uint32_t per_kv = args.n_heads / args.n_kv_heads, chunks = (per_kv + T::kRows - 1) / T::kRows;
  const uint32_t tokens = T::kRows / (chunks == 1 ? per_kv : T::kRows);
  calls->launch("attention, many tokens", prefill_attention_kernel<kDim, kExact>,
                {dim3(args.n_kv_heads, (args.n_tokens + tokens - 1) / tokens, chunks), dim3(kThreads),
                 static_cast<uint32_t>(sizeof(PrefillShared<kDim>))},
                args);
}

template <uint32_t kDim>
void launch_dim(Calls* calls, const AttentionArgs& args) {
  if (args.head_dim == kDim) return launch_kernel<kDim, true>(calls, args);
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
  if (args.head_dim <= 64) return launch_dim<64>(calls, args);
  if (args.head_dim <= 128) return launch_dim<128>(calls, args);
  launch_dim<256>(calls, args);
}

}  // namespace orcd::cuda
