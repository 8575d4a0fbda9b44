// Embedding look-ups, and what follows the logits: digests and sampling by the rules of sampling/rules.h.
#include "device/cuda/ops.h"
#include "device/cuda/ptx.cuh"
#include "sampling/rules.h"

namespace orcd::cuda {
namespace {

using sampling::SamplingParams;

__device__ __forceinline__ float table_value(const Matrix& table, uint64_t row, uint64_t i,
                                             const numerics::WeightGroup& g, uint32_t in_group) {
  if (!numerics::is_block_format(table.type)) {
    const uint64_t at = (row / 32 * table.cols + i) * 32 + row % 32;
    return numerics::load_element(table.type, table.data, at);
  }
  const uint32_t half = in_group / 16;
  const float value =
      __fmul_rn(__fmul_rn(g.d, static_cast<float>(g.scale[half])), static_cast<float>(g.w[0]));
  return numerics::has_minimum(table.type)
             ? __fadd_rn(value, __fmul_rn(g.dm, static_cast<float>(g.min[half])))
             : value;
}

// The dequantised element; scales are decoded by every thread for itself.
__device__ float look_up(const Matrix& table, uint64_t row, uint64_t i) {
  numerics::WeightGroup g = numerics::plain_group(0.0f);
  if (numerics::is_block_format(table.type)) {
    g = packed_scales(table, row, i / 32);
    g.w[0] = static_cast<int16_t>(packed_value(table, row, i));
  }
  return table_value(table, row, i, g, static_cast<uint32_t>(i % 32));
}

__global__ void __launch_bounds__(256) embed_kernel(const EmbedArgs a) {
  launch_dependents();
  wait_for_inputs();
  const uint32_t token = blockIdx.y, i = blockIdx.x * 256 + threadIdx.x;
  if (i >= a.dim) return;
  int32_t id = __ldcg(a.step.token + token);
  if (id < 0) id = __ldcg(a.last_token + (-1 - id));
  if (id < 0) id = 0;  // nothing was sampled: the host has seen the row's flag and drops what follows
  float x = look_up(a.table, static_cast<uint64_t>(id), i) * a.scale;
  if (a.positions.data)
    x = x + look_up(a.positions, static_cast<uint64_t>(__ldcg(a.step.position + token)), i);
  a.x[static_cast<uint64_t>(token) * a.dim + i] = x;
}

constexpr uint32_t kStatsBlocks = 64;
constexpr uint32_t kThreads = 1024;
constexpr uint32_t kWarps = kThreads / 32;

__device__ __forceinline__ bool is_seen(const SampleArgs& a, uint32_t slot, uint32_t id) {
  return (__ldcg(a.seen + static_cast<uint64_t>(slot) * a.seen_words + id / 32) >> (id % 32)) & 1;
}

__device__ __forceinline__ float adjusted(const SampleArgs& a, const SamplingParams& params, uint32_t slot,
                                          uint32_t id, float logit) {
  const bool seen = params.repetition_penalty != 1.0f && is_seen(a, slot, id);
  return sampling::adjust_logit(logit, params.temperature, params.repetition_penalty, seen);
}

// Over a row by kStatsBlocks blocks: its digest, whether it is sound, its best adjusted logit. Integer
// atomics only.
__global__ void __launch_bounds__(256) row_stats_kernel(const SampleArgs a) {
  launch_dependents();
  wait_for_inputs();
  const uint32_t row = blockIdx.y;
  const int32_t slot = __ldcg(a.step.row_slot + row);
  const float* logits = a.logits + static_cast<uint64_t>(row) * a.n_vocab;
  SamplingParams params;
  if (slot >= 0) params = a.slots[slot].params;
  numerics::Digest digest;
  uint64_t best = 0;
  bool broken = false;
  const uint32_t n_words = (a.n_vocab + 1) / 2;
  constexpr uint32_t kBatch = 4, kStride = kStatsBlocks * 256;  // words whose loads are on their way together
  for (uint32_t first = blockIdx.x * 256 + threadIdx.x; first < n_words; first += kBatch * kStride) {
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
      numerics::digest_add(&digest, numerics::digest_word(value[j][0], value[j][1]), i);
#pragma unroll
      for (uint32_t h = 0; h < 2; ++h) {
        const uint32_t id = 2 * i + h;
        if (id >= a.n_vocab) break;
        broken = broken || !sampling::is_valid_logit(value[j][h]);
        if (slot < 0) continue;
        const uint64_t key =
            static_cast<uint64_t>(sampling::order_key(adjusted(a, params, slot, id, value[j][h]))) << 32 |
            static_cast<uint32_t>(~id);
        best = key > best ? key : best;
      }
    }
  }
  for (int stride = 16; stride > 0; stride /= 2) {
    digest.a += __shfl_down_sync(~0u, digest.a, stride);
    digest.b += __shfl_down_sync(~0u, digest.b, stride);
    const uint64_t other = __shfl_down_sync(~0u, best, stride);
    best = other > best ? other : best;
  }
  broken = __any_sync(~0u, broken);
  if ((threadIdx.x & 31) != 0) return;
  RowResult* result = a.results + row;
  atomicAdd(reinterpret_cast<unsigned long long*>(&result->digest.a),
            static_cast<unsigned long long>(digest.a));
  atomicAdd(reinterpret_cast<unsigned long long*>(&result->digest.b),
            static_cast<unsigned long long>(digest.b));
  if (broken) atomicOr(&result->non_finite, 1u);
  if (best != 0)
    atomicMax(reinterpret_cast<unsigned long long*>(a.row_best + row), static_cast<unsigned long long>(best));
}

struct SampleShared {
  uint32_t counts[kWarps + 1];
  uint64_t sums[kWarps + 1];
  uint64_t bins[256];
  uint64_t cut_remaining;
  uint32_t cut_key;
  uint32_t token;
};

// A warp's contiguous part of n things, in multiples of 32.
struct Range {
  uint32_t begin, end;
};
__device__ __forceinline__ Range warp_range(uint32_t n) {
  const uint32_t per = ((n + kWarps - 1) / kWarps + 31) / 32 * 32, warp = threadIdx.x >> 5;
  return {min(warp * per, n), min((warp + 1) * per, n)};
}

__device__ __forceinline__ uint64_t weight_of(float value) {
  return static_cast<uint64_t>(static_cast<int64_t>(value));
}

__device__ uint64_t block_sum(SampleShared& s, const float* values, uint32_t n) {
  uint64_t sum = 0;
  const Range range = warp_range(n);
  for (uint32_t j = range.begin + (threadIdx.x & 31); j < range.end; j += 32) sum += weight_of(values[j]);
  for (int stride = 16; stride > 0; stride /= 2) sum += __shfl_xor_sync(~0u, sum, stride);
  __syncthreads();
  if ((threadIdx.x & 31) == 0) s.sums[threadIdx.x >> 5] = sum;
  __syncthreads();
  uint64_t total = 0;
  for (uint32_t w = 0; w < kWarps; ++w) total += s.sums[w];
  return total;
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

// Finds the largest key whose entries, with all above, reach the target; the rest goes to s.cut_*.
template <class Key, class Amount>
__device__ void select_from_top(SampleShared& s, uint32_t n, uint64_t target, Key key, Amount amount) {
  extern __shared__ __align__(16) uint64_t all_bins[];
  Bins* bins = reinterpret_cast<Bins*>(all_bins);
  const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  uint32_t prefix = 0, mask = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (uint32_t i = lane; i < 256; i += 32) bins[warp][i] = 0;
    __syncwarp();
    for (uint32_t first = warp * 32; first < n; first += kThreads) {
      const uint32_t j = min(first + lane, n - 1), k = key(j);
      const uint64_t add = first + lane < n ? amount(j) : 0;
      add_to_bins(bins[warp], (k & mask) == prefix && add != 0, (k >> shift) & 255, add);
    }
    __syncthreads();
    if (threadIdx.x < 256) {
      uint64_t sum = 0;
      for (uint32_t w = 0; w < kWarps; ++w) sum += bins[w][threadIdx.x];
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
__device__ void keep_from(SampleShared& s, float* values, uint32_t n, uint64_t n_ties, float dropped,
                          Key key) {
  const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5, cut = s.cut_key;
  const Range range = warp_range(n);
  uint32_t ties = 0;
  for (uint32_t first = range.begin; first < range.end; first += 32) {
    const uint32_t j = first + lane;
    ties += __popc(__ballot_sync(~0u, j < range.end && key(j) == cut));
  }
  __syncthreads();
  if (lane == 0) s.counts[warp] = ties;
  __syncthreads();
  uint64_t before = 0;
  for (uint32_t w = 0; w < warp; ++w) before += s.counts[w];
  for (uint32_t first = range.begin; first < range.end; first += 32) {
    const uint32_t j = first + lane;
    const uint32_t k = j < range.end ? key(j) : ~0u;
    const uint32_t equal = __ballot_sync(~0u, j < range.end && k == cut);
    const uint64_t rank = before + __popc(equal & ((1u << lane) - 1));
    if (j < range.end && (k < cut || (k == cut && rank >= n_ties))) values[j] = dropped;
    before += __popc(equal);
  }
  __syncthreads();
}

// Adjusted logits that can have a weight, in order of id; returns how many.
__device__ uint32_t gather(SampleShared& s, const SampleArgs& a, const SamplingParams& params, uint32_t slot,
                           uint32_t row, float max, float* values, uint32_t* ids) {
  constexpr float kZeroWeight = -23.0f;  // exp(-23) * 2^32 < 1
  const float* logits = a.logits + static_cast<uint64_t>(row) * a.n_vocab;
  const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const Range range = warp_range(a.n_vocab);
  uint32_t count = 0;
#pragma unroll 4
  for (uint32_t first = range.begin; first < range.end; first += 32) {
    const uint32_t id = first + lane;
    const bool in = id < range.end && adjusted(a, params, slot, id, __ldcg(logits + id)) - max > kZeroWeight;
    count += __popc(__ballot_sync(~0u, in));
  }
  if (lane == 0) s.counts[warp] = count;
  __syncthreads();
  uint32_t at = 0, total = 0;
  for (uint32_t w = 0; w < kWarps; ++w) {
    at += w < warp ? s.counts[w] : 0;
    total += s.counts[w];
  }
#pragma unroll 4
  for (uint32_t first = range.begin; first < range.end; first += 32) {
    const uint32_t id = first + lane;
    const float l = id < range.end ? adjusted(a, params, slot, id, __ldcg(logits + id))
                                   : numerics::bits_float(0xff800000u);
    const bool in = id < range.end && l - max > kZeroWeight;
    const uint32_t mask = __ballot_sync(~0u, in);
    if (in) {
      const uint32_t to = at + __popc(mask & ((1u << lane) - 1));
      values[to] = l;
      ids[to] = id;
    }
    at += __popc(mask);
  }
  __syncthreads();
  return total;
}

__device__ int32_t draw(SampleShared& s, uint64_t random, const float* values, const uint32_t* ids,
                        uint32_t n) {
  const uint64_t total = block_sum(s, values, n);
  const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  uint64_t point = sampling::draw_point(random, total), before = 0;
  for (uint32_t w = 0; w < warp; ++w) before += s.sums[w];
  if (point >= before && point - before < s.sums[warp]) {  // one warp holds the point
    point -= before;
    const Range range = warp_range(n);
    for (uint32_t first = range.begin; first < range.end; first += 32) {
      const uint32_t j = first + lane;
      uint64_t running = j < range.end ? weight_of(values[j]) : 0;
      for (int stride = 1; stride < 32; stride *= 2) {
        const uint64_t other = __shfl_up_sync(~0u, running, stride);
        if (lane >= static_cast<uint32_t>(stride)) running += other;
      }
      const uint32_t over = __ballot_sync(~0u, running > point);
      if (over != 0) {
        if (lane == 0) s.token = ids[first + __ffs(over) - 1];
        break;
      }
      point -= __shfl_sync(~0u, running, 31);
    }
  }
  __syncthreads();
  return static_cast<int32_t>(s.token);
}

__device__ int32_t sample_row(SampleShared& s, const SampleArgs& a, const SamplingParams& params,
                              uint32_t slot, uint32_t row, float max) {
  float* values = a.values + static_cast<uint64_t>(slot) * a.n_vocab;
  uint32_t* ids = a.ids + static_cast<uint64_t>(slot) * a.n_vocab;
  const uint32_t n = gather(s, a, params, slot, row, max, values, ids);
  if (params.top_k > 0 && params.top_k < n) {
    const auto key = [&](uint32_t j) { return sampling::order_key(values[j]); };
    select_from_top(s, n, params.top_k, key, [](uint32_t) { return uint64_t{1}; });
    keep_from(s, values, n, s.cut_remaining, numerics::bits_float(0xff800000u), key);
  }
  for (uint32_t j = threadIdx.x; j < n; j += kThreads) values[j] = sampling::token_weight(values[j], max);
  __syncthreads();
  if (params.top_p < 1.0f) {
    const uint64_t target =
        sampling::prefix_target(sampling::fixed_fraction(params.top_p), block_sum(s, values, n));
    const auto key = [&](uint32_t j) { return numerics::float_bits(values[j]); };
    select_from_top(s, n, target > 1 ? target : 1, key, [&](uint32_t j) { return weight_of(values[j]); });
    const uint64_t each = weight_of(numerics::bits_float(s.cut_key));
    keep_from(s, values, n, (s.cut_remaining + each - 1) / each, 0.0f, key);
  }
  if (params.min_p > 0.0f) {
    const float least = params.min_p * 4294967296.0f;
    for (uint32_t j = threadIdx.x; j < n; j += kThreads) values[j] = values[j] >= least ? values[j] : 0.0f;
    __syncthreads();
  }
  const uint64_t position =
      static_cast<uint64_t>(__ldcg(a.step.position + __ldcg(a.step.row_token + row))) + 1;
  return draw(s, numerics::random_bits(params.seed, params.choice, position), values, ids, n);
}

// One block a row: the token, and the row's result for the host.
__global__ void __launch_bounds__(kThreads) sample_kernel(const SampleArgs a) {
  __shared__ SampleShared s;
  wait_for_inputs();
  const uint32_t row = blockIdx.x;
  const int32_t slot = __ldcg(a.step.row_slot + row);
  RowResult result = {{__ldcg(&a.results[row].digest.a), __ldcg(&a.results[row].digest.b)},
                      -1,
                      __ldcg(&a.results[row].non_finite)};
  const uint64_t best = __ldcg(a.row_best + row);
  __syncthreads();
  if (slot >= 0) {
    const uint32_t key = static_cast<uint32_t>(best >> 32);
    const float max = numerics::bits_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
    if (!numerics::is_finite(max)) result.non_finite = 1;
    if (result.non_finite == 0) {
      const SamplingParams params = a.slots[slot].params;
      result.token = sampling::is_greedy(params.temperature)
                         ? static_cast<int32_t>(~static_cast<uint32_t>(best))
                         : sample_row(s, a, params, static_cast<uint32_t>(slot), row, max);
    }
  }
  if (threadIdx.x != 0) return;
  if (slot >= 0) {
    a.last_token[slot] = result.token;
    if (result.token >= 0) {
      uint32_t* word = a.seen + static_cast<uint64_t>(slot) * a.seen_words + result.token / 32;
      *word = __ldcg(word) | 1u << (result.token % 32);
    }
  }
  a.published[row] = result;
  a.results[row] = RowResult{};
  a.row_best[row] = 0;
}

}  // namespace

void prepare_sample(Calls* calls) {
  calls->allow_shared(reinterpret_cast<const void*>(sample_kernel), kBinBytes);
}

void launch_embed(Calls* calls, uint32_t n_tokens, const EmbedArgs& args) {
  calls->launch("embed", embed_kernel, {dim3((args.dim + 255) / 256, n_tokens), dim3(256)}, args);
}

void launch_sample(Calls* calls, uint32_t n_rows, const SampleArgs& args) {
  calls->launch("row digests", row_stats_kernel, {dim3(kStatsBlocks, n_rows), dim3(256)}, args);
  calls->launch("sample", sample_kernel, {dim3(n_rows), dim3(kThreads), kBinBytes}, args);
}

}  // namespace orcd::cuda
