// The matrix kernel of the block formats for one token (rule N3): decode. All 8 columns of the tensor-core
// product are used, each for another group of K; then lane = row walks the groups' sums as its chain.
//
// A block owns whole tiles of 16 rows; (tile, strip) pairs are dealt to streams, two to a warp: lanes 0..15
// are the rows of one stream's tile, lanes 16..31 those of the other's. A stream keeps its next set of units
// on the way in shared memory, from before the kernel's input is ready.
#pragma once

#include <algorithm>

#include "device/cuda/linear_formats.cuh"

namespace orcd::cuda {

inline constexpr uint32_t kTokenWarps = 16;
inline constexpr uint32_t kStreams = 2 * kTokenWarps;
inline constexpr uint32_t kEarlyBytes =
    16 * 1024;                              // of a block's weights: a longer kernel (LinearArgs::early)
inline constexpr uint32_t kSumStride = 36;  // words of a column of sums: 32 rows, and no bank conflicts

template <TensorType F>
struct TokenSet {
  static constexpr PackedShape kShape = packed_shape(F);
  static constexpr uint32_t kUnits = F == TensorType::kQ6_K || F == TensorType::kQ8_0 ? 2 : 4;
  static constexpr uint32_t kGroups = 2 * kUnits;
  static constexpr uint32_t kColumns = F == TensorType::kQ6_K ? 2 : 1;  // a group's; Q6_K: one a half
  static constexpr uint32_t kUnitBytes = kUnits * kShape.unit_bytes;
  static constexpr uint32_t kBytes = kUnitBytes + kShape.super_bytes;
};

// Shared memory: sets of all streams and a barrier for each, then the sums of all warps and the partial
// results, whose place holds the f32 row while it is normalised; then the quantised row.
struct TokenShared {
  uint32_t barriers_at, sums_at, parts_at, codes_at, scales_at, bytes;
};
template <TensorType F>
__host__ __device__ inline TokenShared token_shared(const LinearArgs& a) {
  TokenShared s;
  s.barriers_at = kStreams * TokenSet<F>::kBytes;
  s.sums_at = s.barriers_at + kStreams * 8;
  s.parts_at = s.sums_at + kTokenWarps * 8 * kSumStride * 4;
  s.codes_at = s.parts_at + a.tiles_per_block * a.max_strips * kTileRows * 4;
  const uint32_t row_bytes = a.x ? (a.cols + 256) * 4 : 0;
  if (s.codes_at - s.sums_at < row_bytes) s.codes_at = s.sums_at + row_bytes;
  s.codes_at = (s.codes_at + 15) / 16 * 16;
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

// A lane's own stream: the set that it is at, units [unit, unit + n) of a tile's strip that ends at `end`.
struct Stream {
  uint32_t item, unit, n, end;  // n = 0: no more
  const uint8_t* units;         // of the tile
  const uint8_t* super;

  // Sets end where 256 elements do, so that one piece of stream 2 serves them.
  template <TensorType F>
  __device__ __forceinline__ void take() {
    constexpr uint32_t kUnits = TokenSet<F>::kUnits;
    n = min(end, (unit / kUnits + 1) * kUnits) - unit;
  }
  // The first item from `item` on that has units.
  template <TensorType F>
  __device__ __forceinline__ void seek(const LinearArgs& a, uint32_t first_tile, uint32_t n_items) {
    n = 0;
#pragma unroll 1
    for (; item < n_items; item += kStreams) {
      const uint32_t strip = item & (a.max_strips - 1);
      const TilePlace at = place_of(a, first_tile + (item >> a.max_shift));
      const Segment& segment = a.segments[at.segment];
      if (strip >= segment.strips || at.tile >= segment.n_tiles) continue;
      unit = (a.n_units * strip) >> segment.strip_shift;
      end = (a.n_units * (strip + 1)) >> segment.strip_shift;
      units = segment.data + static_cast<uint64_t>(at.tile) * a.n_units * packed_shape(F).unit_bytes;
      super = segment.data + segment.super_at + static_cast<uint64_t>(at.tile) * a.super_stride;
      return take<F>();
    }
  }
  template <TensorType F>
  __device__ __forceinline__ void advance(const LinearArgs& a, uint32_t first_tile, uint32_t n_items) {
    unit += n;
    if (unit < end) return take<F>();
    item += kStreams;
    seek<F>(a, first_tile, n_items);
  }
};

// Starts the copy of the set that half h of the warp is at into its slot.
template <TensorType F>
__device__ __forceinline__ void fetch_set(const Stream& s, uint32_t h, uint8_t* slot, uint64_t* barrier) {
  using T = TokenSet<F>;
  const uint32_t lane = threadIdx.x & 31;
  const uint8_t* from = s.units + static_cast<uint64_t>(s.unit) * T::kShape.unit_bytes;
  const uint8_t* super = s.super + (s.unit / 4) * T::kShape.super_bytes;
#if __CUDA_ARCH__ >= 900
  if (lane != 16 * h || s.n == 0) return;
  const uint32_t bytes = s.n * T::kShape.unit_bytes;
  barrier_expect(barrier, bytes + T::kShape.super_bytes);
  bulk_copy(slot, from, bytes, barrier);
  if constexpr (T::kShape.super_bytes != 0)
    bulk_copy(slot + T::kUnitBytes, super, T::kShape.super_bytes, barrier);
#else
  const uint32_t n_chunks = __shfl_sync(~0u, s.n, 16 * h) * (T::kShape.unit_bytes / 16);
  from = reinterpret_cast<const uint8_t*>(__shfl_sync(~0u, reinterpret_cast<uint64_t>(from), 16 * h));
  super = reinterpret_cast<const uint8_t*>(__shfl_sync(~0u, reinterpret_cast<uint64_t>(super), 16 * h));
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(slot));
#pragma unroll 1
  for (uint32_t i = lane; i < n_chunks; i += 32) copy_async16(to + i * 16, from + i * 16);
  if (n_chunks != 0 && lane < T::kShape.super_bytes / 16)
    copy_async16(to + T::kUnitBytes + lane * 16, super + lane * 16);
  copy_async_commit();
#endif
}

// Until the older of the two sets on their way is there.
__device__ __forceinline__ void wait_set(uint64_t* barrier, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  barrier_wait(barrier, parity);
#else
  copy_async_wait<1>();
  __syncwarp();
#endif
}

// The input of the launch into shared memory: normalised and quantised here, or as the last kernel left it.
__device__ __forceinline__ void prepare_token(const LinearArgs& a, float* row, uint8_t* codes,
                                              float2* scales) {
  constexpr uint32_t kThreads = kTokenWarps * 32;
  if (!a.x) {
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < a.cols / 16; i += kThreads)
      reinterpret_cast<uint4*>(codes)[i] = __ldcg(reinterpret_cast<const uint4*>(a.token_q) + i);
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < a.n_groups; i += kThreads) scales[i] = __ldcg(a.token_s + i);
    __syncthreads();
    return;
  }
  const float* x = a.x + static_cast<uint64_t>(a.row_index ? __ldcg(a.row_index) : 0) * a.cols;
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < a.cols / 4; i += kThreads)
    reinterpret_cast<float4*>(row + 256)[i] = __ldcg(reinterpret_cast<const float4*>(x) + i);
  __syncthreads();
  const RowNorm norm = row_statistics(LoadShared{row + 256}, a.cols, a.norm, row);
  const uint32_t n_octets = a.cols / 8;
#pragma unroll 1
  for (uint32_t first = threadIdx.x & ~31u; first < n_octets; first += kThreads) {
    const uint32_t octet = first + (threadIdx.x & 31);
    const bool inside = octet < n_octets;
    float v[8] = {};
    if (inside) normalise_octet(row + 256 + octet * 8, octet * 8, a.norm, norm, v);
    const QuantizedOctet q = quantize_octet(v);
    if (!inside) continue;
    uint8_t* group = codes + octet / 4 * 32;
    *reinterpret_cast<uint32_t*>(group + chunk_byte(octet % 4 * 8)) = q.words[0];
    *reinterpret_cast<uint32_t*>(group + chunk_byte(octet % 4 * 8 + 4)) = q.words[1];
    if (octet % 4 == 0) scales[octet / 4] = q.scale;
  }
  __syncthreads();
}

// Sums of n units from `unit` on into the warp's columns: [column][32 rows], rows 16 * half .. of this
// stream.
template <TensorType F>
__device__ __forceinline__ void sum_set(uint32_t unit, uint32_t n, uint32_t n_groups, const uint8_t* slot,
                                        const uint8_t* codes, int32_t* sums) {
  using T = TokenSet<F>;
  const uint32_t lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  // Lane column g of B holds the group that this column belongs to, and is zero for the others.
  const uint32_t group = g / T::kColumns;
  uint2 x = *reinterpret_cast<const uint2*>(codes + (unit * 2 + group) * 32 + t * 8);
  if (group >= n_groups) x = make_uint2(0, 0);
  if constexpr (T::kColumns == 2) (g & 1 ? x.x : x.y) = 0;
  int k[2][4] = {};
#pragma unroll
  for (uint32_t u = 0; u < T::kUnits; ++u) {
    if (u < n) {
      const LaneBits bits = load_bits<F>(slot + u * T::kShape.unit_bytes, lane);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        uint32_t regs[4];
        scaled_codes<F>(bits, h, regs);
        const bool mine = group == 2 * u + h;
        mma_group<F>(k[h], regs, mine ? x.x : 0, mine ? x.y : 0);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[(2 * t + i % 2) * kSumStride + g + 8 * (i / 2)] = k[0][i] + k[1][i];
}

// The chain of the lane's row over a set. Units past set.n were not loaded: their groups are never reached.
template <TensorType F>
__device__ __forceinline__ float chain_set(const RowScales<F> (&row)[TokenSet<F>::kUnits], float2 super,
                                           uint32_t n_groups, const float2* x, const int32_t* sums,
                                           float acc) {
  using T = TokenSet<F>;
#pragma unroll
  for (uint32_t u = 0; u < T::kUnits; ++u) {
    const float4 both = *reinterpret_cast<const float4*>(x + 2 * u);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint32_t group = 2 * u + h;
      const float2 xs = h ? make_float2(both.z, both.w) : make_float2(both.x, both.y);
      int32_t isum;
      if constexpr (F == TensorType::kQ6_K) {
        const int32_t low = sums[2 * group * kSumStride], high = sums[(2 * group + 1) * kSumStride];
        isum = (half_scale(row[u].words[0], h, 0) * low + half_scale(row[u].words[0], h, 1) * high) >>
               code_shift<F>(h);
      } else {
        isum = sums[group * kSumStride] >> code_shift<F>(h);
      }
      const float next = chain_link<F>(group_factors<F>(row[u], super, h), isum, xs, acc);
      acc = group < n_groups ? next : acc;
    }
  }
  return acc;
}

// What the thread's first output is added to, long before it is needed.
__device__ __forceinline__ float load_residual(const LinearArgs& a, uint32_t first_tile, uint32_t n_tiles) {
  if (a.epilogue != Epilogue::kAdd || threadIdx.x >= n_tiles * kTileRows) return 0.0f;
  const TilePlace at = place_of(a, first_tile + threadIdx.x / kTileRows);
  const uint32_t row = at.tile * kTileRows + threadIdx.x % kTileRows;
  return row < a.segments[at.segment].rows ? __ldcg(a.segments[at.segment].out + row) : 0.0f;
}

// Outputs of the block's tiles, a thread a row; GLU: a warp the 32 rows of a group.
__device__ __forceinline__ void finish_token(const LinearArgs& a, const float* parts, uint32_t first_tile,
                                             uint32_t n_tiles, float residual) {
  const bool glu = a.epilogue == Epilogue::kGlu;
  const uint32_t n_rows = (glu ? n_tiles / 2 : n_tiles) * kTileRows;
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < n_rows; i += kTokenWarps * 32) {
    const uint32_t in_tile = i % kTileRows;
    const uint32_t local = glu ? i / 32 * 4 + i / kTileRows % 2 : i / kTileRows;
    const TilePlace at = place_of(a, first_tile + local);
    const Segment& s = a.segments[at.segment];
    const uint32_t row = at.tile * kTileRows + in_tile;
    const bool inside = row < s.rows;
    if (!glu && !inside) continue;
    const float* from = parts + local * a.max_strips * kTileRows + in_tile;
    float y = inside ? fold(from, s.strips, kTileRows, s.bias, row) : 0.0f;
    if (glu) {
      const Segment& up = a.segments[1];
      if (inside) {
        y = __fmul_rn(activate(a.activation, y),
                      fold(from + 2 * a.max_strips * kTileRows, up.strips, kTileRows, up.bias, row));
      }
      if (a.out_q) {
        const QuantizedLane q = quantize_lane(y);
        a.out_q[row / 32 * 32 + chunk_byte(row % 32)] = static_cast<uint8_t>(q.q);
        if (row % 32 == 0) a.out_s[row / 32] = q.scale;
        continue;
      }
      if (!inside) continue;
    } else if (a.epilogue == Epilogue::kAdd) {
      y = __fadd_rn(i < kTokenWarps * 32 ? residual : __ldcg(s.out + row), y);
    } else if (a.epilogue == Epilogue::kHead) {
      y = __fmul_rn(y, a.scale);
      if (a.softcap > 0.0f) y = softcap_call(y, a.softcap);
    }
    s.out[row] = y;
  }
}

template <TensorType F>
__global__ void __launch_bounds__(kTokenWarps * 32, 2) token_kernel(const LinearArgs a) {
  using T = TokenSet<F>;
  extern __shared__ __align__(128) uint8_t shared[];
  const TokenShared layout = token_shared<F>(a);
  const uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31, half = lane / 16, row = lane % 16;
  uint8_t* slots = shared + 2 * warp * T::kBytes;
  uint64_t* barriers = reinterpret_cast<uint64_t*>(shared + layout.barriers_at) + 2 * warp;
  int32_t* sums = reinterpret_cast<int32_t*>(shared + layout.sums_at) + warp * 8 * kSumStride;
  float* parts = reinterpret_cast<float*>(shared + layout.parts_at);
  uint8_t* codes = shared + layout.codes_at;
  float2* scales = reinterpret_cast<float2*>(shared + layout.scales_at);

  // The first extra_steps blocks have a step more.
  const uint32_t extra = blockIdx.x < a.extra_steps ? 1 : 0;
  const uint32_t first_tile = (blockIdx.x * a.steps_per_block + min(blockIdx.x, a.extra_steps)) * a.tile_step;
  const uint32_t n_tiles = (a.steps_per_block + extra) * a.tile_step;
  const uint32_t n_items = n_tiles * a.max_strips;
#if __CUDA_ARCH__ >= 900
  if (row == 0) barrier_init(barriers + half);
  __syncwarp();
#endif
  Stream next = {2 * warp + half, 0, 0, 0, nullptr, nullptr};
  next.template seek<F>(a, first_tile, n_items);
#pragma unroll 1
  for (uint32_t h = 0; h < 2; ++h) fetch_set<F>(next, h, slots + h * T::kBytes, barriers + h);
  // The next kernel's first fetches keep the memory busy while this one streams its weights, but they would
  // stand before the loads of its input: a short kernel lets the next one start later.
  if (a.early) launch_dependents();
  wait_for_inputs();
  prepare_token(a, reinterpret_cast<float*>(shared + layout.sums_at), codes, scales);
  if (!a.early) launch_dependents();
  const float residual = load_residual(a, first_tile, n_tiles);

  float acc = 0.0f;
#pragma unroll 1
  for (uint32_t round = 0; __any_sync(~0u, next.n != 0); ++round) {
    const uint32_t item = next.item, unit = next.unit, n = next.n;
    const bool last = n != 0 && unit + n == next.end;
    const uint32_t n_groups = min(2 * n, a.n_groups - 2 * unit);
    if (n != 0) next.template advance<F>(a, first_tile, n_items);
    __syncwarp();
    RowScales<F> row_scales[T::kUnits] = {};
    float2 super = make_float2(0.0f, 0.0f);
#pragma unroll 1
    for (uint32_t h = 0; h < 2; ++h) {
      const uint32_t n_h = __shfl_sync(~0u, n, 16 * h), unit_h = __shfl_sync(~0u, unit, 16 * h);
      uint8_t* slot = slots + h * T::kBytes;
      if (n_h != 0) {
        wait_set(barriers + h, round & 1);
        sum_set<F>(unit_h, n_h, min(2 * n_h, a.n_groups - 2 * unit_h), slot, codes, sums + h * 16);
        if (half == h) {
#pragma unroll
          for (uint32_t u = 0; u < T::kUnits; ++u)
            row_scales[u] = load_row_scales<F>(slot + u * T::kShape.unit_bytes, row);
          super = load_row_super<F>(slot + T::kUnitBytes, row);
        }
        __syncwarp();  // the slot has been read by every lane
      }
      fetch_set<F>(next, h, slot, barriers + h);
    }
    __syncwarp();
    acc = chain_set<F>(row_scales, super, n_groups, scales + 2 * unit, sums + lane, acc);
    if (last) {
      parts[item * kTileRows + row] = acc;
      acc = 0.0f;
    }
    __syncwarp();  // the sums have been read
  }
  __syncthreads();
  finish_token(a, parts, first_tile, n_tiles, residual);
}

template <TensorType F>
void launch_token(Calls* calls, uint32_t n_sm, LinearArgs args) {
  args.tile_step = 1;
  if (args.epilogue == Epilogue::kGlu) {
    args.tile_step = 4;
    args.n_tiles = (args.segments[0].rows + 31) / 32 * 4;
  }
  const uint32_t steps = args.n_tiles / args.tile_step;
  // A block a multiprocessor; more where the partial results of a block would pass 16 KiB.
  const uint32_t most = std::max(1u, 256 / (args.max_strips * args.tile_step));
  const uint32_t n_blocks = std::max(std::min(steps, n_sm), (steps + most - 1) / most);
  args.steps_per_block = steps / n_blocks;
  args.extra_steps = steps % n_blocks;
  args.tiles_per_block = (steps + n_blocks - 1) / n_blocks * args.tile_step;
  args.early = args.tiles_per_block * args.n_units * packed_shape(F).unit_bytes > kEarlyBytes;
  LaunchShape shape;
  shape.grid = dim3(n_blocks);
  shape.block = dim3(kTokenWarps * 32);
  shape.shared_bytes = token_shared<F>(args).bytes;
  calls->launch("linear, one token", token_kernel<F>, shape, args);
}

}  // namespace orcd::cuda
