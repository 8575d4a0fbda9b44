// Experts on the kernels of linear layers: the arguments of one expert, made by the block that works on it,
// and the kernel of one token for each pair of a token and a rank.
#pragma once

#include <algorithm>

#include "device/cuda/linear_token.cuh"

namespace orcd::cuda {

// The arguments of a launch to where they can be changed; a barrier must follow.
__device__ __forceinline__ void copy_args(const LinearArgs& from, LinearArgs* to) {
  static_assert(sizeof(LinearArgs) % 4 == 0);
  for (uint32_t i = threadIdx.x; i < sizeof(LinearArgs) / 4; i += blockDim.x)
    reinterpret_cast<uint32_t*>(to)[i] = reinterpret_cast<const uint32_t*>(&from)[i];
  __syncthreads();
}

// From those of expert 0 to those of another.
__device__ __forceinline__ void choose_expert(const ExpertArgs& a, uint32_t expert, LinearArgs* args) {
  for (uint32_t i = 0; i < args->n_segments; ++i) {
    Segment& s = args->segments[i];
    s.data += expert * a.expert_bytes[i];
    if (s.bias) s.bias += static_cast<uint64_t>(expert) * s.rows;
  }
}

// Those of the tokens of a tile, whose first place it returns.
__device__ __forceinline__ uint32_t place_arguments(const ExpertArgs& a, const ExpertTile& tile,
                                                    LinearArgs* args) {
  if (threadIdx.x == 0) {
    choose_expert(a, tile.expert, args);
    args->n_tokens = tile.end;
  }
  __syncthreads();
  return tile.first;
}

// A row of blocks is one pair of a token and a rank; every block makes the arguments of its pair.
template <TensorType F>
__global__ void __launch_bounds__(kTokenThreads, 2)
    token_experts_kernel(const __grid_constant__ ExpertArgs a) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ LinearArgs mine;
  copy_args(a.linear, &mine);
  wait_for_inputs();
  if (threadIdx.x == 0) {
    const uint32_t pair = blockIdx.y, expert = __ldcg(a.chosen + pair);
    choose_expert(a, expert, &mine);
    for (uint32_t i = 0; i < 2; ++i)
      mine.segments[i].out += static_cast<uint64_t>(pair) * mine.segments[i].out_stride;
    if (mine.x) {
      mine.x += static_cast<uint64_t>(pair / a.pairs_per_row) * mine.cols;
    } else {
      mine.token_q += static_cast<uint64_t>(pair) * mine.cols;
      mine.token_s += static_cast<uint64_t>(pair) * mine.n_groups;
    }
    if (mine.out_q) {
      mine.out_q += static_cast<uint64_t>(pair) * mine.segments[0].rows;
      mine.out_s += static_cast<uint64_t>(pair) * (mine.segments[0].rows / 32);
    }
  }
  __syncthreads();
  token_block<F>(mine, shared);
}

template <TensorType F>
void launch_token_experts(Calls* calls, uint32_t n_sm, ExpertArgs args) {
  const uint32_t bytes = args.linear.n_units * packed_shape(F).unit_bytes;
  LaunchShape shape;
  shape.grid =
      dim3(deal_tiles(args.linear, std::max(1u, n_sm / args.n_pairs), {bytes, bytes, bytes}), args.n_pairs);
  shape.block = dim3(kTokenThreads);
  shape.shared_bytes = token_shared<F>(args.linear).bytes;
  calls->launch("experts, one token", token_experts_kernel<F>, shape, args);
}

}  // namespace orcd::cuda
