// The matrix kernel of the block formats for many tokens (rule N3), on wgmma: 64 rows x kN tokens by one
// warpgroup. Weights are unpacked into A registers, activations come through shared memory; several blocks a
// multiprocessor hide each other's waits. The chains and strips are those of the other kernels.
#pragma once

#include "device/cuda/linear_formats.cuh"
#include "device/cuda/linear_token.cuh"
#include "device/cuda/wgmma.cuh"

namespace orcd::cuda {

inline constexpr uint32_t kPrefillThreads = 128;
inline constexpr uint32_t kPrefillRows = 64;
inline constexpr uint32_t kPrefillStages = 4;
inline constexpr uint32_t kOutStride = kPrefillRows + 4;  // floats of a token's row of outputs

template <uint32_t kN>
inline constexpr uint32_t kPrefillStageBytes = kN* kUnit + 2 * kN * 8;
template <uint32_t kN>
inline constexpr uint32_t kPrefillShared = kPrefillStages*(kPrefillStageBytes<kN> + 8) + kN* kOutStride * 4;

// Most tokens of a block: with scales of halves a link needs two sums, and so twice the registers.
template <TensorType F>
inline constexpr uint32_t kPrefillTokens = numerics::has_half_scales(F) ? 64 : 128;
// Blocks of a multiprocessor, by registers.
template <TensorType F, uint32_t kN>
inline constexpr uint32_t kPrefillBlocks = kN == 64 && !numerics::has_half_scales(F) ? 4 : 3;

template <TensorType F>
struct UnitRegisters {
  LaneBits bits;
  RowScales<F> scales[2];  // of rows g and g + 8
};

template <TensorType F>
__device__ __forceinline__ UnitRegisters<F> load_unit(const uint8_t* unit, uint32_t lane) {
  UnitRegisters<F> u;
  u.bits = load_bits<F>(unit, lane);
  u.scales[0] = load_row_scales<F>(unit, lane >> 2);
  u.scales[1] = load_row_scales<F>(unit, (lane >> 2) + 8);
  return u;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// One group's links for all of a thread's elements: rows g, g + 8, tokens 8 n + 2 t + {0, 1}.
template <TensorType F, uint32_t kN>
__device__ __forceinline__ void link_group(const UnitRegisters<F>& unit, const uint32_t (&super)[2], int h,
                                           const uint8_t* x, const float4* xs, float (&acc)[kN / 2]) {
  const uint64_t b = core_descriptor(x + h * 256);
  int d[kN / 2];
  if constexpr (numerics::has_half_scales(F)) {
    // The two products: of the halves, or of Q2_K's codes and minimums.
    int high[kN / 2];
    uint32_t first[4], second[4];
    if constexpr (F == TensorType::kQ2_K) {
      weighted_codes(unit.bits, {unit.scales[0].words[0], unit.scales[1].words[0]}, h, first, second);
    } else {
      exact_codes<F>(unit.bits, h, first);
      second[0] = second[1] = 0;
      second[2] = first[2];
      second[3] = first[3];
      first[2] = first[3] = 0;
    }
    wgmma_fence();
    wgmma_s8(d, first, b);
    wgmma_s8(high, second, b);
    wgmma_commit();
    const float2 factors[2] = {group_factors<F>(unit.scales[0], row_super<F>(super[0]), h),
                               group_factors<F>(unit.scales[1], row_super<F>(super[1]), h)};
    int32_t scale[2][2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      scale[r][0] = half_scale(unit.scales[r].words[0], h, 0);
      scale[r][1] = half_scale(unit.scales[r].words[0], h, 1);
    }
    wgmma_wait<0>();
#pragma unroll
    for (uint32_t n = 0; n < kN / 8; ++n) {
      const float4 v = xs[n * 4];
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        const float2 xs = i % 2 ? make_float2(v.z, v.w) : make_float2(v.x, v.y);
        float& to = acc[n * 4 + i];
        if constexpr (F == TensorType::kQ2_K) {
          to = chain_link<F>(factors[i / 2], d[n * 4 + i], with_minimums(xs, high[n * 4 + i]), to);
        } else {
          const int32_t isum = scale[i / 2][0] * d[n * 4 + i] + scale[i / 2][1] * high[n * 4 + i];
          to = chain_link<F>(factors[i / 2], isum, xs, to);
        }
      }
    }
  } else {
    uint32_t regs[4];
    exact_codes<F>(unit.bits, h, regs);
    wgmma_fence();
    wgmma_s8(d, regs, b);
    wgmma_commit();
    const float2 factors[2] = {group_factors<F>(unit.scales[0], row_super<F>(super[0]), h),
                               group_factors<F>(unit.scales[1], row_super<F>(super[1]), h)};
    wgmma_wait<0>();
#pragma unroll
    for (uint32_t n = 0; n < kN / 8; ++n) {
      const float4 v = xs[n * 4];
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        acc[n * 4 + i] = chain_link<F>(factors[i / 2], d[n * 4 + i],
                                       i % 2 ? make_float2(v.z, v.w) : make_float2(v.x, v.y), acc[n * 4 + i]);
      }
    }
  }
}
#endif

// Outputs of the block, staged in shared memory as [token][row]: four rows of a token a thread.
template <uint32_t kN>
__device__ __forceinline__ void store_tile(const LinearArgs& a, const float* staged, uint32_t first_tile,
                                           uint32_t first_token) {
  const bool glu = a.epilogue == Epilogue::kGlu;
  const uint32_t n_quads = glu ? 8 : 16;  // of rows
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < kN * n_quads; i += kPrefillThreads) {
    const uint32_t token = first_token + i / n_quads, quad = i % n_quads;
    if (token >= a.n_tokens) break;
    const TilePlace at = place_of(a, first_tile + quad / 4);
    const Segment& s = a.segments[at.segment];
    const uint32_t row = at.tile * kTileRows + quad % 4 * 4;
    if (at.tile >= s.n_tiles) continue;
    const float* from = staged + (token - first_token) * kOutStride + quad * 4;
    float* out = s.out + static_cast<uint64_t>(token) * s.out_stride + row;
    float y[4];
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      if (row + j >= s.rows) break;
      y[j] = s.bias ? __fadd_rn(from[j], __ldg(s.bias + row + j)) : from[j];
      if (glu) {
        const float* bias = a.segments[1].bias;
        const float up = bias ? __fadd_rn(from[32 + j], __ldg(bias + row + j)) : from[32 + j];
        y[j] = gated(a.activation, y[j], up);
      } else if (a.epilogue == Epilogue::kAdd) {
        y[j] = __fadd_rn(__ldcg(out + j), __fmul_rn(y[j], a.scale));
      } else if (a.epilogue == Epilogue::kHead) {
        y[j] = __fmul_rn(y[j], a.scale);
        if (a.softcap > 0.0f) y[j] = numerics::softcap(y[j], a.softcap);
      }
      out[j] = y[j];
    }
  }
}

template <TensorType F, uint32_t kN>
__device__ __forceinline__ void prefill_block(const LinearArgs& a, uint32_t first_token, uint8_t* shared) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr uint32_t kStage = kPrefillStageBytes<kN>;
  constexpr PackedShape kShape = packed_shape(F);
  float* staged = reinterpret_cast<float*>(shared + kPrefillStages * kStage);
  const uint32_t warp = __shfl_sync(~0u, threadIdx.x >> 5, 0);  // known to be the same in the whole warp
  const uint32_t lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const uint32_t first_tile = blockIdx.y * 4;
  launch_dependents();
  TilePlace at = place_of(a, first_tile + warp);
  const Segment& segment = a.segments[at.segment];
  const uint32_t tile = min(at.tile, segment.n_tiles - 1);  // past the end: computed, not stored
  const uint8_t* units = segment.data + static_cast<uint64_t>(tile) * a.n_units * kShape.unit_bytes;
  const uint8_t* super = segment.data + segment.super_at + static_cast<uint64_t>(tile) * segment.super_stride;
  // All segments of a block have the strips of its own tile; a block's tiles may lie in two segments.
  const uint32_t strips = segment.strips;

  // One thread asks for a unit's activations; a barrier a stage tells when they are there.
  uint64_t* barriers = reinterpret_cast<uint64_t*>(staged + kN * kOutStride);
  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < kPrefillStages; ++i) barrier_init(barriers + i);
  }
  const auto load_x = [&](uint32_t unit) {
    if (warp != 0 || !elect_one()) return;
    uint8_t* to = shared + unit % kPrefillStages * kStage;
    uint64_t* barrier = barriers + unit % kPrefillStages;
    const uint8_t* x = reinterpret_cast<const uint8_t*>(a.xq) +
                       (static_cast<uint64_t>(unit) * (a.token_stride / 8) + first_token / 8) * 512;
    barrier_expect(barrier, kStage);
    bulk_copy(to, x, kN * kUnit, barrier);
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
      const uint32_t group = min(2 * unit + h, a.n_groups - 1);
      bulk_copy(to + kN * kUnit + h * kN * 8,
                a.xs + static_cast<uint64_t>(group) * a.token_stride + first_token, kN * 8, barrier);
    }
  };
  UnitRegisters<F> next = load_unit<F>(units, lane);
  // As bits: numbers would be waited for as soon as they are asked for.
  uint32_t super_next[2] = {load_row_super_bits<F>(super, g), load_row_super_bits<F>(super, g + 8)};
  __syncthreads();  // the barriers are there
  wait_for_inputs();
  fence_async_global();
#pragma unroll 1
  for (uint32_t i = 0; i < min(kPrefillStages - 1, a.n_units); ++i) load_x(i);
  float acc[kN / 2] = {};
  uint32_t strip = 0, strip_end = (a.n_units * 1) >> segment.strip_shift;
#pragma unroll 1
  for (uint32_t unit = 0; unit < a.n_units; ++unit) {
    __syncthreads();  // the stage before this one has been read
    if (unit + kPrefillStages - 1 < a.n_units) load_x(unit + kPrefillStages - 1);
    barrier_wait(barriers + unit % kPrefillStages, unit / kPrefillStages & 1);
    const UnitRegisters<F> now = next;
    const uint32_t super_now[2] = {super_next[0], super_next[1]};
    if (unit + 1 < a.n_units) {
      units += kShape.unit_bytes;
      next = load_unit<F>(units, lane);
      if (kShape.super_bytes != 0 && (unit + 1) % 4 == 0) {
        super += kShape.super_bytes;
        super_next[0] = load_row_super_bits<F>(super, g);
        super_next[1] = load_row_super_bits<F>(super, g + 8);
      }
    }
    const uint8_t* x = shared + unit % kPrefillStages * kStage;
    const float4* xs = reinterpret_cast<const float4*>(x + kN * kUnit) + t;
    link_group<F, kN>(now, super_now, 0, x, xs, acc);
    if (2 * unit + 1 < a.n_groups) link_group<F, kN>(now, super_now, 1, x, xs + kN / 2, acc);
    if (unit + 1 == strip_end && unit + 1 < a.n_units) {
      // Each thread folds its own elements.
#pragma unroll
      for (uint32_t i = 0; i < kN / 2; ++i) {
        float* total = staged + i * kPrefillThreads + threadIdx.x;
        *total = strip == 0 ? acc[i] : __fadd_rn(*total, acc[i]);
        acc[i] = 0.0f;
      }
      ++strip;
      strip_end = (a.n_units * (strip + 1)) >> segment.strip_shift;
    }
  }
  if (strips > 1) {
#pragma unroll
    for (uint32_t i = 0; i < kN / 2; ++i)
      acc[i] = __fadd_rn(staged[i * kPrefillThreads + threadIdx.x], acc[i]);
  }
  __syncthreads();
#pragma unroll
  for (uint32_t n = 0; n < kN / 8; ++n) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i)
      staged[(n * 8 + 2 * t + i % 2) * kOutStride + warp * kTileRows + g + 8 * (i / 2)] = acc[n * 4 + i];
  }
  __syncthreads();
  store_tile<kN>(a, staged, first_tile, first_token);
#endif
}

template <TensorType F, uint32_t kN>
__global__ void __launch_bounds__(kPrefillThreads, kPrefillBlocks<F, kN>)
    prefill_kernel(const __grid_constant__ LinearArgs a) {
  extern __shared__ __align__(128) uint8_t shared[];
  prefill_block<F, kN>(a, blockIdx.x * kN, shared);
}

// A column of blocks is one ExpertTile.
template <TensorType F>
__global__ void __launch_bounds__(kPrefillThreads, kPrefillBlocks<F, kWideExpertTokens>)
    prefill_experts_kernel(const __grid_constant__ ExpertArgs a) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ LinearArgs mine;
  wait_for_inputs();
  if (blockIdx.x >= __ldcg(a.n_tiles)) return;
  copy_args(a.linear, &mine);
  const uint32_t first = place_arguments(a, a.tiles[blockIdx.x], &mine);
  prefill_block<F, kWideExpertTokens>(mine, first, shared);
}

template <TensorType F>
void launch_prefill_experts(Calls* calls, ExpertArgs args) {
  if (args.linear.epilogue == Epilogue::kGlu)
    args.linear.n_tiles = (args.linear.segments[0].rows + 31) / 32 * 4;
  const LaunchShape shape = {dim3(args.max_tiles, (args.linear.n_tiles + 3) / 4), dim3(kPrefillThreads),
                             kPrefillShared<kWideExpertTokens>};
  calls->launch("experts, many tokens", prefill_experts_kernel<F>, shape, args);
}

template <TensorType F, uint32_t kN>
void launch_prefill_tiles(Calls* calls, const LinearArgs& args) {
  const LaunchShape shape = {dim3((args.n_tokens + kN - 1) / kN, (args.n_tiles + 3) / 4),
                             dim3(kPrefillThreads), kPrefillShared<kN>};
  calls->launch("linear, many tokens", prefill_kernel<F, kN>, shape, args);
}

template <TensorType F>
void launch_prefill(Calls* calls, uint32_t n_sm, LinearArgs args) {
  if (args.epilogue == Epilogue::kGlu) args.n_tiles = (args.segments[0].rows + 31) / 32 * 4;
  constexpr uint32_t kMost = kPrefillTokens<F>;
  const uint32_t n_blocks = (args.n_tokens + kMost - 1) / kMost * ((args.n_tiles + 3) / 4);
  // Smaller tiles where large ones would leave multiprocessors without work.
  if (kMost == 128 && n_blocks < n_sm * kPrefillBlocks<F, kMost>)
    return launch_prefill_tiles<F, 64>(calls, args);
  launch_prefill_tiles<F, kMost>(calls, args);
}

template <TensorType F>
void prepare_prefill(Calls* calls) {
  calls->allow_shared(reinterpret_cast<const void*>(prefill_kernel<F, 64>), kPrefillShared<64>);
  calls->allow_shared(reinterpret_cast<const void*>(prefill_experts_kernel<F>),
                      kPrefillShared<kWideExpertTokens>);
  if constexpr (kPrefillTokens<F> == 128)
    calls->allow_shared(reinterpret_cast<const void*>(prefill_kernel<F, 128>), kPrefillShared<128>);
}

}  // namespace orcd::cuda
