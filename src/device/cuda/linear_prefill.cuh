// The matrix kernel of the block formats for many tokens (rule N3), on wgmma: 64 rows x kN tokens by one
// warpgroup. Weights are unpacked into A registers, activations come through shared memory; several blocks a
// multiprocessor hide each other's waits. The chains and strips are those of the other kernels.
#pragma once

#include "device/cuda/linear_experts.cuh"
#include "device/cuda/linear_formats.cuh"
#include "device/cuda/linear_token.cuh"
#include "device/cuda/wgmma.cuh"

namespace orcd::cuda {

inline constexpr uint32_t kPrefillThreads = 128;
inline constexpr uint32_t kPrefillRows = 64;
inline constexpr uint32_t kPrefillStages = 4;             // units of activations in shared memory
inline constexpr uint32_t kOutStride = kPrefillRows + 4;  // floats of a token's row of outputs

template <uint32_t kN>
inline constexpr uint32_t kPrefillStageBytes = kN* kUnit + 2 * kN * 8;
template <uint32_t kN>
inline constexpr uint32_t kPrefillShared = kPrefillStages* kPrefillStageBytes<kN> + kN* kOutStride * 4 + 16;

// Most tokens of a block: with scales of halves a link needs two sums, and so twice the registers.
template <TensorType F>
inline constexpr uint32_t kPrefillTokens = numerics::has_half_scales(F) ? 64 : 128;
// Blocks of a multiprocessor, by registers; experts need some for their arguments.
template <TensorType F, uint32_t kN>
inline constexpr uint32_t kPrefillBlocks = kN == 64 ? 4 : 3;

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
// One group of a unit on its way: its products, and the factors of rows g and g + 8.
template <TensorType F, uint32_t kN>
struct GroupProducts {
  static constexpr bool kTwo = numerics::has_half_scales(F);
  int d[kN / 2];
  int second[kTwo ? kN / 2 : 1];  // of the second halves, or of Q2_K's minimums
  float2 factors[2];
  int32_t scale[2][2];  // of the halves
};

// Starts the products; x: the group's activations in shared memory.
template <TensorType F, uint32_t kN>
__device__ __forceinline__ void start_group(const UnitRegisters<F>& unit, const uint32_t (&super)[2], int h,
                                            const uint8_t* x, GroupProducts<F, kN>& out) {
  const uint64_t b = core_descriptor(x + h * 256);
  uint32_t first[4];
  if constexpr (GroupProducts<F, kN>::kTwo) {
    uint32_t second[4];
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
    wgmma_s8(out.d, first, b);
    wgmma_s8(out.second, second, b);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      out.scale[r][0] = half_scale(unit.scales[r].words[0], h, 0);
      out.scale[r][1] = half_scale(unit.scales[r].words[0], h, 1);
    }
  } else {
    exact_codes<F>(unit.bits, h, first);
    wgmma_fence();
    wgmma_s8(out.d, first, b);
  }
  wgmma_commit();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    out.factors[r] = group_factors<F>(unit.scales[r], row_super<F>(super[r]), h);
    // Here, and not after the wait.
    asm volatile("" : "+f"(out.factors[r].x), "+f"(out.factors[r].y));
  }
}

// The links of a group for all of a thread's elements: rows g, g + 8, tokens 8 n + 2 t + {0, 1}.
template <TensorType F, uint32_t kN>
__device__ __forceinline__ void link_group(const GroupProducts<F, kN>& group, const float4* xs,
                                           float (&acc)[kN / 2]) {
#pragma unroll
  for (uint32_t n = 0; n < kN / 8; ++n) {
    const float4 v = xs[n * 4];
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t at = n * 4 + i, r = i / 2;
      const float2 token = i % 2 ? make_float2(v.z, v.w) : make_float2(v.x, v.y);
      if constexpr (F == TensorType::kQ2_K) {
        acc[at] = chain_link<F>(group.factors[r], static_cast<float>(group.d[at]),
                                with_minimums(token, group.second[at]), acc[at]);
      } else if constexpr (GroupProducts<F, kN>::kTwo) {
        const int32_t isum = group.scale[r][0] * group.d[at] + group.scale[r][1] * group.second[at];
        acc[at] = chain_link<F>(group.factors[r], static_cast<float>(isum), token, acc[at]);
      } else {
        acc[at] = chain_link<F>(group.factors[r], static_cast<float>(group.d[at]), token, acc[at]);
      }
    }
  }
}
#endif

// Outputs of the block, staged in shared memory as [token][row]: a thread has the same four rows of some
// tokens, several of which are on their way at a time.
template <uint32_t kN>
__device__ __forceinline__ void store_tile(const LinearArgs& a, const float* staged, uint32_t first_tile,
                                           uint32_t first_token) {
  constexpr uint32_t kBatch = 4;
  const bool glu = a.epilogue == Epilogue::kGlu, adds = a.epilogue == Epilogue::kAdd;
  const uint32_t n_quads = kPrefillRows / (glu ? 8 : 4),
                 step = kPrefillThreads / n_quads;  // of rows; of tokens
  const uint32_t quad = threadIdx.x % n_quads;
  const TilePlace at = place_of(a, first_tile + quad / 4);
  const Segment& s = a.segments[at.segment];
  const uint32_t row = at.tile * kTileRows + quad % 4 * 4;
  if (at.tile >= s.n_tiles || row >= s.rows) return;
  const uint32_t n_rows = min(4u, s.rows - row);
  const bool whole = n_rows == 4 && s.out_stride % 4 == 0;
  const float *bias = s.bias, *up_bias = glu ? a.segments[1].bias : nullptr;
  float b[4] = {}, up_b[4] = {};
#pragma unroll
  for (uint32_t j = 0; j < 4; ++j) {
    if (bias && j < n_rows) b[j] = __ldg(bias + row + j);
    if (up_bias && j < n_rows) up_b[j] = __ldg(up_bias + row + j);
  }
#pragma unroll 1
  for (uint32_t first = threadIdx.x / n_quads; first < kN; first += kBatch * step) {
    float before[kBatch][4] = {};
    if (adds) {
#pragma unroll
      for (uint32_t i = 0; i < kBatch; ++i) {
        const uint32_t token = first_token + first + i * step;
        if (token >= a.n_tokens) continue;
        const float* out = s.out + static_cast<uint64_t>(token) * s.out_stride + row;
        if (whole) {
          *reinterpret_cast<float4*>(before[i]) = __ldcg(reinterpret_cast<const float4*>(out));
        } else {
#pragma unroll
          for (uint32_t j = 0; j < 4; ++j)
            if (j < n_rows) before[i][j] = __ldcg(out + j);
        }
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      const uint32_t local = first + i * step, token = first_token + local;
      if (token >= a.n_tokens) return;
      const float* from = staged + local * kOutStride + quad * 4;
      float y[4], up[4];
      *reinterpret_cast<float4*>(y) = *reinterpret_cast<const float4*>(from);
      if (glu) *reinterpret_cast<float4*>(up) = *reinterpret_cast<const float4*>(from + 32);
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) {
        if (bias) y[j] = __fadd_rn(y[j], b[j]);
        if (glu) {
          y[j] = gated(a.activation, y[j], up_bias ? __fadd_rn(up[j], up_b[j]) : up[j]);
        } else if (adds) {
          y[j] = __fadd_rn(before[i][j], __fmul_rn(y[j], a.scale));
        } else if (a.epilogue == Epilogue::kHead) {
          y[j] = __fmul_rn(y[j], a.scale);
          if (a.softcap > 0.0f) y[j] = numerics::softcap(y[j], a.softcap);
        }
      }
      float* out = s.out + static_cast<uint64_t>(token) * s.out_stride + row;
      if (whole) {
        *reinterpret_cast<float4*>(out) = make_float4(y[0], y[1], y[2], y[3]);
      } else {
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j)
          if (j < n_rows) out[j] = y[j];
      }
    }
  }
}

// What the block's outputs are added to on its way into L2: a token a thread.
template <uint32_t kN>
__device__ __forceinline__ void prefetch_residual(const LinearArgs& a, uint32_t first_tile,
                                                  uint32_t first_token) {
  const Segment& s = a.segments[0];
  const uint32_t row = first_tile * kTileRows, token = first_token + threadIdx.x;
  if (a.epilogue != Epilogue::kAdd || row + kPrefillRows > s.rows || s.out_stride % 4 != 0) return;
  if (threadIdx.x < kN && token < a.n_tokens)
    prefetch_l2(s.out + static_cast<uint64_t>(token) * s.out_stride + row, kPrefillRows * 4);
}

// The same for a gated pair whose 32 outputs of a token are one group of the next layer's input: quantised,
// one or two threads a token.
template <uint32_t kN>
__device__ __forceinline__ void quantize_tile(const LinearArgs& a, float* staged, uint32_t group,
                                              uint32_t first_token) {
  constexpr uint32_t kThreads = kPrefillThreads / kN, kRows = 32 / kThreads;
  const uint32_t local = threadIdx.x / kThreads, part = threadIdx.x % kThreads, token = first_token + local;
  float* mine = staged + local * kOutStride + part * kRows;
  const float *bias = a.segments[0].bias, *up_bias = a.segments[1].bias;
  const uint32_t row = group * 32 + part * kRows;
#pragma unroll 1
  for (uint32_t i = 0; i < kRows; i += 4) {
    float gate[4], up[4];
    *reinterpret_cast<float4*>(gate) = *reinterpret_cast<const float4*>(mine + i);
    *reinterpret_cast<float4*>(up) = *reinterpret_cast<const float4*>(mine + 32 + i);
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      if (bias) gate[j] = __fadd_rn(gate[j], __ldg(bias + row + i + j));
      if (up_bias) up[j] = __fadd_rn(up[j], __ldg(up_bias + row + i + j));
    }
    gated_four(a.activation, gate, up);
    *reinterpret_cast<float4*>(mine + i) = make_float4(gate[0], gate[1], gate[2], gate[3]);
  }
  float y[kRows];
#pragma unroll
  for (uint32_t i = 0; i < kRows; i += 4)
    *reinterpret_cast<float4*>(y + i) = *reinterpret_cast<const float4*>(mine + i);
  const QuantizedPart<kRows> q = quantize_part(y);
  if (token >= a.n_tokens) return;
  uint8_t* cores = a.out_q + (static_cast<uint64_t>(group / 2) * (a.token_stride / 8) + token / 8) * 512 +
                   (group % 2 * 2 + part) * 128 + token % 8 * 16;
#pragma unroll
  for (uint32_t i = 0; i < kRows / 16; ++i) {
    *reinterpret_cast<uint4*>(cores + i * 128) =
        make_uint4(q.words[i * 4], q.words[i * 4 + 1], q.words[i * 4 + 2], q.words[i * 4 + 3]);
  }
  if (part == 0) a.out_s[static_cast<uint64_t>(group) * a.token_stride + token] = q.scale;
}

// acc becomes the sum of the thread's totals of the strips before, which lie as [quad][thread], and acc.
template <uint32_t kN>
__device__ __forceinline__ void add_totals(const float* totals, float (&acc)[kN / 2]) {
#pragma unroll
  for (uint32_t i = 0; i < kN / 2; i += 4) {
    const float4 total = reinterpret_cast<const float4*>(totals)[i / 4 * kPrefillThreads + threadIdx.x];
    acc[i] = __fadd_rn(total.x, acc[i]);
    acc[i + 1] = __fadd_rn(total.y, acc[i + 1]);
    acc[i + 2] = __fadd_rn(total.z, acc[i + 2]);
    acc[i + 3] = __fadd_rn(total.w, acc[i + 3]);
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

  // One thread asks for the activations of two units; a barrier tells when they are there. Two such pairs
  // have room, one that is worked on and one on its way.
  uint64_t* barriers = reinterpret_cast<uint64_t*>(staged + kN * kOutStride);
  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < 2; ++i) barrier_init(barriers + i);
  }
  const auto load_pair = [&](uint32_t first) {
    if (warp != 0 || !elect_one()) return;
    uint64_t* barrier = barriers + first / 2 % 2;
    const uint32_t n = min(2u, a.n_units - first);
    barrier_expect(barrier, n * kStage);
#pragma unroll 1
    for (uint32_t unit = first; unit < first + n; ++unit) {
      uint8_t* to = shared + unit % kPrefillStages * kStage;
      const uint8_t* x = reinterpret_cast<const uint8_t*>(a.xq) +
                         (static_cast<uint64_t>(unit) * (a.token_stride / 8) + first_token / 8) * 512;
      bulk_copy(to, x, kN * kUnit, barrier);
#pragma unroll
      for (uint32_t h = 0; h < 2; ++h) {
        const uint32_t group = min(2 * unit + h, a.n_groups - 1);
        bulk_copy(to + kN * kUnit + h * kN * 8,
                  a.xs + static_cast<uint64_t>(group) * a.token_stride + first_token, kN * 8, barrier);
      }
    }
  };
  UnitRegisters<F> now = load_unit<F>(units, lane);
  // As bits: numbers would be waited for as soon as they are asked for.
  uint32_t super_now[2] = {load_row_super_bits<F>(super, g), load_row_super_bits<F>(super, g + 8)};
  // The next unit comes while this one is worked on, where there are registers for both; else while this
  // one's last links run, and from before that where the product under way does not read the very registers
  // of this one.
  constexpr bool kReadsUnit = F == TensorType::kQ8_0;
  constexpr bool kAhead = kN == 64 && !numerics::has_half_scales(F) && !kReadsUnit;
  uint32_t unit = 0;
  const auto load_next = [&](UnitRegisters<F>* to, uint32_t* to_super) {
    if (unit + 1 == a.n_units) return;
    units += kShape.unit_bytes;
    *to = load_unit<F>(units, lane);
    if (kShape.super_bytes == 0 || (unit + 1) % 4 != 0) return;
    super += kShape.super_bytes;
    to_super[0] = load_row_super_bits<F>(super, g);
    to_super[1] = load_row_super_bits<F>(super, g + 8);
  };
  __syncthreads();  // the barriers are there
  wait_for_inputs();
  fence_async_global();
  load_pair(0);
  prefetch_residual<kN>(a, first_tile, first_token);
  float acc[kN / 2] = {};
  uint32_t strip = 0, strip_end = (a.n_units * 1) >> segment.strip_shift;
#pragma unroll 1
  for (; unit < a.n_units; ++unit) {
    UnitRegisters<F> next = now;
    uint32_t super_next[2] = {super_now[0], super_now[1]};
    if constexpr (kAhead) load_next(&next, super_next);
    if (unit % 2 == 0) {
      __syncthreads();  // the pair before this one has been read
      if (unit + 2 < a.n_units) load_pair(unit + 2);
      barrier_wait(barriers + unit / 2 % 2, unit / 4 & 1);
    }
    const uint8_t* x = shared + unit % kPrefillStages * kStage;
    const float4* xs = reinterpret_cast<const float4*>(x + kN * kUnit) + t;
    const bool two = 2 * unit + 1 < a.n_groups;
    {
      GroupProducts<F, kN> group;
      start_group(now, super_now, 0, x, group);
      wgmma_wait<0>();
      link_group(group, xs, acc);
    }
    if (two) {
      GroupProducts<F, kN> group;
      start_group(now, super_now, 1, x, group);
      if constexpr (!kAhead && !kReadsUnit) load_next(&now, super_now);
      wgmma_wait<0>();
      if constexpr (kReadsUnit) load_next(&now, super_now);
      link_group(group, xs + kN / 2, acc);
    }
    if constexpr (kAhead) {
      now = next;
      super_now[0] = super_next[0];
      super_now[1] = super_next[1];
    }
    if (unit + 1 == strip_end && unit + 1 < a.n_units) {
      // Each thread folds its own elements.
      if (strip > 0) add_totals<kN>(staged, acc);
#pragma unroll
      for (uint32_t i = 0; i < kN / 2; i += 4) {
        reinterpret_cast<float4*>(staged)[i / 4 * kPrefillThreads + threadIdx.x] =
            make_float4(acc[i], acc[i + 1], acc[i + 2], acc[i + 3]);
        acc[i] = acc[i + 1] = acc[i + 2] = acc[i + 3] = 0.0f;
      }
      ++strip;
      strip_end = (a.n_units * (strip + 1)) >> segment.strip_shift;
    }
  }
  if (strips > 1) add_totals<kN>(staged, acc);
  __syncthreads();
#pragma unroll
  for (uint32_t n = 0; n < kN / 8; ++n) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i)
      staged[(n * 8 + 2 * t + i % 2) * kOutStride + warp * kTileRows + g + 8 * (i / 2)] = acc[n * 4 + i];
  }
  __syncthreads();
  if (a.out_q) return quantize_tile<kN>(a, staged, first_tile / 4, first_token);
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
__global__ void __launch_bounds__(kPrefillThreads, numerics::has_half_scales(F) ? 3 : 4)
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
