// The linear stages of the persistent kernel (persistent.h): a block's tiles lie whole in shared memory, so
// that all warps share them. First every (tile, unit) becomes links, a link a row and group; then a lane
// walks the chain of a row and strip, and the strips of a row, side by side in a warp, are folded and
// published.
#pragma once

#include "device/cuda/exact_math.cuh"
#include "device/cuda/exchange.cuh"
#include "device/cuda/linear_formats.cuh"
#include "device/cuda/persistent.h"
#include "device/cuda/persistent_layers.cuh"

namespace orcd::cuda {

#if __CUDA_ARCH__ >= 900
// Barriers at which all of them tell the loading warp what they have read, without waiting for it: of the
// linear stages, and last of the attention. It waits there.
__device__ __forceinline__ void tell_loader(uint32_t stage) {
  asm volatile("bar.arrive %0, %1;" ::"r"(2 + stage), "n"(kComputeThreads + 32) : "memory");
}
__device__ __forceinline__ void wait_for_readers(uint32_t stage) {
  asm volatile("bar.sync %0, %1;" ::"r"(2 + stage), "n"(kComputeThreads + 32) : "memory");
}

// Starts the copy of the block's share into its slot: stream 1 of all tiles, then stream 2. Without a share
// the barrier is arrived at all the same: who computes is never more than a layer ahead.
__device__ __forceinline__ void fetch_share(const PersistentLinear& l, uint32_t stage, uint8_t* slot,
                                            uint64_t* barrier) {
  const bool glu = stage == kGateUpStage;
  const PersistentShare share = share_of(l, glu, blockIdx.x);
  if (share.n_tiles == 0) return barrier_arrive(barrier);
  const PackedShape shape = packed_shape(l.types[share.segment]);
  const uint32_t n_matrices = glu ? 2 : 1;
  const uint32_t unit_bytes = share.n_tiles * l.n_units * shape.unit_bytes;
  const uint32_t super_bytes = share.n_tiles * l.segments[share.segment].super_stride;
  barrier_expect(barrier, (unit_bytes + super_bytes) * n_matrices);
#pragma unroll 1
  for (uint32_t i = 0; i < n_matrices; ++i) {
    const Segment& s = l.segments[share.segment + i];
    bulk_copy(slot + i * unit_bytes,
              s.data + static_cast<uint64_t>(share.first_tile) * l.n_units * shape.unit_bytes, unit_bytes,
              barrier);
    if (super_bytes != 0) {
      bulk_copy(slot + n_matrices * unit_bytes + i * super_bytes,
                s.data + s.super_at + static_cast<uint64_t>(share.first_tile) * s.super_stride, super_bytes,
                barrier);
    }
  }
}

// A stage's input: the residual, normalised; each warp quantises the units that it will work on, and sees
// them behind a barrier of its own. All threads call it.
struct Norm {
  uint32_t cols, n_units;
  const float* weight;
  float eps, near_inverse;  // of cols
  float first[2];           // weights of the warp's first unit
};
__device__ __forceinline__ Norm norm_of(const PersistentLinear& l) {
  Norm norm = {l.cols, l.n_units, l.norm.weight, l.norm.eps, near_reciprocal(static_cast<float>(l.cols))};
  const uint32_t tid = thread_here();
#pragma unroll
  for (uint32_t j = 0; j < 2; ++j) {
    const uint32_t i = (tid >> 5) * kUnit + j * 32 + (tid & 31);
    norm.first[j] = i < norm.cols ? __ldg(norm.weight + i) : 0.0f;
  }
  return norm;
}
__device__ __forceinline__ void normed_input(const Norm& norm, const uint64_t* words, uint32_t tag,
                                             float* row, uint8_t* codes, float2* scales) {
  constexpr uint32_t kBatch = 4;
  float* red = row + norm.cols;
  const uint32_t tid = thread_here(), warp = tid >> 5, lane = tid & 31;
  if (tid < numerics::kLanes) {
    float sum = 0.0f;
#pragma unroll 1
    for (uint32_t first = tid; first < norm.cols; first += kBatch * numerics::kLanes) {
      const uint32_t n = min(kBatch, (norm.cols - 1 - first) / numerics::kLanes + 1);
      float value[kBatch];
      poll<kBatch>([&](uint32_t j) { return words + first + j * numerics::kLanes; }, n, tag, value);
#pragma unroll
      for (uint32_t j = 0; j < kBatch; ++j) {
        if (j >= n) break;
        row[first + j * numerics::kLanes] = value[j];
        sum = numerics::fma_rn(value[j], value[j], sum);
      }
    }
    red[tid] = sum;
  }
  compute_sync();
  const float inverse = inverse_rms(tree_of_shared(red), norm.cols, norm.near_inverse, norm.eps);
#pragma unroll 1
  for (uint32_t unit = warp; unit < norm.n_units; unit += kComputeWarps) {
    float x[2];
#pragma unroll
    for (uint32_t j = 0; j < 2; ++j) {
      const uint32_t i = unit * kUnit + j * 32 + lane;
      const float w = unit == warp ? norm.first[j] : i < norm.cols ? __ldg(norm.weight + i) : 0.0f;
      x[j] = i < norm.cols ? row[i] * inverse * w : 0.0f;
    }
    QuantizedLane q[2];
    quantize_lanes(x, q);
#pragma unroll
    for (uint32_t j = 0; j < 2; ++j) {
      codes[unit * kUnit + j * 32 + chunk_byte(lane)] = static_cast<uint8_t>(q[j].q);
      if (lane == 0) scales[unit * 2 + j] = q[j].scale;
    }
  }
}

// The same where it was published quantised: a lane one of the words of each of the warp's units.
__device__ __forceinline__ void quantized_input(uint32_t n_groups, const uint64_t* words, uint32_t tag,
                                                uint8_t* codes, float2* scales) {
  constexpr uint32_t kBatch = 5, kCodeWords = 16, kScaleWords = 4;
  const uint32_t tid = thread_here(), warp = tid >> 5, lane = tid & 31;
  if (lane >= kCodeWords + kScaleWords) return;
  const bool is_code = lane < kCodeWords;
  const uint32_t of_unit = is_code ? kCodeWords : kScaleWords, word = is_code ? lane : lane - kCodeWords;
  const uint32_t n_words = n_groups * (of_unit / 2);  // of its kind; a last unit may have one group
  const uint64_t* from = words + (is_code ? 0 : n_groups * 8);
  uint32_t* to = is_code ? reinterpret_cast<uint32_t*>(codes) : reinterpret_cast<uint32_t*>(scales);
  const uint32_t stride = kComputeWarps * of_unit;
#pragma unroll 1
  for (uint32_t first = warp * of_unit + word; first < n_words; first += kBatch * stride) {
    uint32_t bits[kBatch];
    const uint32_t n = min(kBatch, (n_words - 1 - first) / stride + 1);
    poll_bits<kBatch>([&](uint32_t i) { return from + first + i * stride; }, n, tag, bits);
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      if (j < n) to[first + j * stride] = bits[j];
    }
  }
}

// Links of a block's tiles as [tile][group][kGroupLinks]. A link is {factor, sum}, with {the minimum's
// factor, what it multiplies} behind it where the format has one. A warp takes one unit of every tile, unit
// after unit, kComputeWarps apart: an item is a tile's part of a unit.
struct Items {
  uint32_t n_units, n_tiles, super_stride;
  const uint8_t* slot;
  const uint8_t* codes;
  const float2* scales;
  float2* links;
};

// A lane's part of an item that the activations are not needed for. The first one of a stage is made ready
// while its input is on its way.
struct ReadyItem {
  uint32_t codes[2][4];  // A registers of both groups; Q2_K: what they are made of
  float factor;          // of the lane's link
  uint32_t other;        // the minimum's factor, as bits; Q3_K, Q6_K: the scales of the row's halves
};

// Whose link a lane makes: the row of its tile and the group of its unit.
__device__ __forceinline__ uint32_t link_row(uint32_t lane) { return (lane >> 2) + 8 * (lane & 1); }
__device__ __forceinline__ uint32_t link_group(uint32_t lane) { return lane >> 1 & 1; }

template <TensorType F>
__device__ __forceinline__ ReadyItem ready_item(const Items& items, uint32_t unit, uint32_t tile) {
  constexpr PackedShape kShape = packed_shape(F);
  const uint32_t lane = threadIdx.x & 31, row = link_row(lane);
  const uint8_t* at = items.slot + (tile * items.n_units + unit) * kShape.unit_bytes;
  const uint8_t* super_at = items.slot + items.n_tiles * items.n_units * kShape.unit_bytes +
                            tile * items.super_stride + unit / 4 * kShape.super_bytes;
  ReadyItem out;
  const LaneBits bits = load_bits<F>(at, lane);
  const RowScales<F> mine = load_row_scales<F>(at, row);
  const float2 factors = group_factors<F>(mine, load_row_super<F>(super_at, row), link_group(lane));
  out.factor = factors.x;
  out.other = numerics::has_half_scales(F) && F != TensorType::kQ2_K ? mine.words[0]
                                                                     : numerics::float_bits(factors.y);
  if constexpr (F == TensorType::kQ2_K) {
    out.codes[0][0] = bits.high[0];
    out.codes[0][1] = bits.high[1];
    out.codes[0][2] = load_row_scales<F>(at, lane >> 2).words[0];
    out.codes[0][3] = load_row_scales<F>(at, (lane >> 2) + 8).words[0];
  } else {
    scaled_codes<F>(bits, 0, out.codes[0]);
    scaled_codes<F>(bits, 1, out.codes[1]);
  }
  return out;
}

template <TensorType F>
__device__ __forceinline__ void make_link(const Items& items, const ReadyItem& item, uint32_t unit,
                                          uint32_t tile) {
  constexpr uint32_t kLinkWords = numerics::has_minimum(F) ? 2 : 1;
  const uint32_t lane = threadIdx.x & 31, t = lane & 3, h = link_group(lane);
  float2 xs = items.scales[2 * unit + h];
  // All columns of a product are the token.
  int32_t sums[2], seconds[2];
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint2 x = *reinterpret_cast<const uint2*>(items.codes + unit * kUnit + i * 32 + t * 8);
    int one[4] = {}, other[4] = {};
    if constexpr (F == TensorType::kQ2_K) {
      LaneBits bits;
      bits.high[0] = item.codes[0][0];
      bits.high[1] = item.codes[0][1];
      uint32_t regs[4], minimums[4];
      weighted_codes(bits, {item.codes[0][2], item.codes[0][3]}, i, regs, minimums);
      mma_s8(one, regs[0], regs[1], regs[2], regs[3], x.x, x.y);
      mma_s8(other, minimums[0], minimums[1], minimums[2], minimums[3], x.x, x.y);
    } else if constexpr (numerics::has_half_scales(F)) {
      mma_s8_half(one, item.codes[i][0], item.codes[i][1], x.x);
      mma_s8_half(other, item.codes[i][2], item.codes[i][3], x.y);
    } else {
      mma_group<F>(one, item.codes[i], x.x, x.y);
    }
    sums[i] = t & 1 ? one[2] : one[0];
    seconds[i] = t & 1 ? other[2] : other[0];
  }
  int32_t isum = h ? sums[1] : sums[0];
  const int32_t second = h ? seconds[1] : seconds[0];
  if constexpr (F == TensorType::kQ2_K) {
    xs = with_minimums(xs, second);
  } else if constexpr (numerics::has_half_scales(F)) {
    isum = half_scale(item.other, h, 0) * isum + half_scale(item.other, h, 1) * second;
  }
  isum >>= h ? code_shift<F>(1) : code_shift<F>(0);
  float2* link =
      items.links + (((tile * items.n_units + unit) * 2 + h) * kGroupLinks + link_row(lane)) * kLinkWords;
  const float2 product = make_float2(__fmul_rn(item.factor, xs.x), static_cast<float>(isum));
  if constexpr (kLinkWords == 2) {
    *reinterpret_cast<float4*>(link) =
        make_float4(product.x, product.y, numerics::bits_float(item.other), xs.y);
  } else {
    *link = product;
  }
}

// The items of a warp in order.
struct Place {
  uint32_t unit = threadIdx.x >> 5, tile = 0;
  __device__ __forceinline__ void next(const Items& items) {
    if (++tile == items.n_tiles) {
      tile = 0;
      unit += kComputeWarps;
    }
  }
};

// The first item of a warp, before the activations are there.
template <TensorType F>
__device__ __forceinline__ void ready_first(const Items& items, ReadyItem& first) {
  const Place place = {};
  if (place.unit < items.n_units) first = ready_item<F>(items, place.unit, place.tile);
}

template <TensorType F>
__device__ __forceinline__ void make_links(const Items& items, ReadyItem item) {
  Place place = {};
  if (place.unit >= items.n_units) return;
  make_link<F>(items, item, place.unit, place.tile);
#pragma unroll 1
  for (place.next(items); place.unit < items.n_units; place.next(items))
    make_link<F>(items, ready_item<F>(items, place.unit, place.tile), place.unit, place.tile);
}

// The chain of a row over n groups.
template <bool kMinimum>
__device__ __forceinline__ float walk_links(const float2* links, uint32_t n) {
  constexpr uint32_t kBatch = kMinimum ? 4 : kSpareGroups, kStride = kGroupLinks * (kMinimum ? 2 : 1);
  float acc = 0.0f;
#pragma unroll 1
  for (; n != 0; n -= min(n, kBatch), links += kBatch * kStride) {
    float4 link[kBatch];
    // Those behind the last are read and not used: there is room for them behind those of the last tile.
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      if constexpr (kMinimum) {
        link[i] = *reinterpret_cast<const float4*>(links + i * kStride);
      } else {
        link[i].x = links[i * kStride].x;
        link[i].y = links[i * kStride].y;
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      float next = __fmaf_rn(link[i].x, link[i].y, acc);
      if constexpr (kMinimum) next = __fmaf_rn(link[i].z, link[i].w, next);
      acc = i < n ? next : acc;
    }
  }
  return acc;
}

// The strips of a row, one a lane, folded left into the first lane of each row.
template <uint32_t kStrips>
__device__ __forceinline__ float fold_lanes(float acc) {
  float other[kStrips], y = acc;
#pragma unroll
  for (uint32_t i = 1; i < kStrips; ++i) other[i] = __shfl_down_sync(~0u, acc, i);
#pragma unroll
  for (uint32_t i = 1; i < kStrips; ++i) y = __fadd_rn(y, other[i]);
  return y;
}
__device__ __forceinline__ float fold_strips(float acc, uint32_t strips) {
  static_assert(numerics::kMaxStrips == 16);
  if (strips == 4) return fold_lanes<4>(acc);
  if (strips == 16) return fold_lanes<16>(acc);
  if (strips == 8) return fold_lanes<8>(acc);
  return strips == 2 ? fold_lanes<2>(acc) : acc;
}

struct StageShared {
  uint8_t* base;
  const PersistentShared& at;
  float* residual;  // of the block's rows
};

// The block's part of a stage of a layer, whose weights are there when `ready` comes to `parity`.
__device__ __forceinline__ void linear_stage(const PersistentArgs& a, const PersistentLinear& l,
                                             uint32_t stage, bool is_last, uint32_t tag, uint64_t* ready,
                                             uint32_t parity, const StageShared& shared) {
  const bool glu = stage == kGateUpStage, adds = stage == kProjectStage || stage == kDownStage;
  const PersistentShare share = share_of(l, glu, blockIdx.x);
  if (share.n_tiles == 0) {
    // The loading warp goes on with the next layer when all have been here, so nobody misses a phase.
    barrier_wait(ready, parity);
    tell_loader(stage);
    return;
  }
  const PersistentExchange& words = a.exchange;
  const Segment& s = l.segments[share.segment];
  const uint32_t tid = threadIdx.x;
  const TensorType type = l.types[share.segment];
  float* row = reinterpret_cast<float*>(shared.base + shared.at.row_at);
  uint8_t* codes = shared.base + shared.at.codes_at;
  float2* scales = reinterpret_cast<float2*>(shared.base + shared.at.scales_at);
  float* gated_rows = reinterpret_cast<float*>(shared.base + shared.at.gated_at);
  float2* links = reinterpret_cast<float2*>(shared.base + shared.at.links_at);
  uint8_t* slot = shared.base + shared.at.slots_at[stage];
  const uint32_t n_tiles = share.n_tiles * (glu ? 2 : 1);
  // A lane walks the chain of one strip of one row, the strips of a row side by side; GLU: rows of the gate,
  // then of the up projection. The last warps begin, since the first ones go on to wait for the next stage's
  // input.
  const uint32_t n_rows = n_tiles * kTileRows, first_row = share.first_tile * kTileRows;
  const uint32_t place = tid ^ (kComputeThreads / 2);
  const uint32_t own_row = first_row + (place >> s.strip_shift);
  const bool has_row = (place >> s.strip_shift) < n_rows && own_row < s.rows;
  const float bias = has_row && s.bias ? __ldg(s.bias + own_row) : 0.0f;

  const Items items = {l.n_units, n_tiles, s.super_stride, slot, codes, scales, links};
  barrier_wait(ready, parity);
  ReadyItem first;
  for_format(type, [&]<TensorType F>() { ready_first<F>(items, first); });
  if (adds) {
    quantized_input(l.n_groups, stage == kDownStage ? words.gated : words.attention, tag, codes, scales);
  } else {
    normed_input(norm_of(l), stage == kQkvStage ? words.input : words.middle, tag, row, codes, scales);
  }
  __syncwarp();  // the warp's units are there
  for_format(type, [&]<TensorType F>() { make_links<F>(items, first); });
  // What the chains need of the stage is read while others make their links.
  const bool has_minimum = numerics::has_minimum(type), has_bias = s.bias;
  const uint32_t strips = s.strips, strip_shift = s.strip_shift, rows = s.rows, n_units = l.n_units,
                 n_groups = l.n_groups;
  const float scale = l.scale;
  uint64_t* to = l.outputs[share.segment];
  struct Chain {
    uint32_t in_share, at, n;
  };
  const auto chain_of = [&](uint32_t i) {
    const uint32_t in_share = min(i >> strip_shift, n_rows - 1), strip = i & (strips - 1);
    const uint32_t begin = (n_units * strip >> strip_shift) * 2;
    const uint32_t end = min((n_units * (strip + 1) >> strip_shift) * 2, n_groups);
    return Chain{in_share, (in_share / kTileRows * n_units * 2 + begin) * kGroupLinks + in_share % kTileRows,
                 end - begin};
  };
  Chain chain = chain_of(place);
  compute_sync();
  tell_loader(stage);
#pragma unroll 1
  for (uint32_t i = place; (i & ~31u) < n_rows << strip_shift;) {
    float y = has_minimum ? walk_links<true>(links + 2 * chain.at, chain.n)
                          : walk_links<false>(links + chain.at, chain.n);
    y = fold_strips(y, strips);
    const uint32_t in_share = chain.in_share, out = first_row + in_share;
    if ((i & (strips - 1)) == 0 && i >> strip_shift < n_rows) {
      if (glu) {
        gated_rows[in_share] = y;
      } else if (out < rows) {
        if (has_bias) y = __fadd_rn(y, i == place ? bias : __ldg(s.bias + out));
        if (adds) {
          y = __fadd_rn(shared.residual[in_share], __fmul_rn(y, scale));
          shared.residual[in_share] = y;
        }
        if (stage == kDownStage && is_last) {
          a.x[out] = y;
        } else {
          publish(to + out, y, stage == kDownStage ? tag + 1 : tag);
        }
      }
    }
    i += kComputeThreads;
    chain = chain_of(i);
  }
  if (glu) {
    compute_sync();
    const uint32_t n_gated = n_rows / 2;
#pragma unroll 1
    for (uint32_t i = place; i < n_gated; i += kComputeThreads) {
      const float gate = gated_rows[i], up = gated_rows[n_gated + i];
      const float value = gated_in_line(l.activation, gate, up);
      publish_group(words.gated, rows / 32, (first_row + i) / 32, value, tag);
    }
  }
}
#endif

}  // namespace orcd::cuda
