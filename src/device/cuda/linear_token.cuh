// The matrix kernel of the block formats for one token (rule N3): decode. All 8 columns of a tensor-core
// product of a group are the token, so that all four lanes that have rows g and g + 8 of the products with
// two tiles have their sums: each of the four walks the chain of another of these rows.
//
// A block owns whole tiles of 16 rows of one segment, two by two. A warp takes one strip of a pair at a time
// and keeps its next set of units on the way in shared memory, from before the kernel's input is ready.
#pragma once

#include <algorithm>

#include "device/cuda/linear_deal.h"
#include "device/cuda/linear_formats.cuh"

namespace orcd::cuda {

inline constexpr uint32_t kTokenThreads = kTokenWarps * 32;
static_assert(kTokenWarps % numerics::kMaxStrips == 0, "a warp keeps its strip");

// A set of units of one or two tiles.
template <TensorType F, uint32_t kTiles = 2>
struct TokenSet {
  static constexpr PackedShape kShape = packed_shape(F);
  // Kinds of columns: with scales of halves one a half; Q2_K: one of codes and one of minimums.
  static constexpr uint32_t kColumns = numerics::has_half_scales(F) ? 2 : 1;
  static constexpr uint32_t kUnits = set_shape(F, kTiles).units;
  static constexpr uint32_t kUnitBytes = kUnits * kShape.unit_bytes;
  static constexpr uint32_t kBytes = set_shape(F, kTiles).tile_bytes;
};

// Shared memory: two sets a warp and a barrier for them, then the partial results, whose place holds the f32
// row while it is normalised; then the quantised row.
struct TokenShared {
  uint32_t barriers_at, parts_at, codes_at, scales_at, bytes;
};
template <TensorType F>
__host__ __device__ inline TokenShared token_shared(const LinearArgs& a) {
  TokenShared s;
  s.barriers_at = kTokenWarps * 2 * TokenSet<F>::kBytes;
  s.parts_at = s.barriers_at + kTokenWarps * 8;
  const uint32_t row_floats = a.x ? a.cols + 256 : 0;
  s.codes_at = (s.parts_at + (a.part_rows > row_floats ? a.part_rows : row_floats) * 4 + 15) / 16 * 16;
  s.scales_at = s.codes_at + a.n_units * kUnit + 256;  // a set may be read past the end of the row
  s.bytes = s.scales_at + (a.n_units + 4) * 16;
  return s;
}

// Where a tile of a launch lies: GLU interleaves two tiles of the gate with two of the up projection, so that
// a block owns whole groups of 32 outputs.
struct TilePlace {
  uint32_t segment, tile;
};
__device__ __forceinline__ TilePlace place_of(const LinearArgs& a, uint32_t tile) {
  if (a.epilogue == Epilogue::kGlu) return {(tile & 3) >> 1, (tile >> 2) * 2 + (tile & 1)};
  uint32_t segment = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (segment + 1 < a.n_segments && tile >= a.segments[segment].n_tiles)
      tile -= a.segments[segment++].n_tiles;
  }
  return {segment, tile};
}

// What a block works on: tiles [first_tile, first_tile + n_tiles) of a segment; GLU: of the interleaved two.
struct BlockShare {
  uint32_t segment, first_tile, n_tiles;
};
__device__ __forceinline__ BlockShare share_of(const LinearArgs& a) {
  uint32_t segment = 0, block = blockIdx.x;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (segment + 1 < a.n_segments && block >= a.segments[segment].n_blocks)
      block -= a.segments[segment++].n_blocks;
  }
  const Segment& s = a.segments[segment];
  const uint32_t step = a.epilogue == Epilogue::kGlu ? 4 : 1;
  return {segment, (block * s.steps_per_block + min(block, s.extra_steps)) * step,
          (s.steps_per_block + (block < s.extra_steps ? 1 : 0)) * step};
}

// Where the two tiles of a pair lie; nullptr where there is no second one, or its rows are past the end.
struct PairData {
  const uint8_t *units[2], *super[2];
};
template <TensorType F>
__device__ __forceinline__ PairData pair_data(const LinearArgs& a, const BlockShare& share, uint32_t pair) {
  PairData data;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    TilePlace at = {share.segment, share.first_tile + 2 * pair + half};
    if (a.epilogue == Epilogue::kGlu) at = {pair & 1, share.first_tile / 2 + (pair & ~1u) + half};
    const Segment& s = a.segments[at.segment];
    const bool there = 2 * pair + half < share.n_tiles && at.tile < s.n_tiles;
    data.units[half] =
        there ? s.data + static_cast<uint64_t>(at.tile) * a.n_units * packed_shape(F).unit_bytes : nullptr;
    data.super[half] = s.data + s.super_at + static_cast<uint64_t>(at.tile) * s.super_stride;
  }
  return data;
}

// Starts the copy of n units from `unit` on, of both tiles of a pair, into the warp's slot. All arguments are
// the same in the whole warp.
template <TensorType F>
__device__ __forceinline__ void fetch_set(const PairData& data, uint32_t unit, uint32_t n, uint8_t* slot,
                                          uint64_t* barrier) {
  using T = TokenSet<F>;
#if __CUDA_ARCH__ >= 900
  if (!elect_one()) return;
  const uint32_t bytes = n * T::kShape.unit_bytes;
  barrier_expect(barrier, (bytes + T::kShape.super_bytes) * (data.units[1] ? 2 : 1));
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    if (half == 1 && !data.units[1]) return;
    uint8_t* to = slot + half * T::kBytes;
    bulk_copy(to, data.units[half] + static_cast<uint64_t>(unit) * T::kShape.unit_bytes, bytes, barrier);
    if constexpr (T::kShape.super_bytes != 0) {
      bulk_copy(to + T::kUnitBytes, data.super[half] + (unit / 4) * T::kShape.super_bytes,
                T::kShape.super_bytes, barrier);
    }
  }
#else
  const uint32_t lane = threadIdx.x & 31, n_chunks = n * (T::kShape.unit_bytes / 16);
#pragma unroll 1
  for (uint32_t half = 0; half < 2; ++half) {
    if (!data.units[half]) break;
    const uint8_t* from = data.units[half] + static_cast<uint64_t>(unit) * T::kShape.unit_bytes;
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(slot + half * T::kBytes));
#pragma unroll 1
    for (uint32_t i = lane; i < n_chunks; i += 32) copy_async16(to + i * 16, from + i * 16);
    if constexpr (T::kShape.super_bytes != 0) {
      if (lane < T::kShape.super_bytes / 16) {
        copy_async16(to + T::kUnitBytes + lane * 16,
                     data.super[half] + (unit / 4) * T::kShape.super_bytes + lane * 16);
      }
    }
  }
  copy_async_commit();
#endif
}

// Until the set on its way is there.
__device__ __forceinline__ void wait_set(uint64_t* barrier, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  barrier_wait(barrier, parity);
#else
  copy_async_wait<0>();
  __syncwarp();
#endif
}

// The input of the launch into shared memory as the last kernel left it, quantised: every load on its way
// before the first is used.
__device__ __forceinline__ void load_quantized(const LinearArgs& a, uint8_t* codes, float2* scales) {
  constexpr uint32_t kBatch = 2;
  const uint32_t n_codes = a.cols / 16;
#pragma unroll 1
  for (uint32_t first = 0; first < n_codes; first += kBatch * kTokenThreads) {
    uint4 q[kBatch];
    float2 s[kBatch / 2];
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = first + j * kTokenThreads + threadIdx.x;
      if (i < n_codes) q[j] = __ldcg(reinterpret_cast<const uint4*>(a.token_q) + i);
    }
    // Two pieces of 16 codes a group.
#pragma unroll
    for (uint32_t j = 0; j < kBatch / 2; ++j) {
      const uint32_t i = first / 2 + j * kTokenThreads + threadIdx.x;
      if (i < a.n_groups) s[j] = __ldcg(a.token_s + i);
    }
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = first + j * kTokenThreads + threadIdx.x;
      if (i < n_codes) reinterpret_cast<uint4*>(codes)[i] = q[j];
    }
#pragma unroll
    for (uint32_t j = 0; j < kBatch / 2; ++j) {
      const uint32_t i = first / 2 + j * kTokenThreads + threadIdx.x;
      if (i < a.n_groups) scales[i] = s[j];
    }
  }
}

// The same from f32: normalised and quantised here. weights: of the norm, of the thread's first octet.
__device__ __forceinline__ void normalise_and_quantize(const LinearArgs& a, const NormWeights& weights,
                                                       float* row, uint8_t* codes, float2* scales) {
  const float* x = a.x + static_cast<uint64_t>(a.row_index ? __ldcg(a.row_index) : 0) * a.cols;
  load_row<kTokenThreads>(x, a.cols, row + 256);
  __syncthreads();
  const RowNorm norm = row_statistics(LoadShared{row + 256}, a.cols, a.norm, row);
  const uint32_t n_octets = a.cols / 8;
#pragma unroll 1
  for (uint32_t first = threadIdx.x & ~31u; first < n_octets; first += kTokenThreads) {
    const uint32_t octet = first + (threadIdx.x & 31);
    const bool inside = octet < n_octets;
    float v[8] = {};
    if (inside) {
      normalise_octet(row + 256 + octet * 8, octet * 8, a.norm, norm,
                      first < kTokenThreads ? weights : load_norm_weights(a.norm, octet * 8), v);
    }
    const QuantizedPart<8> q = quantize_part(v);
    if (!inside) continue;
    store_octet(q, octet, codes, scales);
  }
}

// The row of a pair's tiles whose chain a lane walks; of one tile, two lanes walk the same.
struct LaneRow {
  uint32_t tile, row;
};
template <uint32_t kTiles = 2>
__device__ __forceinline__ LaneRow row_of_lane(uint32_t lane) {
  return {kTiles == 2 ? lane >> 1 & 1 : 0, lane / 4 + 8 * (lane & 1)};
}

// What a lane takes of a set: its registers' worth of both tiles, and the scales of its own row. Once the
// whole warp has it, the slot is free.
template <TensorType F, uint32_t kTiles = 2>
struct SetRegisters {
  LaneBits bits[kTiles][TokenSet<F, kTiles>::kUnits];
  RowScales<F> scales[TokenSet<F, kTiles>::kUnits];
  float2 super;
  // Q2_K: scales of rows g and g + 8 of both tiles.
  uint32_t weights[F == TensorType::kQ2_K ? kTiles : 1][TokenSet<F, kTiles>::kUnits][2];
};
template <TensorType F, uint32_t kTiles>
__device__ __forceinline__ void load_set(const uint8_t* slot, uint32_t lane, SetRegisters<F, kTiles>* set) {
  using T = TokenSet<F, kTiles>;
  const LaneRow own = row_of_lane<kTiles>(lane);
  const uint8_t* mine = slot + own.tile * T::kBytes;
#pragma unroll
  for (uint32_t u = 0; u < T::kUnits; ++u) {
    set->scales[u] = load_row_scales<F>(mine + u * T::kShape.unit_bytes, own.row);
#pragma unroll
    for (uint32_t half = 0; half < kTiles; ++half) {
      const uint8_t* unit = slot + half * T::kBytes + u * T::kShape.unit_bytes;
      set->bits[half][u] = load_bits<F>(unit, lane);
      if constexpr (F == TensorType::kQ2_K) {
        set->weights[half][u][0] = load_row_scales<F>(unit, lane >> 2).words[0];
        set->weights[half][u][1] = load_row_scales<F>(unit, (lane >> 2) + 8).words[0];
      }
    }
  }
  set->super = load_row_super<F>(mine + T::kUnitBytes, own.row);
}

// The sum of a group of the lane's row, of those that the products with the tiles leave in a lane: columns
// are copies of each other; with two kinds of columns, they take turns.
template <uint32_t kTiles>
__device__ __forceinline__ int32_t sum_of_row(const int (&products)[kTiles][4], int column, uint32_t lane) {
  const bool below = lane & 1;
  const int32_t in_first = below ? products[0][2 + column] : products[0][column];
  if constexpr (kTiles == 1) return in_first;
  const int32_t in_second = below ? products[kTiles - 1][2 + column] : products[kTiles - 1][column];
  return lane & 2 ? in_second : in_first;
}

// The chain of the lane's row over the first n_groups groups of a set. codes, scales: of the input, from the
// set's first group on. Groups of units that were not loaded are of what lay there before, and not added.
template <TensorType F, uint32_t kTiles>
__device__ __forceinline__ float chain_set(const SetRegisters<F, kTiles>& set, uint32_t n_groups,
                                           const uint8_t* codes, const float2* scales, uint32_t lane,
                                           float acc) {
  using T = TokenSet<F, kTiles>;
  const bool odd = lane & 4;  // the lane's column of B
  const uint8_t* mine = codes + (lane & 3) * 8;
#pragma unroll
  for (uint32_t u = 0; u < T::kUnits; ++u) {
    // Strips of narrow matrices are short.
    if (T::kUnits == 4 && u == 2 && n_groups <= 4) break;
    const float4 both = *reinterpret_cast<const float4*>(scales + 2 * u);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint32_t group = 2 * u + h;
      const uint2 x = *reinterpret_cast<const uint2*>(mine + group * 32);
      float2 xs = h ? make_float2(both.z, both.w) : make_float2(both.x, both.y);
      int k[kTiles][4] = {};
#pragma unroll
      for (uint32_t half = 0; half < kTiles; ++half) {
        uint32_t regs[4];
        if constexpr (F == TensorType::kQ2_K) {
          uint32_t minimums[4];
          weighted_codes(set.bits[half][u], set.weights[half][u], h, regs, minimums);
          mma_s8(k[half], regs[0], regs[1], regs[2], regs[3], odd ? 0 : x.x, odd ? 0 : x.y);
          mma_s8(k[half], minimums[0], minimums[1], minimums[2], minimums[3], odd ? x.x : 0, odd ? x.y : 0);
        } else {
          scaled_codes<F>(set.bits[half][u], h, regs);
          if constexpr (T::kColumns == 2) {
            mma_group<F>(k[half], regs, odd ? 0 : x.x, odd ? x.y : 0);
          } else {
            mma_group<F>(k[half], regs, x.x, x.y);
          }
        }
      }
      int32_t isum = sum_of_row(k, 0, lane);
      if constexpr (F == TensorType::kQ2_K) {
        xs = with_minimums(xs, sum_of_row(k, 1, lane));
      } else if constexpr (T::kColumns == 2) {
        isum = half_scale(set.scales[u].words[0], h, 0) * isum +
               half_scale(set.scales[u].words[0], h, 1) * sum_of_row(k, 1, lane);
      }
      const float next =
          chain_link<F>(group_factors<F>(set.scales[u], set.super, h), unscaled<F>(isum, h), xs, acc);
      acc = group < n_groups ? next : acc;
    }
  }
  return acc;
}

// What the thread's first output is added to, long before it is needed.
__device__ __forceinline__ float load_residual(const LinearArgs& a, const BlockShare& share) {
  const uint32_t row = share.first_tile * kTileRows + threadIdx.x;
  const Segment& s = a.segments[share.segment];
  if (a.epilogue != Epilogue::kAdd || threadIdx.x >= share.n_tiles * kTileRows || row >= s.rows) return 0.0f;
  return __ldcg(s.out + row);
}

// Outputs of the block's tiles, a thread a row; GLU: a warp the 32 rows of a group. Partial results lie as
// [local tile][strip][16 rows].
__device__ __forceinline__ void finish_token(const LinearArgs& a, const float* parts, const BlockShare& share,
                                             float residual) {
  const bool glu = a.epilogue == Epilogue::kGlu;
  const Segment& s = a.segments[share.segment];
  const uint32_t n_rows = (glu ? share.n_tiles / 2 : share.n_tiles) * kTileRows;
  const uint32_t first_row = (glu ? share.first_tile / 2 : share.first_tile) * kTileRows;
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < n_rows; i += kTokenThreads) {
    const uint32_t local = glu ? i / 32 * 4 + i / kTileRows % 2 : i / kTileRows;
    const uint32_t row = first_row + i;
    const bool inside = row < s.rows;
    if (!glu && !inside) continue;
    const float* from = parts + (local << s.strip_shift) * kTileRows + i % kTileRows;
    float y = inside ? fold(from, s.strips, kTileRows, s.bias, row) : 0.0f;
    if (glu) {
      const Segment& up = a.segments[1];
      if (inside) {
        y = gated(a.activation, y,
                  fold(from + (2 * kTileRows << up.strip_shift), up.strips, kTileRows, up.bias, row));
      }
      if (a.out_q) {
        const QuantizedLane q = quantize_lane(y);
        a.out_q[row / 32 * 32 + chunk_byte(row % 32)] = static_cast<uint8_t>(q.q);
        if (row % 32 == 0) a.out_s[row / 32] = q.scale;
        continue;
      }
      if (!inside) continue;
    } else if (a.epilogue == Epilogue::kAdd) {
      y = __fadd_rn(i < kTokenThreads ? residual : __ldcg(s.out + row), __fmul_rn(y, a.scale));
    } else if (a.epilogue == Epilogue::kHead) {
      y = __fmul_rn(y, a.scale);
      if (a.softcap > 0.0f) y = softcap_call(y, a.softcap);
    }
    s.out[row] = y;
  }
}

template <TensorType F>
__device__ __forceinline__ void token_block(const LinearArgs& a, uint8_t* shared) {
  using T = TokenSet<F>;
  const TokenShared layout = token_shared<F>(a);
  const uint32_t warp = __shfl_sync(~0u, threadIdx.x >> 5, 0);  // known to be the same in the whole warp
  const uint32_t lane = threadIdx.x & 31;
  uint8_t* slot = shared + 2 * warp * T::kBytes;
  uint64_t* barrier = reinterpret_cast<uint64_t*>(shared + layout.barriers_at) + warp;
  float* parts = reinterpret_cast<float*>(shared + layout.parts_at);
  uint8_t* codes = shared + layout.codes_at;
  float2* scales = reinterpret_cast<float2*>(shared + layout.scales_at);

  const BlockShare share = share_of(a);
  const Segment& segment = a.segments[share.segment];
  const uint32_t n_pairs = (share.n_tiles + 1) / 2, pair_step = kTokenWarps >> segment.strip_shift;
  // The warp's strip, and how many units of it the set that begins at a unit has. Where there is a stream 2,
  // sets end where 256 elements do, so that one piece of it serves them.
  const uint32_t strip = warp & (segment.strips - 1);
  const uint32_t begin = (a.n_units * strip) >> segment.strip_shift;
  const uint32_t end = (a.n_units * (strip + 1)) >> segment.strip_shift;
  const auto units_from = [&](uint32_t from) {
    const uint32_t to = T::kShape.super_bytes != 0 ? (from / T::kUnits + 1) * T::kUnits : from + T::kUnits;
    return min(end, to) - from;
  };
#if __CUDA_ARCH__ >= 900
  if (lane == 0) barrier_init(barrier);
  __syncwarp();
#endif
  uint32_t pair = warp >> segment.strip_shift, unit = begin;
  PairData data = {};
  if (pair < n_pairs) {
    data = pair_data<F>(a, share, pair);
    fetch_set<F>(data, unit, units_from(unit), slot, barrier);
  }
  NormWeights weights;
  if (a.x) weights = load_norm_weights(a.norm, threadIdx.x * 8 < a.cols ? threadIdx.x * 8 : 0);
  // The next kernel's first fetches keep the memory busy while this one streams its weights, but they would
  // stand before the loads of its input: a short kernel lets the next one start later.
  if (a.early) launch_dependents();
  wait_for_inputs();
  if (a.x) {
    normalise_and_quantize(a, weights, parts, codes, scales);
  } else {
    load_quantized(a, codes, scales);
  }
  __syncthreads();
  if (!a.early) launch_dependents();
  const float residual = load_residual(a, share);

  float acc = 0.0f;
#pragma unroll 1
  for (uint32_t round = 0; pair < n_pairs; ++round) {
    const uint32_t this_unit = unit, this_pair = pair, n = units_from(unit);
    unit += n;
    const bool last = unit == end;
    wait_set(barrier, round & 1);
    SetRegisters<F> set;
    load_set(slot, lane, &set);
    __syncwarp();  // the slot has been read
    if (last) {
      unit = begin;
      pair += pair_step;
      if (pair < n_pairs) data = pair_data<F>(a, share, pair);
    }
    if (pair < n_pairs) fetch_set<F>(data, unit, units_from(unit), slot, barrier);
    acc = chain_set(set, min(2 * n, a.n_groups - 2 * this_unit), codes + this_unit * kUnit,
                    scales + 2 * this_unit, lane, acc);
    if (last) {
      const LaneRow own = row_of_lane(lane);
      parts[(((2 * this_pair + own.tile) << segment.strip_shift) + strip) * kTileRows + own.row] = acc;
      acc = 0.0f;
    }
  }
  __syncthreads();
  finish_token(a, parts, share, residual);
}

// Segments before LinearArgs::other_segment are of format F, those from it on of format G.
template <TensorType F, TensorType G>
__global__ void __launch_bounds__(kTokenThreads, 2) token_kernel(const __grid_constant__ LinearArgs a) {
  extern __shared__ __align__(128) uint8_t shared[];
  if constexpr (F != G) {
    if (blockIdx.x >= a.other_block) return token_block<G>(a, shared);
  }
  token_block<F>(a, shared);
}

template <TensorType F, TensorType G = F>
void launch_token(Calls* calls, uint32_t n_sm, LinearArgs args) {
  uint32_t tile_bytes[3];
  for (uint32_t i = 0; i < 3; ++i)
    tile_bytes[i] = args.n_units * packed_shape(i < args.other_segment ? F : G).unit_bytes;
  LaunchShape shape;
  shape.block = dim3(kTokenThreads);
  const auto deal = [&](uint32_t blocks_per_sm) {
    shape.grid = dim3(deal_tiles(args, n_sm * blocks_per_sm, tile_bytes));
    shape.shared_bytes = std::max(token_shared<F>(args).bytes, token_shared<G>(args).bytes);
    return calls->blocks_per_sm(shape.shared_bytes) >= blocks_per_sm;
  };
  if (args.epilogue != Epilogue::kHead || !deal(kHeadBlocksPerSm)) deal(1);
  calls->launch("linear, one token", token_kernel<F, G>, shape, args);
}

}  // namespace orcd::cuda
