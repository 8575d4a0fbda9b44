// The matrix kernel of the block formats, for 1 to 64 tokens at a time: int8 tensor cores inside a group, one
// fma chain a strip, strips folded left (rule N3). Weights stream through a ring in shared memory that each
// warp keeps full by itself, from before the kernel's inputs are ready; the order of the chains does not
// depend on any of that.
#pragma once

#include "device/cuda/activations.cuh"
#include "device/cuda/ptx.cuh"

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
    c->super_data = s.data + s.super_at + static_cast<uint64_t>(tile) * a.super_stride;
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

// Four registers of A for group h of a unit, from what the lane loaded.
struct LaneBits {
  uint4 low;     // nibbles, or Q8_0's first group
  uint4 second;  // Q8_0's second group
  uint32_t high[2];
};

template <TensorType F>
__device__ __forceinline__ LaneBits load_bits(const uint8_t* stage, uint32_t lane) {
  LaneBits bits;
  bits.low = *reinterpret_cast<const uint4*>(stage + lane * 16);
  if constexpr (F == TensorType::kQ8_0)
    bits.second = *reinterpret_cast<const uint4*>(stage + 512 + lane * 16);
  if constexpr (has_fifth_bit(F)) bits.high[0] = *reinterpret_cast<const uint32_t*>(stage + 512 + lane * 4);
  if constexpr (F == TensorType::kQ6_K) {
    const uint2 high = *reinterpret_cast<const uint2*>(stage + 512 + lane * 8);
    bits.high[0] = high.x;
    bits.high[1] = high.y;
  }
  return bits;
}

__device__ __forceinline__ uint32_t shift_left(uint32_t x, int by) { return by >= 0 ? x << by : x >> -by; }

template <TensorType F>
__device__ __forceinline__ void unpack(const LaneBits& bits, int h, uint32_t (&reg)[4]) {
  const uint32_t low[4] = {bits.low.x, bits.low.y, bits.low.z, bits.low.w};
  if constexpr (F == TensorType::kQ8_0) {
    const uint32_t second[4] = {bits.second.x, bits.second.y, bits.second.z, bits.second.w};
#pragma unroll
    for (int r = 0; r < 4; ++r) reg[r] = h ? second[r] : low[r];
  } else {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      reg[r] = (h ? low[r] >> 4 : low[r]) & 0x0f0f0f0fu;
      if constexpr (has_fifth_bit(F)) reg[r] |= shift_left(bits.high[0], 4 - (4 * h + r)) & 0x10101010u;
      if constexpr (F == TensorType::kQ6_K) reg[r] |= shift_left(bits.high[h], 4 - 2 * r) & 0x30303030u;
    }
  }
}

// Factors of a lane's two rows for the unit's two groups.
struct LaneScales {
  float d[2][2], m[2][2];  // [h][row]; K-quants: [0] for both
  int32_t sc[2][2], mn[2][2];
};

template <TensorType F>
__device__ __forceinline__ LaneScales load_scales(const uint8_t* stage, uint32_t g) {
  constexpr PackedShape kShape = packed_shape(F);
  LaneScales s;
  const uint8_t* at = stage + kShape.scales_at;
  if constexpr (F == TensorType::kQ4_1 || F == TensorType::kQ5_1) {
    const uint4 v = *reinterpret_cast<const uint4*>(at + g * 16);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 dm = half_pair(words[i]);
      s.d[i / 2][i % 2] = dm.x;
      s.m[i / 2][i % 2] = dm.y;
    }
  } else {
    const uint2 v = *reinterpret_cast<const uint2*>(at + g * 8);
    if constexpr (kShape.super_bytes == 0) {
      const float2 first = half_pair(v.x), second = half_pair(v.y);
      s.d[0][0] = first.x;
      s.d[0][1] = first.y;
      s.d[1][0] = second.x;
      s.d[1][1] = second.y;
    } else if constexpr (F == TensorType::kQ6_K) {
      const float2 d = half_pair(*reinterpret_cast<const uint32_t*>(stage + kShape.unit_bytes + g * 4));
      s.d[0][0] = d.x;
      s.d[0][1] = d.y;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          const uint32_t word = row ? v.y : v.x;
          s.sc[h][row] = static_cast<int8_t>(word >> (16 * h));
          s.mn[h][row] = static_cast<int8_t>(word >> (16 * h + 8));  // the second half's scale
        }
      }
    } else {
      const uint2 super = *reinterpret_cast<const uint2*>(stage + kShape.unit_bytes + g * 8);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const float2 dm = half_pair(row ? super.y : super.x);
        const uint32_t word = row ? v.y : v.x;
        s.d[0][row] = dm.x;
        s.m[0][row] = -dm.y;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          s.sc[h][row] = (word >> (16 * h)) & 255;
          s.mn[h][row] = (word >> (16 * h + 8)) & 255;
        }
      }
    }
  }
  return s;
}

// Sum of the two int16 halves, each times a small factor.
__device__ __forceinline__ int32_t weighted_sum(float packed, int8_t low, int8_t high) {
  return __dp2a_lo(
      static_cast<int>(numerics::float_bits(packed)),
      static_cast<int>((static_cast<uint32_t>(low) & 255u) | (static_cast<uint32_t>(high) & 255u) << 8), 0);
}

// One link of the chains of a lane: two rows times one (one token) or two columns.
template <TensorType F, int kColumns>
__device__ __forceinline__ void link(const uint32_t (&reg)[4], const LaneScales& s, int h, uint32_t b0,
                                     uint32_t b1, const float2 (&x)[kColumns], float (&acc)[2 * kColumns]) {
  constexpr int kStep = kColumns == 2 ? 1 : 2;  // one token: c0 and c2 alone
  constexpr bool kSuper = packed_shape(F).super_bytes != 0;
  constexpr int8_t kCentre = static_cast<int8_t>(-centre_of(F));
  int32_t k[4] = {0, 0, 0, 0}, k2[4] = {0, 0, 0, 0};
  if constexpr (F == TensorType::kQ6_K) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      k[c] = k[c + 2] = weighted_sum(x[c].y, kCentre, 0);
      k2[c] = k2[c + 2] = weighted_sum(x[c].y, 0, kCentre);
    }
    mma_s8_half(k, reg[0], reg[1], b0);
    mma_s8_half(k2, reg[2], reg[3], b1);
  } else {
    if constexpr (kCentre != 0) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) k[c] = k[c + 2] = weighted_sum(x[c].y, kCentre, kCentre);
    }
    mma_s8(k, reg[0], reg[1], reg[2], reg[3], b0, b1);
  }
  (void)kStep;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    [[maybe_unused]] const int32_t sum = numerics::has_minimum(F) ? weighted_sum(x[c].y, 1, 1) : 0;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int hd = kSuper ? 0 : h;
      float& chain = acc[row * kColumns + c];
      int32_t isum = k[row * 2 + c];
      if constexpr (F == TensorType::kQ6_K) {
        isum = s.sc[h][row] * isum + s.mn[h][row] * k2[row * 2 + c];
      } else if constexpr (kSuper) {
        isum = s.sc[h][row] * isum;
      }
      chain = __fmaf_rn(__fmul_rn(s.d[hd][row], x[c].x), static_cast<float>(isum), chain);
      if constexpr (F == TensorType::kQ4_K || F == TensorType::kQ5_K) {
        chain = __fmaf_rn(__fmul_rn(s.m[0][row], x[c].x), static_cast<float>(s.mn[h][row] * sum), chain);
      } else if constexpr (F == TensorType::kQ4_1 || F == TensorType::kQ5_1) {
        chain = __fmaf_rn(__fmul_rn(s.m[h][row], x[c].x), static_cast<float>(sum), chain);
      }
    }
  }
}

// The output of one (row, token): strips folded left, bias added.
__device__ __forceinline__ float fold(const float* part, uint32_t strips, uint32_t stride, const float* bias,
                                      uint32_t row) {
  float y = part[0];
  for (uint32_t s = 1; s < strips; ++s) y = __fadd_rn(y, part[s * stride]);
  return bias ? __fadd_rn(y, __ldg(bias + row)) : y;
}

// kTiles8: tiles of 8 tokens; 0: one token, whose row the block normalises and quantises in shared memory.
template <int kTiles8>
__device__ __forceinline__ void fold_round(const LinearArgs& a, const float* part, uint32_t first_tile,
                                           uint32_t n_tiles, uint32_t first_token) {
  constexpr uint32_t kTokens = kTiles8 == 0 ? 1 : kTiles8 * 8;
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
      y = __fmul_rn(activate(a.activation, y),
                    fold(from + a.max_strips * stride, s.strips, stride, a.segments[1].bias, row));
    } else if (a.epilogue == Epilogue::kAdd) {
      y = __fadd_rn(__ldcg(out), y);
    } else if (a.epilogue == Epilogue::kHead) {
      y = __fmul_rn(y, a.scale);
      if (a.softcap > 0.0f) y = numerics::softcap(y, a.softcap);
    }
    *out = y;
  }
}

template <int kTiles8>
constexpr uint32_t part_floats(uint32_t items_per_warp) {
  return items_per_warp * kLinearWarps * kTileRows * (kTiles8 == 0 ? 1 : kTiles8 * 8);
}

// Shared memory: rings of all warps, partial results, and for one token its row: units, scales, 256 floats.
template <TensorType F, int kTiles8>
uint32_t linear_shared_bytes(const LinearArgs& a) {
  uint32_t bytes =
      kLinearWarps * Stage<F>::kDepth * Stage<F>::kBytes + part_floats<kTiles8>(a.items_per_warp) * 4;
  if (kTiles8 == 0) bytes += a.n_units * 64 + a.n_units * 2 * 8 + 1024;
  return bytes;
}

template <TensorType F, int kTiles8>
__global__ void __launch_bounds__(kLinearWarps * 32, kTiles8 <= 1 ? 2 : 1) linear_kernel(const LinearArgs a) {
  using S = Stage<F>;
  constexpr int kTiles = kTiles8 == 0 ? 1 : kTiles8;
  constexpr int kColumns = kTiles8 == 0 ? 1 : 2;
  extern __shared__ __align__(128) uint8_t shared[];
  const uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  uint8_t* ring = shared + warp * S::kDepth * S::kBytes;
  float* part = reinterpret_cast<float*>(shared + kLinearWarps * S::kDepth * S::kBytes);
  uint8_t* row_q = reinterpret_cast<uint8_t*>(part + part_floats<kTiles8>(a.items_per_warp));
  float2* row_s = reinterpret_cast<float2*>(row_q + a.n_units * 64);
  const uint32_t ring_address = static_cast<uint32_t>(__cvta_generic_to_shared(ring));

  const uint32_t first_tile = blockIdx.x * a.tiles_per_block;
  const uint32_t last_tile = min(first_tile + a.tiles_per_block, a.n_tiles);
  const uint32_t n_items = (last_tile - first_tile) * a.max_strips;
  const uint32_t first_token = blockIdx.y * kTiles * 8;

  launch_dependents();
  Cursor ahead = {warp, 0, 0, nullptr, nullptr};
  seek<F>(a, first_tile, n_items, &ahead);
#pragma unroll 1
  for (uint32_t i = 0; i < S::kDepth - 1; ++i)
    fetch<F>(a, first_tile, n_items, ring_address + i * S::kBytes, &ahead);

  wait_for_inputs();
  if constexpr (kTiles8 == 0) {
    float* red = reinterpret_cast<float*>(row_s + a.n_units * 2);
    const float* x = a.x + static_cast<uint64_t>(a.row_index ? __ldcg(a.row_index) : 0) * a.cols;
    const RowNorm row = row_statistics(x, a.cols, a.norm, red);
    quantize_row(x, a.cols, a.norm, row, row_q, 64, 0, row_s, 1);
    __syncthreads();
  }

  Cursor now = {warp, 0, 0, nullptr, nullptr};
  seek<F>(a, first_tile, n_items, &now);
  const uint32_t round_items = a.items_per_warp * kLinearWarps;
  uint32_t step = 0;
  for (uint32_t round = 0; round < n_items; round += round_items) {
    while (now.item < n_items && now.item < round + round_items) {
      float acc[kTiles][2 * kColumns];
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 2 * kColumns; ++i) acc[n][i] = 0.0f;
      }
      for (uint32_t unit = now.unit; unit < now.end; ++unit, ++step) {
        const uint8_t* stage = ring + (step % S::kDepth) * S::kBytes;
        copy_async_wait<S::kDepth - 2>();
        __syncwarp();
        // The stage read one step ago is free for every lane now.
        fetch<F>(a, first_tile, n_items, ring_address + ((step + S::kDepth - 1) % S::kDepth) * S::kBytes,
                 &ahead);
        const LaneBits bits = load_bits<F>(stage, lane);
        const LaneScales scales = load_scales<F>(stage, g);
        uint32_t regs[2][4];
        unpack<F>(bits, 0, regs[0]);
        unpack<F>(bits, 1, regs[1]);
        const int n_halves = 2 * unit + 1 < a.n_groups ? 2 : 1;
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          uint4 xv;
          float2 xs[2][kColumns];
          if constexpr (kTiles8 == 0) {
            xv = *reinterpret_cast<const uint4*>(row_q + (unit * 4 + t) * 16);
            const float4 both = *reinterpret_cast<const float4*>(row_s + unit * 2);
            xs[0][0] = make_float2(both.x, both.y);
            xs[1][0] = make_float2(both.z, both.w);
          } else {
            const uint32_t tile8 = first_token / 8 + n;
            if (tile8 * 8 >= a.n_tokens) break;
            xv = a.xq[(static_cast<uint64_t>(tile8) * a.n_units + unit) * 32 + lane];
#pragma unroll
            for (int h = 0; h < 2; ++h) {
              const uint32_t group = min(2 * unit + h, a.n_groups - 1);
              const float4 pair = *reinterpret_cast<const float4*>(
                  a.xs + (static_cast<uint64_t>(tile8) * a.n_groups + group) * 8 + 2 * t);
              xs[h][0] = make_float2(pair.x, pair.y);
              if constexpr (kColumns == 2) xs[h][1] = make_float2(pair.z, pair.w);
            }
          }
          link<F, kColumns>(regs[0], scales, 0, xv.x, xv.y, xs[0], acc[n]);
          if (n_halves == 2) link<F, kColumns>(regs[1], scales, 1, xv.z, xv.w, xs[1], acc[n]);
        }
      }
      float* to = part + (now.item - round) * kTileRows * (kTiles8 == 0 ? 1 : kTiles * 8);
      if constexpr (kTiles8 == 0) {
        if (t == 0) {
          to[g] = acc[0][0];
          to[g + 8] = acc[0][1];
        }
      } else {
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) to[(g + 8 * (i / 2)) * kTiles * 8 + n * 8 + 2 * t + i % 2] = acc[n][i];
        }
      }
      now.item += kLinearWarps;
      seek<F>(a, first_tile, n_items, &now);
    }
    __syncthreads();
    const uint32_t tile = round >> a.max_shift;
    fold_round<kTiles8>(a, part, first_tile + tile,
                        min(round_items >> a.max_shift, last_tile - first_tile - tile), first_token);
    if (round + round_items < n_items) __syncthreads();
  }
}

template <TensorType F, int kTiles8>
void launch_tiles(Calls* calls, uint32_t n_sm, LinearArgs args) {
  args.items_per_warp = kTiles8 == 0 ? 8 : kTiles8 == 1 ? 4 : 1;
  // A gate and its up tile are folded together.
  if (args.epilogue == Epilogue::kGlu && args.items_per_warp * kLinearWarps < 2 * args.max_strips)
    args.items_per_warp = 2;
  const uint32_t step = args.epilogue == Epilogue::kGlu ? 2 : 1;
  // One token: issue slots are the limit, so two blocks share a multiprocessor.
  const uint32_t goal = kTiles8 == 0 ? 2 * n_sm : n_sm;
  args.tiles_per_block = (args.n_tiles / step + goal - 1) / goal * step;
  LaunchShape shape;
  shape.grid = dim3((args.n_tiles + args.tiles_per_block - 1) / args.tiles_per_block,
                    kTiles8 == 0 ? 1 : (args.n_tokens + kTiles8 * 8 - 1) / (kTiles8 * 8));
  shape.block = dim3(kLinearWarps * 32);
  shape.shared_bytes = linear_shared_bytes<F, kTiles8>(args);
  calls->launch("linear", linear_kernel<F, kTiles8>, shape, args);
}

template <TensorType F>
void launch_format(Calls* calls, uint32_t n_sm, const LinearArgs& args) {
  if (args.x) return launch_tiles<F, 0>(calls, n_sm, args);
  if (args.n_tokens <= 8) return launch_tiles<F, 1>(calls, n_sm, args);
  // Pairs of 16 strips each need twice the room for partial results.
  if (args.n_tokens <= 16 || (args.epilogue == Epilogue::kGlu && args.max_strips > 8))
    return launch_tiles<F, 2>(calls, n_sm, args);
  launch_tiles<F, 8>(calls, n_sm, args);
}

template <TensorType F>
void prepare_format(Calls* calls) {
  constexpr uint32_t kMost = 227 * 1024;
  calls->allow_shared(reinterpret_cast<const void*>(linear_kernel<F, 0>), kMost);
  calls->allow_shared(reinterpret_cast<const void*>(linear_kernel<F, 1>), kMost);
  calls->allow_shared(reinterpret_cast<const void*>(linear_kernel<F, 2>), kMost);
  calls->allow_shared(reinterpret_cast<const void*>(linear_kernel<F, 8>), kMost);
}

// One of these per format, each in its own translation unit.
#define ORCD_LINEAR_FORMAT(name)                                                    \
  void prepare_##name(Calls* calls) { prepare_format<TensorType::k##name>(calls); } \
  void launch_##name(Calls* calls, uint32_t n_sm, const LinearArgs& args) {         \
    launch_format<TensorType::k##name>(calls, n_sm, args);                          \
  }

}  // namespace orcd::cuda
