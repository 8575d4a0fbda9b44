// Embedding look-ups, and what follows the logits: digests and sampling by the rules of sampling/rules.h.
#include "device/cuda/embedding.cuh"
#include "device/cuda/ops.h"
#include "device/cuda/ptx.cuh"
#include "device/cuda/row_stats.cuh"

namespace orcd::cuda {
namespace {

__global__ void __launch_bounds__(256) embed_kernel(const EmbedArgs a) {
  launch_dependents();
  const uint32_t token = blockIdx.y, i = blockIdx.x * 256 + threadIdx.x;
  wait_for_inputs();
  if (i >= a.dim) return;
  const int32_t id = id_of(__ldcg(a.step.token + token), a.last_token);
  float x = look_up(a.table, static_cast<uint64_t>(id), i) * a.scale;
  if (a.positions.data)
    x = x + look_up(a.positions, static_cast<uint64_t>(__ldcg(a.step.position + token)), i);
  a.x[static_cast<uint64_t>(token) * a.dim + i] = x;
}

constexpr uint32_t kStatsBlocks = 64, kStatsThreads = 256;
constexpr uint32_t kThreads = 1024;
constexpr uint32_t kWarps = kThreads / 32;

// Over a row by kStatsBlocks blocks.
__global__ void __launch_bounds__(kStatsThreads) row_stats_kernel(const SampleArgs a) {
  constexpr uint32_t kStatsWarps = kStatsThreads / 32;
  __shared__ __align__(16) uint8_t of_warps[kStatsWarps * sizeof(RowStats)];
  launch_dependents();
  // What does not come from the kernels before is read while they run.
  const uint32_t row = blockIdx.y;
  const RowSampling sampling = row_sampling(a, row);
  const float* logits = a.logits + static_cast<uint64_t>(row) * a.n_vocab;
  wait_for_inputs();
  RowStats stats;
  const uint32_t n_words = (a.n_vocab + 1) / 2;
  // Words whose loads are on their way together.
  constexpr uint32_t kBatch = 4, kStride = kStatsBlocks * kStatsThreads;
  for (uint32_t first = blockIdx.x * kStatsThreads + threadIdx.x; first < n_words;
       first += kBatch * kStride) {
    float value[kBatch][2] = {};
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
#pragma unroll
      for (uint32_t h = 0; h < 2; ++h) {
        const uint32_t id = 2 * (first + j * kStride) + h;
        if (id < a.n_vocab) value[j][h] = __ldcg(logits + id);
      }
    }
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = first + j * kStride;
      if (i >= n_words) break;
      add_word(a, sampling, i, value[j][0], value[j][1], &stats);
    }
  }
  publish_stats<kStatsWarps>(a, row, stats, reinterpret_cast<RowStats*>(of_warps), [] { __syncthreads(); });
}

// A row is drawn by the blocks of a cluster (or by one): each has a contiguous part of the vocabulary, and
// what is summed over all of it goes through the words of `shared_bins` and `shared_sum`, which the other
// blocks read. Two of each, in turn: a block is at most one barrier ahead of those that read what it wrote
// before.
struct SampleShared {
  uint64_t shared_bins[2][256], shared_sum[2];
  uint32_t counts[kWarps];
  uint64_t sums[kWarps];
  uint64_t bins[256];  // over all blocks
  uint64_t before, total;
  uint64_t cut_remaining;
  uint32_t cut_key;
  uint32_t turn;  // the same in all blocks
  int32_t token;
};

// What a warp works on all along: its candidates in order of id, and those of the warps before it before
// them.
struct WarpPart {
  float* values;
  uint32_t* ids;
  uint32_t n;
};
constexpr uint32_t kBatch = 4;  // values of a lane whose loads are on their way together

// Calls f(j, values[j]) for whole warps, j past the end too, with a value of 0 there.
template <class Function>
__device__ __forceinline__ void for_each(const WarpPart& part, Function f) {
  const uint32_t lane = threadIdx.x & 31;
#pragma unroll 1
  for (uint32_t first = lane; first - lane < part.n; first += 32 * kBatch) {
    float value[kBatch];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i)
      value[i] = first + 32 * i < part.n ? part.values[first + 32 * i] : 0.0f;
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      if (first - lane + 32 * i >= part.n) break;
      f(first + 32 * i, value[i]);
    }
  }
}

__device__ __forceinline__ uint64_t weight_of(float value) {
  return static_cast<uint64_t>(static_cast<int64_t>(value));
}

// s.before: the sum of `own` over the blocks before this one; s.total: over all. All threads call it, with
// the same `own`.
__device__ void sum_over_blocks(SampleShared& s, uint64_t own) {
  const uint32_t turn = s.turn & 1;
  __syncthreads();
  if (threadIdx.x == 0) {
    s.shared_sum[turn] = own;
    ++s.turn;
  }
  row_barrier();
  if (threadIdx.x < 32) {
    uint64_t total = threadIdx.x < gridDim.x ? word_of_block(&s.shared_sum[turn], threadIdx.x) : 0;
    uint64_t before = threadIdx.x < blockIdx.x ? total : 0;
    for (int stride = 16; stride > 0; stride /= 2) {
      total += __shfl_down_sync(~0u, total, stride);
      before += __shfl_down_sync(~0u, before, stride);
    }
    if (threadIdx.x == 0) {
      s.before = before;
      s.total = total;
    }
  }
  __syncthreads();
}

// The weights of this block: s.sums by warp; their sum is returned.
__device__ uint64_t block_sum(SampleShared& s, const WarpPart& part) {
  uint64_t sum = 0;
  for_each(part, [&](uint32_t, float value) { sum += weight_of(value); });
  for (int stride = 16; stride > 0; stride /= 2) sum += __shfl_xor_sync(~0u, sum, stride);
  __syncthreads();
  if ((threadIdx.x & 31) == 0) s.sums[threadIdx.x >> 5] = sum;
  __syncthreads();
  uint64_t own = 0;
  for (uint32_t w = 0; w < kWarps; ++w) own += s.sums[w];
  return own;
}

// Bins of one warp, in dynamic shared memory.
using Bins = uint64_t[256];
constexpr uint32_t kBinBytes = kWarps * sizeof(Bins);

// Adds the lanes' amounts, at most 2^32, to the bins they name: those of one bin together, for the first bins
// of the warp, so that a row of nearly equal keys does not queue at one address.
__device__ __forceinline__ void add_to_bins(Bins& bins, bool in, uint32_t bin, uint64_t amount) {
  constexpr int kTogether = 4;
  const uint32_t lane = threadIdx.x & 31;
  uint32_t waiting = __ballot_sync(~0u, in);
  for (int round = 0; round < kTogether && waiting != 0; ++round) {
    const uint32_t first = __ffs(waiting) - 1, shared_bin = __shfl_sync(~0u, bin, first);
    const bool mine = (waiting >> lane & 1) != 0 && bin == shared_bin;
    const uint32_t low = __reduce_add_sync(~0u, mine ? static_cast<uint32_t>(amount & 0xffff) : 0);
    const uint32_t high = __reduce_add_sync(~0u, mine ? static_cast<uint32_t>(amount >> 16) : 0);
    if (lane == first) bins[bin] += (static_cast<uint64_t>(high) << 16) + low;
    waiting &= ~__ballot_sync(~0u, mine);
    __syncwarp();
  }
  if ((waiting >> lane & 1) != 0)
    atomicAdd(reinterpret_cast<unsigned long long*>(&bins[bin]), static_cast<unsigned long long>(amount));
  __syncwarp();
}

// The highest digit whose bins, with all above, reach the target (0 if none does) and what it leaves of it:
// by one warp, eight bins a lane.
__device__ __forceinline__ void find_digit(SampleShared& s, uint64_t target, uint32_t prefix, int shift) {
  const uint32_t lane = threadIdx.x & 31, top = 255 - 8 * lane;
  uint64_t own = 0;
  for (uint32_t i = 0; i < 8; ++i) own += s.bins[top - i];
  uint64_t upto = own;
  for (int stride = 1; stride < 32; stride *= 2) {
    const uint64_t other = __shfl_up_sync(~0u, upto, stride);
    if (lane >= static_cast<uint32_t>(stride)) upto += other;
  }
  const uint32_t reached = __ballot_sync(~0u, upto >= target);
  if (lane != (reached != 0 ? __ffs(reached) - 1 : 31)) return;
  uint32_t digit = top;
  uint64_t left = target - (upto - own);
  while (digit > top - 7 && s.bins[digit] < left) left -= s.bins[digit--];
  s.cut_key = prefix | digit << shift;
  s.cut_remaining = left;
}

// Finds the largest key whose entries, with all above, reach the target over all blocks; the rest goes to
// s.cut_*. key, amount: of a value.
template <class Key, class Amount>
__device__ void select_from_top(SampleShared& s, const WarpPart& part, uint64_t target, Key key,
                                Amount amount) {
  extern __shared__ __align__(16) uint64_t all_bins[];
  Bins* bins = reinterpret_cast<Bins*>(all_bins);
  const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  uint32_t prefix = 0, mask = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (uint32_t i = lane; i < 256; i += 32) bins[warp][i] = 0;
    __syncwarp();
    for_each(part, [&](uint32_t j, float value) {
      const uint32_t k = key(value);
      const uint64_t add = j < part.n ? amount(value) : 0;
      add_to_bins(bins[warp], (k & mask) == prefix && add != 0, (k >> shift) & 255, add);
    });
    const uint32_t turn = s.turn & 1;
    __syncthreads();
    if (threadIdx.x < 256) {
      uint64_t sum = 0;
      for (uint32_t w = 0; w < kWarps; ++w) sum += bins[w][threadIdx.x];
      s.shared_bins[turn][threadIdx.x] = sum;
    }
    if (threadIdx.x == 0) ++s.turn;
    row_barrier();
    if (threadIdx.x < 256) {
      uint64_t sums[kSampleBlocks] = {}, sum = 0;
#pragma unroll
      for (uint32_t block = 0; block < kSampleBlocks; ++block)
        if (block < gridDim.x) sums[block] = word_of_block(&s.shared_bins[turn][threadIdx.x], block);
#pragma unroll
      for (uint32_t block = 0; block < kSampleBlocks; ++block) sum += sums[block];
      s.bins[threadIdx.x] = sum;
    }
    __syncthreads();
    if (warp == 0) find_digit(s, target, prefix, shift);
    __syncthreads();
    prefix = s.cut_key;
    target = s.cut_remaining;
    mask |= 255u << shift;
  }
}

// Sets everything below the cut to `dropped`, and what equals it beyond the first n_ties in order of id.
template <class Key>
__device__ void keep_from(SampleShared& s, const WarpPart& part, uint64_t n_ties, float dropped, Key key) {
  const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5, cut = s.cut_key;
  uint32_t ties = 0;
  for_each(part, [&](uint32_t j, float value) {
    ties += __popc(__ballot_sync(~0u, j < part.n && key(value) == cut));
  });
  if (lane == 0) s.counts[warp] = ties;
  __syncthreads();
  uint64_t before = 0, own = 0;
  for (uint32_t w = 0; w < kWarps; ++w) {
    before += w < warp ? s.counts[w] : 0;
    own += s.counts[w];
  }
  sum_over_blocks(s, own);
  before += s.before;
  for_each(part, [&](uint32_t j, float value) {
    const uint32_t k = j < part.n ? key(value) : ~0u;
    const uint32_t equal = __ballot_sync(~0u, j < part.n && k == cut);
    const uint64_t rank = before + __popc(equal & ((1u << lane) - 1));
    if (j < part.n && (k < cut || (k == cut && rank >= n_ties))) part.values[j] = dropped;
    before += __popc(equal);
  });
  __syncwarp();
}

// The adjusted logits of a warp's ids that can have a weight, in order of id.
__device__ WarpPart gather(const SampleArgs& a, const SamplingParams& params, uint32_t slot, uint32_t row,
                           float max) {
  const float* logits = a.logits + static_cast<uint64_t>(row) * a.n_vocab;
  const uint32_t lane = threadIdx.x & 31, n_warps = gridDim.x * kWarps;
  const uint32_t warp = blockIdx.x * kWarps + threadIdx.x / 32;
  const uint32_t per = ((a.n_vocab + n_warps - 1) / n_warps + 31) / 32 * 32;
  const uint32_t begin = min(warp * per, a.n_vocab), end = min(begin + per, a.n_vocab);
  const uint64_t at = static_cast<uint64_t>(slot) * a.n_vocab + begin;
  WarpPart part = {a.values + at, a.ids + at, 0};
#pragma unroll 1
  for (uint32_t first = begin; first < end; first += 32 * kBatch) {
    float logit[kBatch];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      const uint32_t id = first + 32 * i + lane;
      logit[i] = id < end ? __ldcg(logits + id) : 0.0f;
    }
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      const uint32_t id = first + 32 * i + lane;
      const float l = id < end ? adjusted(a, params, slot, id, logit[i]) : numerics::bits_float(0xff800000u);
      const bool in = id < end && l - max > sampling::kZeroWeight;
      const uint32_t mask = __ballot_sync(~0u, in);
      if (in) {
        const uint32_t to = part.n + __popc(mask & ((1u << lane) - 1));
        part.values[to] = l;
        part.ids[to] = id;
      }
      part.n += __popc(mask);
    }
  }
  __syncwarp();
  return part;
}

// The id that is drawn, in the block that has it; -1 in the others.
__device__ int32_t draw(SampleShared& s, uint64_t random, const WarpPart& part) {
  const uint64_t own = block_sum(s, part);
  if (threadIdx.x == 0) s.token = -1;
  sum_over_blocks(s, own);
  const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  uint64_t point = sampling::draw_point(random, s.total), before = s.before;
  for (uint32_t w = 0; w < warp; ++w) before += s.sums[w];
  if (point >= before && point - before < s.sums[warp]) {  // one warp holds the point
    point -= before;
    for (uint32_t first = 0; first < part.n; first += 32) {
      const uint32_t j = first + lane;
      uint64_t running = j < part.n ? weight_of(part.values[j]) : 0;
      for (int stride = 1; stride < 32; stride *= 2) {
        const uint64_t other = __shfl_up_sync(~0u, running, stride);
        if (lane >= static_cast<uint32_t>(stride)) running += other;
      }
      const uint32_t over = __ballot_sync(~0u, running > point);
      if (over != 0) {
        if (lane == 0) s.token = static_cast<int32_t>(part.ids[first + __ffs(over) - 1]);
        break;
      }
      point -= __shfl_sync(~0u, running, 31);
    }
  }
  __syncthreads();
  return s.token;
}

// As draw().
__device__ int32_t sample_row(SampleShared& s, const SampleArgs& a, const SamplingParams& params,
                              uint32_t slot, uint32_t row, float max) {
  const WarpPart part = gather(a, params, slot, row, max);
  if (params.top_k > 0 && params.top_k < a.n_vocab) {
    const auto key = [](float value) { return sampling::order_key(value); };
    select_from_top(s, part, params.top_k, key, [](float) { return uint64_t{1}; });
    keep_from(s, part, s.cut_remaining, numerics::bits_float(0xff800000u), key);
  }
  for_each(part, [&](uint32_t j, float value) {
    if (j < part.n) part.values[j] = sampling::token_weight(value, max);
  });
  __syncwarp();
  if (params.top_p < 1.0f) {
    sum_over_blocks(s, block_sum(s, part));
    const uint64_t target = sampling::prefix_target(sampling::fixed_fraction(params.top_p), s.total);
    const auto key = [](float value) { return numerics::float_bits(value); };
    select_from_top(s, part, target > 1 ? target : 1, key, [](float value) { return weight_of(value); });
    const uint64_t each = weight_of(numerics::bits_float(s.cut_key));
    keep_from(s, part, (s.cut_remaining + each - 1) / each, 0.0f, key);
  }
  if (params.min_p > 0.0f) {
    const float least = params.min_p * 4294967296.0f;
    for_each(part, [&](uint32_t j, float value) {
      if (j < part.n) part.values[j] = value >= least ? value : 0.0f;
    });
    __syncwarp();
  }
  const uint64_t position =
      static_cast<uint64_t>(__ldcg(a.step.position + __ldcg(a.step.row_token + row))) + 1;
  return draw(s, numerics::random_bits(params.seed, params.choice, position), part);
}

// By one thread of a row: the token, for the next step, and the row's result for the host.
__device__ __forceinline__ void publish(const SampleArgs& a, uint32_t row, int32_t slot, RowResult result) {
  if (slot >= 0) {
    a.last_token[slot] = result.token;
    if (result.token >= 0)
      atomicOr(a.seen + static_cast<uint64_t>(slot) * a.seen_words + result.token / 32,
               1u << (result.token % 32));
  }
  a.published[row] = result;
  a.results[row] = RowResult{};
  a.row_best[row] = 0;
}

// The blocks of a row: the first alone, where nothing is drawn.
__global__ void __launch_bounds__(kThreads) sample_kernel(const SampleArgs a) {
  __shared__ SampleShared s;
  const uint32_t row = blockIdx.y;  // as above
  const int32_t slot = __ldcg(a.step.row_slot + row);
  const bool draws = slot >= 0 && !sampling::is_greedy(a.slots[slot].params.temperature);
  wait_for_inputs();
  if (!draws && blockIdx.x != 0) return;
  RowResult result = {{__ldcg(&a.results[row].digest.a), __ldcg(&a.results[row].digest.b)},
                      -1,
                      __ldcg(&a.results[row].non_finite)};
  const uint64_t best = __ldcg(a.row_best + row);
  const uint32_t key = static_cast<uint32_t>(best >> 32);
  const float max = numerics::bits_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
  if (slot >= 0 && !numerics::is_finite(max)) result.non_finite = 1;
  if (!draws) {
    if (threadIdx.x != 0) return;
    if (slot >= 0 && result.non_finite == 0)
      result.token = static_cast<int32_t>(~static_cast<uint32_t>(best));
    return publish(a, row, slot, result);
  }
  if (threadIdx.x == 0) s.turn = 0;
  row_barrier();  // every block has read what publish() clears
  if (result.non_finite != 0) {
    if (blockIdx.x == 0 && threadIdx.x == 0) publish(a, row, slot, result);
    return;
  }
  const SamplingParams params = a.slots[slot].params;
  result.token = sample_row(s, a, params, static_cast<uint32_t>(slot), row, max);
  if (threadIdx.x == 0 && result.token >= 0) publish(a, row, slot, result);
  row_barrier();  // no block goes while others may read its shared memory
}

}  // namespace

void prepare_sample(Calls* calls) {
  calls->allow_shared(reinterpret_cast<const void*>(sample_kernel), kBinBytes);
}

void launch_embed(Calls* calls, uint32_t n_tokens, const EmbedArgs& args) {
  calls->launch("embed", embed_kernel, {dim3((args.dim + 255) / 256, n_tokens), dim3(256)}, args);
}

void launch_row_stats(Calls* calls, uint32_t n_rows, const SampleArgs& args) {
  calls->launch("row digests", row_stats_kernel, {dim3(kStatsBlocks, n_rows), dim3(kStatsThreads)}, args);
}

void launch_sample(Calls* calls, uint32_t n_rows, uint32_t n_blocks, const SampleArgs& args) {
  LaunchShape shape = {dim3(n_blocks, n_rows), dim3(kThreads), kBinBytes};
  shape.cluster = n_blocks;
  calls->launch("sample", sample_kernel, shape, args);
}

}  // namespace orcd::cuda
