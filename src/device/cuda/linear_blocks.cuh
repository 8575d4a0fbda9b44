// The matrix kernel of the block formats, for 2 to 64 tokens at a time: int8 tensor cores inside a group, one
// fma chain a strip, strips folded left (rule N3). Weights stream through a ring in shared memory that each
// warp keeps full by itself, from before the kernel's inputs are ready; the order of the chains does not
// depend on any of that.
#pragma once

#include "device/cuda/linear_experts.cuh"
#include "device/cuda/linear_formats.cuh"
#include "device/cuda/linear_prefill.cuh"
#include "device/cuda/linear_token.cuh"

namespace orcd::cuda {

inline constexpr uint32_t kLinearWarps = 16;

template <TensorType F>
struct Stage {
  static constexpr PackedShape kShape = packed_shape(F);
  static constexpr uint32_t kBytes = kShape.unit_bytes + kShape.super_bytes;
  static constexpr uint32_t kDepth = 4;
  static constexpr uint32_t kChunks = kBytes / 16;
};

// A warp's place in its sequence of (tile, strip) items and their units.
struct Cursor {
  uint32_t item, unit, end;
  const uint8_t* unit_data;   // of `unit`
  const uint8_t* super_data;  // of the tile
};

template <TensorType F>
__device__ __forceinline__ void seek(const LinearArgs& a, uint32_t first_tile, uint32_t n_items, Cursor* c) {
  constexpr PackedShape kShape = packed_shape(F);
  for (; c->item < n_items; c->item += kLinearWarps) {
    uint32_t tile = first_tile + (c->item >> a.max_shift), segment = 0;
    const uint32_t strip = c->item & (a.max_strips - 1);
    if (a.epilogue == Epilogue::kGlu) {
      segment = tile & 1;
      tile >>= 1;
    } else {
      while (segment + 1 < a.n_segments && tile >= a.segments[segment].n_tiles)
        tile -= a.segments[segment++].n_tiles;
    }
    const Segment& s = a.segments[segment];
    if (strip >= s.strips) continue;
    c->unit = (a.n_units * strip) >> s.strip_shift;
    c->end = (a.n_units * (strip + 1)) >> s.strip_shift;
    c->unit_data = s.data + (static_cast<uint64_t>(tile) * a.n_units + c->unit) * kShape.unit_bytes;
    c->super_data = s.data + s.super_at + static_cast<uint64_t>(tile) * s.super_stride;
    return;
  }
}

template <TensorType F>
__device__ __forceinline__ void advance(const LinearArgs& a, uint32_t first_tile, uint32_t n_items,
                                        Cursor* c) {
  c->unit_data += packed_shape(F).unit_bytes;
  if (++c->unit < c->end) return;
  c->item += kLinearWarps;
  seek<F>(a, first_tile, n_items, c);
}

// Starts the copy of the cursor's unit into a stage; commits a group in any case.
template <TensorType F>
__device__ __forceinline__ void fetch(const LinearArgs& a, uint32_t first_tile, uint32_t n_items,
                                      uint32_t stage, Cursor* c) {
  using S = Stage<F>;
  if (c->item < n_items) {
    const uint32_t lane = threadIdx.x & 31;
    const uint8_t* super = c->super_data + (c->unit / 4) * S::kShape.super_bytes;
#pragma unroll
    for (uint32_t first = 0; first < S::kChunks; first += 32) {
      const uint32_t chunk = first + lane;
      if (S::kChunks - first < 32 && chunk >= S::kChunks) break;
      const uint8_t* from = c->unit_data + chunk * 16;
      if (S::kShape.super_bytes != 0 && chunk >= S::kShape.unit_bytes / 16)
        from = super + chunk * 16 - S::kShape.unit_bytes;
      copy_async16(stage + chunk * 16, from);
    }
    advance<F>(a, first_tile, n_items, c);
  }
  copy_async_commit();
}

// One link of the chains of a lane: two rows times two columns. mins: of Q2_K.
template <TensorType F>
__device__ __forceinline__ void link(const uint32_t (&reg)[4], const uint32_t (&mins)[4],
                                     const RowScales<F> (&rows)[2], const float2 (&factors)[2], int h,
                                     uint32_t b0, uint32_t b1, const float2 (&x)[2], float (&acc)[4]) {
  int32_t k[4] = {0, 0, 0, 0};
  if constexpr (F == TensorType::kQ2_K) {
    int32_t minimums[4] = {0, 0, 0, 0};
    mma_s8(k, reg[0], reg[1], reg[2], reg[3], b0, b1);
    mma_s8(minimums, mins[0], mins[1], mins[2], mins[3], b0, b1);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      acc[i] = chain_link<F>(factors[i / 2], static_cast<float>(k[i]), with_minimums(x[i % 2], minimums[i]),
                             acc[i]);
  } else {
    if constexpr (numerics::has_half_scales(F)) {
      int32_t high[4] = {0, 0, 0, 0};
      mma_s8_half(k, reg[0], reg[1], b0);
      mma_s8_half(high, reg[2], reg[3], b1);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        k[i] =
            half_scale(rows[i / 2].words[0], h, 0) * k[i] + half_scale(rows[i / 2].words[0], h, 1) * high[i];
    } else {
      mma_s8(k, reg[0], reg[1], reg[2], reg[3], b0, b1);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
      acc[i] = chain_link<F>(factors[i / 2], static_cast<float>(k[i]), x[i % 2], acc[i]);
  }
}

// kTiles8: tiles of 8 tokens.
template <int kTiles8>
__device__ __forceinline__ void fold_round(const LinearArgs& a, const float* part, uint32_t first_tile,
                                           uint32_t n_tiles, uint32_t first_token) {
  constexpr uint32_t kTokens = kTiles8 * 8;
  const bool glu = a.epilogue == Epilogue::kGlu;
  const uint32_t n = (glu ? n_tiles / 2 : n_tiles) * kTileRows * kTokens, stride = kTileRows * kTokens;
  for (uint32_t i = threadIdx.x; i < n; i += kLinearWarps * 32) {
    const uint32_t in_tile = i % kTileRows, token = i / kTileRows % kTokens;
    uint32_t local = i / (kTileRows * kTokens), tile = first_tile + local, segment = 0;
    if (glu) {
      local *= 2;
      tile = first_tile / 2 + local / 2;
    } else {
      while (segment + 1 < a.n_segments && tile >= a.segments[segment].n_tiles)
        tile -= a.segments[segment++].n_tiles;
    }
    const Segment& s = a.segments[segment];
    const uint32_t row = tile * kTileRows + in_tile;
    if (row >= s.rows || first_token + token >= a.n_tokens) continue;
    const float* from = part + local * a.max_strips * stride + in_tile * kTokens + token;
    float y = fold(from, s.strips, stride, s.bias, row);
    float* out = s.out + static_cast<uint64_t>(first_token + token) * s.out_stride + row;
    if (glu) {
      y = gated(a.activation, y,
                fold(from + a.max_strips * stride, s.strips, stride, a.segments[1].bias, row));
    } else if (a.epilogue == Epilogue::kAdd) {
      y = __fadd_rn(__ldcg(out), __fmul_rn(y, a.scale));
    } else if (a.epilogue == Epilogue::kHead) {
      y = __fmul_rn(y, a.scale);
      if (a.softcap > 0.0f) y = numerics::softcap(y, a.softcap);
    }
    *out = y;
  }
}

template <int kTiles8>
constexpr uint32_t part_floats(uint32_t items_per_warp) {
  return items_per_warp * kLinearWarps * kTileRows * kTiles8 * 8;
}

// Shared memory: rings of all warps, partial results.
template <TensorType F, int kTiles8>
uint32_t linear_shared_bytes(const LinearArgs& a) {
  return kLinearWarps * Stage<F>::kDepth * Stage<F>::kBytes + part_floats<kTiles8>(a.items_per_warp) * 4;
}

// A unit's activations of 8 tokens as a lane uses them: fragments of both groups, and {d, d * sum} of its two
// tokens.
struct UnitInput {
  uint4 fragments;
  float4 scales[2];
};
__device__ __forceinline__ UnitInput load_input(const LinearArgs& a, uint32_t tile8, uint32_t unit) {
  const uint32_t lane = threadIdx.x & 31;
  UnitInput x;
  x.fragments = a.xq[(static_cast<uint64_t>(tile8) * a.n_units + unit) * 32 + lane];
  const float2* scales = a.xs + (static_cast<uint64_t>(tile8) * a.n_groups + 2 * unit) * 8 + 2 * (lane & 3);
  x.scales[0] = *reinterpret_cast<const float4*>(scales);
  if (2 * unit + 1 < a.n_groups) x.scales[1] = *reinterpret_cast<const float4*>(scales + 8);
  return x;
}

template <TensorType F, int kTiles>
__device__ __forceinline__ void linear_block(const LinearArgs& a, uint32_t first_token, uint8_t* shared) {
  using S = Stage<F>;
  const uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  uint8_t* ring = shared + warp * S::kDepth * S::kBytes;
  float* part = reinterpret_cast<float*>(shared + kLinearWarps * S::kDepth * S::kBytes);
  const uint32_t ring_address = static_cast<uint32_t>(__cvta_generic_to_shared(ring));

  const uint32_t first_tile = blockIdx.x * a.tiles_per_block;
  const uint32_t last_tile = min(first_tile + a.tiles_per_block, a.n_tiles);
  const uint32_t n_items = (last_tile - first_tile) * a.max_strips;
  launch_dependents();
  Cursor ahead = {warp, 0, 0, nullptr, nullptr};
  seek<F>(a, first_tile, n_items, &ahead);
#pragma unroll 1
  for (uint32_t i = 0; i < S::kDepth - 1; ++i)
    fetch<F>(a, first_tile, n_items, ring_address + i * S::kBytes, &ahead);

  wait_for_inputs();
  Cursor now = {warp, 0, 0, nullptr, nullptr};
  seek<F>(a, first_tile, n_items, &now);
  const uint32_t round_items = a.items_per_warp * kLinearWarps;
  uint32_t step = 0;
  for (uint32_t round = 0; round < n_items; round += round_items) {
    while (now.item < n_items && now.item < round + round_items) {
      float acc[kTiles][4] = {};
      // With one tile of tokens the next unit's activations come while this one is worked on.
      UnitInput next;
      if constexpr (kTiles == 1) next = load_input(a, first_token / 8, now.unit);
      for (uint32_t unit = now.unit; unit < now.end; ++unit, ++step) {
        const uint8_t* stage = ring + (step % S::kDepth) * S::kBytes;
        copy_async_wait<S::kDepth - 2>();
        __syncwarp();
        // The stage read one step ago is free for every lane now.
        fetch<F>(a, first_tile, n_items, ring_address + ((step + S::kDepth - 1) % S::kDepth) * S::kBytes,
                 &ahead);
        const LaneBits bits = load_bits<F>(stage, lane);
        const RowScales<F> rows[2] = {load_row_scales<F>(stage, g), load_row_scales<F>(stage, g + 8)};
        const float2 super[2] = {load_row_super<F>(stage + S::kShape.unit_bytes, g),
                                 load_row_super<F>(stage + S::kShape.unit_bytes, g + 8)};
        const int n_halves = 2 * unit + 1 < a.n_groups ? 2 : 1;
        UnitInput x;
        if constexpr (kTiles == 1) {
          x = next;
          if (unit + 1 < now.end) next = load_input(a, first_token / 8, unit + 1);
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          if (h >= n_halves) break;
          uint32_t regs[4], mins[4] = {};
          if constexpr (F == TensorType::kQ2_K) {
            weighted_codes(bits, {rows[0].words[0], rows[1].words[0]}, h, regs, mins);
          } else {
            exact_codes<F>(bits, h, regs);
          }
          const float2 factors[2] = {group_factors<F>(rows[0], super[0], h),
                                     group_factors<F>(rows[1], super[1], h)};
#pragma unroll
          for (int n = 0; n < kTiles; ++n) {
            const uint32_t tile8 = first_token / 8 + n;
            if (tile8 * 8 >= a.n_tokens) break;
            if constexpr (kTiles > 1) x = load_input(a, tile8, unit);
            const uint2 b =
                h == 0 ? make_uint2(x.fragments.x, x.fragments.y) : make_uint2(x.fragments.z, x.fragments.w);
            const float4 pair = x.scales[h];
            const float2 xs[2] = {make_float2(pair.x, pair.y), make_float2(pair.z, pair.w)};
            link<F>(regs, mins, rows, factors, h, b.x, b.y, xs, acc[n]);
          }
        }
      }
      float* to = part + (now.item - round) * kTileRows * kTiles * 8;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) to[(g + 8 * (i / 2)) * kTiles * 8 + n * 8 + 2 * t + i % 2] = acc[n][i];
      }
      now.item += kLinearWarps;
      seek<F>(a, first_tile, n_items, &now);
    }
    __syncthreads();
    const uint32_t tile = round >> a.max_shift;
    fold_round<kTiles>(a, part, first_tile + tile,
                       min(round_items >> a.max_shift, last_tile - first_tile - tile), first_token);
    if (round + round_items < n_items) __syncthreads();
  }
}

template <TensorType F, int kTiles>
__global__ void __launch_bounds__(kLinearWarps * 32, kTiles <= 1 ? 2 : 1)
    linear_kernel(const __grid_constant__ LinearArgs a) {
  extern __shared__ __align__(128) uint8_t shared[];
  linear_block<F, kTiles>(a, blockIdx.y * kTiles * 8, shared);
}

// A row of blocks is one ExpertTile.
template <TensorType F>
__global__ void __launch_bounds__(kLinearWarps * 32, 2)
    linear_experts_kernel(const __grid_constant__ ExpertArgs a) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ LinearArgs mine;
  wait_for_inputs();
  if (blockIdx.y >= __ldcg(a.n_tiles)) return;
  copy_args(a.linear, &mine);
  const uint32_t first = place_arguments(a, a.tiles[blockIdx.y], &mine);
  linear_block<F, kFewExpertTokens / 8>(mine, first, shared);
}

template <int kTiles8>
uint32_t items_per_warp(const LinearArgs& args) {
  const uint32_t items = kTiles8 == 1 ? 4 : 1;
  // A gate and its up tile are folded together.
  return args.epilogue == Epilogue::kGlu && items * kLinearWarps < 2 * args.max_strips ? 2 : items;
}

template <TensorType F>
void launch_tiles_of_experts(Calls* calls, uint32_t n_sm, ExpertArgs args) {
  constexpr int kTiles8 = kFewExpertTokens / 8;
  LinearArgs& linear = args.linear;
  linear.items_per_warp = items_per_warp<kTiles8>(linear);
  const uint32_t step = linear.epilogue == Epilogue::kGlu ? 2 : 1;
  const uint32_t blocks = std::max(1u, 2 * n_sm / args.n_active);
  linear.tiles_per_block = (linear.n_tiles / step + blocks - 1) / blocks * step;
  LaunchShape shape;
  shape.grid = dim3((linear.n_tiles + linear.tiles_per_block - 1) / linear.tiles_per_block, args.max_tiles);
  shape.block = dim3(kLinearWarps * 32);
  shape.shared_bytes = linear_shared_bytes<F, kTiles8>(linear);
  calls->launch("experts", linear_experts_kernel<F>, shape, args);
}

template <TensorType F, int kTiles8>
void launch_tiles(Calls* calls, uint32_t n_sm, LinearArgs args) {
  args.items_per_warp = items_per_warp<kTiles8>(args);
  const uint32_t step = args.epilogue == Epilogue::kGlu ? 2 : 1;
  args.tiles_per_block = (args.n_tiles / step + n_sm - 1) / n_sm * step;
  LaunchShape shape;
  shape.grid = dim3((args.n_tiles + args.tiles_per_block - 1) / args.tiles_per_block,
                    (args.n_tokens + kTiles8 * 8 - 1) / (kTiles8 * 8));
  shape.block = dim3(kLinearWarps * 32);
  shape.shared_bytes = linear_shared_bytes<F, kTiles8>(args);
  calls->launch("linear", linear_kernel<F, kTiles8>, shape, args);
}

template <TensorType F>
void launch_format(Calls* calls, uint32_t n_sm, const LinearArgs& args) {
  if (args.n_tokens == 1) return launch_token<F>(calls, n_sm, args);
  if (args.token_stride != 0) return launch_prefill<F>(calls, n_sm, args);
  if (args.n_tokens <= 8) return launch_tiles<F, 1>(calls, n_sm, args);
  // Passes of 16 tokens beat one of 64 up to there. Pairs of 16 strips each need twice the room for partial
  // results.
  if (args.n_tokens <= kFragmentTokens || (args.epilogue == Epilogue::kGlu && args.max_strips > 8))
    return launch_tiles<F, 2>(calls, n_sm, args);
  launch_tiles<F, 8>(calls, n_sm, args);
}

template <TensorType F>
void launch_format_experts(Calls* calls, uint32_t n_sm, const ExpertArgs& args) {
  if (args.chosen) return launch_token_experts<F>(calls, n_sm, args);
  if (args.linear.token_stride != 0) return launch_prefill_experts<F>(calls, args);
  launch_tiles_of_experts<F>(calls, n_sm, args);
}

template <TensorType F>
void prepare_format(Calls* calls) {
  calls->allow_shared(reinterpret_cast<const void*>(token_experts_kernel<F>),
                      kMostShared - sizeof(LinearArgs));
  calls->allow_shared(reinterpret_cast<const void*>(linear_experts_kernel<F>),
                      kMostShared - sizeof(LinearArgs));
  calls->allow_shared(reinterpret_cast<const void*>(token_kernel<F, F>), kMostShared);
  prepare_prefill<F>(calls);
  calls->allow_shared(reinterpret_cast<const void*>(linear_kernel<F, 1>), kMostShared);
  calls->allow_shared(reinterpret_cast<const void*>(linear_kernel<F, 2>), kMostShared);
  calls->allow_shared(reinterpret_cast<const void*>(linear_kernel<F, 8>), kMostShared);
}

// One of these per format, each in its own translation unit.
#define ORCD_LINEAR_FORMAT(name)                                                    \
  void prepare_##name(Calls* calls) { prepare_format<TensorType::k##name>(calls); } \
  void launch_##name(Calls* calls, uint32_t n_sm, const LinearArgs& args) {         \
    launch_format<TensorType::k##name>(calls, n_sm, args);                          \
  }                                                                                 \
  void launch_experts_##name(Calls* calls, uint32_t n_sm, const ExpertArgs& args) { \
    launch_format_experts<TensorType::k##name>(calls, n_sm, args);                  \
  }

}  // namespace orcd::cuda
