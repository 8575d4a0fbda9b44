// Attention of many tokens (rule N4): a block is one KV head and kRows query rows, a row being a head of a
// token, so that the heads of a group and neighbouring tokens share every page. A kernel is made for kDim
// dimensions; smaller heads go through it with what they lack left out.
#include "device/cuda/attention_tiles.cuh"

namespace orcd::cuda {
namespace {

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
    const uint32_t begin_last = numerics::first_visible(end_all - 1, a.window);  // of the run's last token
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
      // Every row of the run sees keys [0, seen_by_all) of the page, none those from seen_by_any on.
      const uint32_t seen_by_any = min(end_all - base, kPageKeys);
      const uint32_t seen_by_all =
          begin_last <= base && first_position + 1 > base ? min(first_position + 1 - base, kPageKeys) : 0;
      const bool whole = seen_by_all == kPageKeys;
      uint32_t first[T::kWeighed], last[T::kWeighed];
#pragma unroll
      for (uint32_t w = 0; w < T::kWeighed; ++w) {
        first[w] = begin[w] > base ? min(begin[w] - base, kPageKeys) : 0;
        last[w] = end[w] > base ? min(end[w] - base, kPageKeys) : 0;
        if (first[w] >= last[w]) first[w] = last[w] = 0;
        if (weighs && threadIdx.x % 4 == 0) {
          s.first[row + w * kRowStep] = static_cast<uint8_t>(first[w]);
          s.last[row + w * kRowStep] = static_cast<uint8_t>(last[w]);
        }
      }
      __syncthreads();
      load_raw<kThreads>(s.raw, page + head_dim * kPageKeys, head_dim);
      score_page<kDim>(s, head_dim);
      __syncthreads();
#pragma unroll
      for (uint32_t w = 0; w < T::kWeighed; ++w) {
        if (weighs && whole) {
          weigh_row<kDim, true>(s, row + w * kRowStep, 0, kPageKeys, a.softcap, &state[w]);
        } else if (weighs) {
          weigh_row<kDim, false>(s, row + w * kRowStep, first[w], last[w], a.softcap, &state[w]);
        }
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
            const MergeFactors factors = merge_factors(total[w].max, state[w].max);
            ca = factors.a;
            cb = factors.b;
            total[w] = {factors.max, __fmaf_rn(total[w].sum, ca, __fmul_rn(state[w].sum, cb))};
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
      correct_outputs<kDim>(s, o);
      if (seen_by_all >= 4) add_values<kDim, true>(s, 0, seen_by_all / 4, o);
      if (!whole) add_values<kDim, false>(s, seen_by_all / 4, (seen_by_any + 3) / 4, o);
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
