#include "device/cuda/experts.h"

#include "device/cuda/activations.cuh"
#include "device/cuda/ptx.cuh"
#include "numerics/experts.h"

namespace orcd::cuda {
namespace {

constexpr uint32_t kRouteWarps = 4;
constexpr uint32_t kSortWarps = 16;
constexpr uint32_t kCombineThreads = 256;

struct Candidate {
  uint32_t key, expert;
};
__device__ __forceinline__ bool comes_after(uint32_t key, uint32_t expert, const Candidate& before) {
  return key < before.key || (key == before.key && expert > before.expert);
}

constexpr uint32_t kRouterThreads = 256;

// Shared memory of a block: the row, then the strip's weights.
__host__ __device__ inline uint32_t slab_bytes(uint64_t cols, uint32_t strips) {
  return static_cast<uint32_t>((cols / strips + kUnit) * kFloatTileRows * 4);
}

__global__ void __launch_bounds__(kRouterThreads) router_kernel(const RouterArgs a) {
  extern __shared__ __align__(16) float row[];
  __shared__ float red[256];
  const uint64_t cols = a.weight.cols;
  float* slab = row + cols;
  const uint32_t strip = blockIdx.x % a.strips, tile = blockIdx.x / a.strips, token = blockIdx.y;
  const uint64_t begin = numerics::strip_begin(cols, a.strips, strip);
  const auto n = static_cast<uint32_t>(numerics::strip_begin(cols, a.strips, strip + 1) - begin);
  const uint8_t* weights = a.weight.data + (tile * cols + begin) * kFloatTileRows * 4;
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(slab));
  for (uint32_t i = threadIdx.x; i < n * kFloatTileRows / 4; i += kRouterThreads)
    copy_async16(to + i * 16, weights + i * 16);
  copy_async_commit();
  wait_for_inputs();
  load_row<kRouterThreads>(a.x + token * cols, static_cast<uint32_t>(cols), row);
  __syncthreads();
  const RowNorm norm = row_statistics(LoadShared{row}, static_cast<uint32_t>(cols), a.norm, red);
  for (uint32_t i = threadIdx.x; i < n; i += kRouterThreads) {
    const auto k = static_cast<uint32_t>(begin + i);
    row[k] = normalise(row[k], k, a.norm, norm);
    if (tile == 0) a.xn[token * cols + k] = row[k];
  }
  copy_async_wait<0>();
  __syncthreads();
  const uint32_t lane = threadIdx.x, expert = tile * kFloatTileRows + lane;
  if (lane >= kFloatTileRows || expert >= a.weight.rows) return;
  float acc = 0.0f;
#pragma unroll 16
  for (uint32_t i = 0; i < n; ++i) acc = __fmaf_rn(slab[i * kFloatTileRows + lane], row[begin + i], acc);
  a.partials[(static_cast<uint64_t>(token) * a.strips + strip) * a.weight.rows + expert] = acc;
}

// A warp a token: numerics::route.
__global__ void __launch_bounds__(kRouteWarps * 32) route_kernel(const RouteArgs a) {
  __shared__ float folded[kRouteWarps][kMostExperts];
  wait_for_inputs();
  const uint32_t lane = threadIdx.x & 31, token = blockIdx.x * kRouteWarps + (threadIdx.x >> 5);
  if (token >= a.n_tokens) return;
  float* logits = folded[threadIdx.x >> 5];
  const float* from = a.logits + static_cast<uint64_t>(token) * a.strips * a.n_experts;
  for (uint32_t expert = lane; expert < a.n_experts; expert += 32) {
    float strip[numerics::kMaxStrips];
#pragma unroll
    for (uint32_t i = 0; i < numerics::kMaxStrips; ++i)
      strip[i] = __ldcg(from + min(i, a.strips - 1) * a.n_experts + expert);
    float y = strip[0];
#pragma unroll
    for (uint32_t i = 1; i < numerics::kMaxStrips; ++i) y = i < a.strips ? __fadd_rn(y, strip[i]) : y;
    logits[expert] = a.bias ? __fadd_rn(y, __ldg(a.bias + expert)) : y;
  }
  __syncwarp();
  uint32_t* chosen = a.chosen + static_cast<uint64_t>(token) * a.n_used;
  float* weights = a.weights + static_cast<uint64_t>(token) * a.n_used;
  Candidate before = {0, 0};
  float first = 0.0f, sum = 0.0f;
  for (uint32_t rank = 0; rank < a.n_used; ++rank) {
    Candidate mine = {0, a.n_experts};
    for (uint32_t expert = lane; expert < a.n_experts; expert += 32) {
      const uint32_t key = numerics::router_key(logits[expert]);
      if (rank > 0 && !comes_after(key, expert, before)) continue;
      if (mine.expert == a.n_experts || key > mine.key) mine = {key, expert};
    }
    const uint32_t key = __reduce_max_sync(~0u, mine.expert < a.n_experts ? mine.key : 0);
    const bool best = mine.expert < a.n_experts && mine.key == key;
    before = {key, __reduce_min_sync(~0u, best ? mine.expert : a.n_experts)};
    const float logit = logits[before.expert];
    if (rank == 0) first = logit;
    const float weight = numerics::exp_f32(logit - first);
    sum = rank == 0 ? weight : sum + weight;
    if (lane == 0) {
      chosen[rank] = before.expert;
      weights[rank] = weight;
    }
  }
  __syncwarp();
  for (uint32_t rank = lane; rank < a.n_used; rank += 32) weights[rank] = weights[rank] / sum;
}

// A counting sort by one block: each warp counts and places a run of pairs, so that an expert's places are in
// the order of the pairs.
__global__ void __launch_bounds__(kSortWarps * 32) sort_kernel(const SortArgs a) {
  extern __shared__ uint32_t counts[];  // [warps][n_experts], then the first places [n_experts]
  uint32_t* first_place = counts + kSortWarps * a.n_experts;
  wait_for_inputs();
  const uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  for (uint32_t i = threadIdx.x; i < kSortWarps * a.n_experts; i += blockDim.x) counts[i] = 0;
  for (uint32_t i = threadIdx.x; i < a.n_places; i += blockDim.x) a.token[i] = 0;
  __syncthreads();
  const uint32_t run = (a.n_pairs + kSortWarps - 1) / kSortWarps;
  const uint32_t begin = min(warp * run, a.n_pairs), end = min(begin + run, a.n_pairs);
  uint32_t* mine = counts + warp * a.n_experts;
  for (uint32_t i = begin + lane; i < end; i += 32) atomicAdd(mine + __ldcg(a.chosen + i), 1u);
  __syncthreads();
  // Counts to offsets within an expert; its total in first_place.
  for (uint32_t expert = threadIdx.x; expert < a.n_experts; expert += blockDim.x) {
    uint32_t total = 0;
    for (uint32_t w = 0; w < kSortWarps; ++w) {
      const uint32_t n = counts[w * a.n_experts + expert];
      counts[w * a.n_experts + expert] = total;
      total += n;
    }
    first_place[expert] = total;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t place = 0, tile = 0;
    for (uint32_t expert = 0; expert < a.n_experts; ++expert) {
      const uint32_t total = first_place[expert];
      first_place[expert] = place;
      for (uint32_t at = 0; at < total; at += a.tile_tokens)
        a.tiles[tile++] = {expert, place + at, place + min(at + a.tile_tokens, total)};
      place += (total + 7) / 8 * 8;
    }
    *a.n_tiles = tile;
  }
  __syncthreads();
  for (uint32_t from = begin; from < end; from += 32) {
    const uint32_t pair = from + lane;
    const bool inside = pair < end;
    const uint32_t expert = inside ? __ldcg(a.chosen + pair) : ~0u;
    const uint32_t same = __match_any_sync(~0u, expert);
    const uint32_t rank = __popc(same & ((1u << lane) - 1));
    if (inside) {
      const uint32_t place = first_place[expert] + mine[expert] + rank;
      a.place[pair] = place;
      a.token[place] = static_cast<int32_t>(pair / a.n_used);
    }
    __syncwarp();
    if (inside && rank == 0) mine[expert] += __popc(same);
    __syncwarp();
  }
}

__global__ void __launch_bounds__(kCombineThreads) combine_kernel(const CombineArgs a) {
  wait_for_inputs();
  const uint32_t token = blockIdx.y, i = blockIdx.x * kCombineThreads + threadIdx.x;
  if (i >= a.dim) return;
  float y = 0.0f;
  for (uint32_t rank = 0; rank < a.n_used; ++rank) {
    const uint32_t pair = token * a.n_used + rank;
    const uint64_t place = a.place ? __ldcg(a.place + pair) : pair;
    y = numerics::combine_expert(rank, __ldcg(a.weights + pair), __ldcg(a.outputs + place * a.dim + i), y);
  }
  float* out = a.out + static_cast<uint64_t>(token) * a.dim + i;
  *out = a.add ? __fadd_rn(__ldcg(out), y) : y;
}

uint32_t sort_bytes(uint32_t n_experts) { return (kSortWarps + 1) * n_experts * 4; }

}  // namespace

void prepare_router(Calls* calls) {
  calls->allow_shared(reinterpret_cast<const void*>(router_kernel), kMostShared - 2048);
}

void launch_router(Calls* calls, uint32_t n_tokens, const RouterArgs& args) {
  const auto tiles = static_cast<uint32_t>((args.weight.rows + kFloatTileRows - 1) / kFloatTileRows);
  const auto bytes = static_cast<uint32_t>(args.weight.cols * 4) + slab_bytes(args.weight.cols, args.strips);
  calls->launch("router", router_kernel, {dim3(tiles * args.strips, n_tokens), dim3(kRouterThreads), bytes},
                args);
}

void launch_route(Calls* calls, const RouteArgs& args) {
  calls->launch("route", route_kernel,
                {dim3((args.n_tokens + kRouteWarps - 1) / kRouteWarps), dim3(kRouteWarps * 32)}, args);
}

void prepare_sort(Calls* calls) {
  calls->allow_shared(reinterpret_cast<const void*>(sort_kernel), sort_bytes(kMostExperts));
}

void launch_sort(Calls* calls, const SortArgs& args) {
  calls->launch("sort by expert", sort_kernel, {dim3(1), dim3(kSortWarps * 32), sort_bytes(args.n_experts)},
                args);
}

void launch_combine(Calls* calls, uint32_t n_tokens, const CombineArgs& args) {
  calls->launch("combine experts", combine_kernel,
                {dim3((args.dim + kCombineThreads - 1) / kCombineThreads, n_tokens), dim3(kCombineThreads)},
                args);
}

}  // namespace orcd::cuda
