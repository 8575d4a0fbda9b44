// The linear stages of the persistent kernel (persistent.h): a block's tiles lie whole in shared memory, so
// that all warps share them. First every (tile, unit) becomes links, a link a row and group; then a lane
// walks the chain of a row and strip, and the strips of a row, side by side in a warp, are folded and
// published.
#pragma once

#include "device/cuda/linear_formats.cuh"
#include "device/cuda/persistent.h"

namespace orcd::cuda {

inline constexpr uint32_t kPersistentWarps = 16;
inline constexpr uint32_t kPersistentThreads = kPersistentWarps * 32;

#if __CUDA_ARCH__ >= 900
// The barrier of the warps that compute.
__device__ __forceinline__ void compute_sync() {
  asm volatile("bar.sync 1, %0;" ::"n"(kPersistentThreads) : "memory");
}

// A word with its tag, whole: whoever sees the tag has the value.
__device__ __forceinline__ void publish_bits(uint64_t* to, uint32_t bits, uint32_t tag) {
  const uint64_t word = static_cast<uint64_t>(tag) << 32 | bits;
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(word) : "memory");
}
__device__ __forceinline__ void publish(uint64_t* to, float value, uint32_t tag) {
  publish_bits(to, numerics::float_bits(value), tag);
}
inline constexpr uint32_t kMostRounds = 1u << 24;  // of polling: seconds, where microseconds are usual

// Waits until the first n of kN words, at address(i), have the tag. Polling is what the lines of an exchange
// are busy with: no word is asked for that is not wanted.
template <uint32_t kN, typename Address>
__device__ __forceinline__ void poll_bits(Address address, uint32_t n, uint32_t tag, uint32_t (&bits)[kN]) {
  bool there;
  uint32_t rounds = 0;
  uint64_t word[kN];
#pragma unroll
  for (uint32_t i = 0; i < kN; ++i) word[i] = static_cast<uint64_t>(i < n ? tag - 1 : tag) << 32;
  do {
#pragma unroll
    for (uint32_t i = 0; i < kN; ++i) {
      if (static_cast<uint32_t>(word[i] >> 32) != tag)
        asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word[i]) : "l"(address(i)) : "memory");
    }
    there = true;
#pragma unroll
    for (uint32_t i = 0; i < kN; ++i) {
      there = there && static_cast<uint32_t>(word[i] >> 32) == tag;
      bits[i] = static_cast<uint32_t>(word[i]);
    }
    // An error is better than a device that never answers.
    if (++rounds == kMostRounds) __trap();
  } while (!there);
}
template <uint32_t kN, typename Address>
__device__ __forceinline__ void poll(Address address, uint32_t n, uint32_t tag, float (&value)[kN]) {
  uint32_t bits[kN];
  poll_bits<kN>(address, n, tag, bits);
#pragma unroll
  for (uint32_t i = 0; i < kN; ++i) value[i] = numerics::bits_float(bits[i]);
}

// A group of the n_groups of a row, by a warp: a code a lane.
__device__ __forceinline__ void publish_group(uint64_t* words, uint32_t n_groups, uint32_t group,
                                              const QuantizedLane& q, uint32_t tag) {
  const uint32_t lane = threadIdx.x & 31;
  uint32_t codes = static_cast<uint32_t>(q.q) & 255u;
  codes |= __shfl_down_sync(~0u, codes, 1) << 8;
  codes |= __shfl_down_sync(~0u, codes, 2) << 16;
  if (lane % 4 == 0) publish_bits(words + group * 8 + chunk_byte(lane) / 4, codes, tag);
  if (lane % 4 == 1 && lane < 8)
    publish(words + n_groups * 8 + group * 2 + lane / 4, lane < 4 ? q.scale.x : q.scale.y, tag);
}

// A block's part of a stage: tiles of one segment; GLU: as many of the gate and then of the up projection.
struct PersistentShare {
  uint32_t segment, first_tile, n_tiles;
};
__device__ __forceinline__ PersistentShare share_of(const PersistentLinear& l, bool glu) {
  uint32_t segment = 0, block = blockIdx.x;
  while (segment + 1 < (glu ? 1 : l.n_segments) && block >= l.segments[segment].n_blocks)
    block -= l.segments[segment++].n_blocks;
  const Segment& s = l.segments[segment];
  if (block >= s.n_blocks) return {segment, 0, 0};
  const uint32_t step = glu ? 2 : 1;
  const uint32_t first = (block * s.steps_per_block + min(block, s.extra_steps)) * step;
  const uint32_t n = (s.steps_per_block + (block < s.extra_steps ? 1 : 0)) * step;
  return {segment, first, min(n, s.n_tiles - first)};
}

// Starts the copy of the block's share into its slot: stream 1 of all tiles, then stream 2. Without a share
// the barrier is arrived at all the same: who computes is never more than a layer ahead.
__device__ __forceinline__ void fetch_share(const PersistentLinear& l, uint32_t stage, uint8_t* slot,
                                            uint64_t* barrier) {
  const bool glu = stage == kGateUpStage;
  const PersistentShare share = share_of(l, glu);
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
__device__ __forceinline__ void normed_input(const PersistentLinear& l, const float* plain,
                                             const uint64_t* words, uint32_t tag, float* row, uint8_t* codes,
                                             float2* scales) {
  constexpr uint32_t kBatch = 4;
  float* red = row + l.cols;
  const uint32_t tid = threadIdx.x, warp = tid >> 5, lane = tid & 31;
  // The first weights of the norm are on their way while the input is waited for.
  float weight[2];
#pragma unroll
  for (uint32_t j = 0; j < 2; ++j) {
    const uint32_t i = warp * kUnit + j * 32 + lane;
    weight[j] = i < l.cols ? __ldg(l.norm.weight + i) : 0.0f;
  }
  if (tid < numerics::kLanes) {
    float sum = 0.0f;
#pragma unroll 1
    for (uint32_t first = tid; first < l.cols; first += kBatch * numerics::kLanes) {
      const uint32_t n = min(kBatch, (l.cols - 1 - first) / numerics::kLanes + 1);
      float value[kBatch];
      if (plain) {
#pragma unroll
        for (uint32_t j = 0; j < kBatch; ++j)
          value[j] = __ldcg(plain + first + min(j, n - 1) * numerics::kLanes);
      } else {
        poll<kBatch>([&](uint32_t j) { return words + first + j * numerics::kLanes; }, n, tag, value);
      }
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
  const float inverse = numerics::rms_inverse(tree_of_shared(red), l.cols, l.norm.eps);
#pragma unroll 1
  for (uint32_t unit = warp; unit < l.n_units; unit += kPersistentWarps) {
    QuantizedLane q[2];
#pragma unroll
    for (uint32_t j = 0; j < 2; ++j) {
      const uint32_t i = unit * kUnit + j * 32 + lane;
      const float w = unit == warp ? weight[j] : i < l.cols ? __ldg(l.norm.weight + i) : 0.0f;
      q[j] = quantize_lane(i < l.cols ? row[i] * inverse * w : 0.0f);
    }
#pragma unroll
    for (uint32_t j = 0; j < 2; ++j) {
      codes[unit * kUnit + j * 32 + chunk_byte(lane)] = static_cast<uint8_t>(q[j].q);
      if (lane == 0) scales[unit * 2 + j] = q[j].scale;
    }
  }
}

// The same where it was published quantised: a lane one of the words of each of the warp's units.
__device__ __forceinline__ void quantized_input(const PersistentLinear& l, const uint64_t* words,
                                                uint32_t tag, uint8_t* codes, float2* scales) {
  constexpr uint32_t kBatch = 5, kCodeWords = 16, kScaleWords = 4;
  const uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  if (lane >= kCodeWords + kScaleWords) return;
  const bool is_code = lane < kCodeWords;
  const uint32_t of_unit = is_code ? kCodeWords : kScaleWords, word = is_code ? lane : lane - kCodeWords;
  const uint32_t n_words = l.n_groups * (of_unit / 2);  // of its kind; a last unit may have one group
  const uint64_t* from = words + (is_code ? 0 : l.n_groups * 8);
  uint32_t* to = is_code ? reinterpret_cast<uint32_t*>(codes) : reinterpret_cast<uint32_t*>(scales);
  const uint32_t stride = kPersistentWarps * of_unit;
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
// factor, what it multiplies} behind it where the format has one. A warp takes one unit of every tile, so
// that it has the activations in registers: unit after unit, sixteen apart.
template <TensorType F>
__device__ __forceinline__ void make_links(uint32_t n_units, uint32_t n_tiles, uint32_t super_stride,
                                           const uint8_t* slot, const uint8_t* codes, const float2* scales,
                                           float2* links) {
  constexpr PackedShape kShape = packed_shape(F);
  constexpr uint32_t kLinkWords = numerics::has_minimum(F) ? 2 : 1;
  const uint32_t lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const uint32_t row = g + 8 * (t & 1), h = t >> 1;  // whose link the lane makes
  const uint8_t* supers = slot + n_tiles * n_units * kShape.unit_bytes;
#pragma unroll 1
  for (uint32_t unit = threadIdx.x >> 5; unit < n_units; unit += kPersistentWarps) {
    const uint8_t* at = slot + unit * kShape.unit_bytes;
    const uint8_t* super_at = supers + unit / 4 * kShape.super_bytes;
    float2* link = links + ((unit * 2 + h) * kGroupLinks + row) * kLinkWords;
    const float2 own_scale = scales[2 * unit + h];
    const uint2 x[2] = {*reinterpret_cast<const uint2*>(codes + unit * kUnit + t * 8),
                        *reinterpret_cast<const uint2*>(codes + unit * kUnit + 32 + t * 8)};
#pragma unroll 1
    for (uint32_t tile = 0; tile < n_tiles; ++tile) {
      const LaneBits bits = load_bits<F>(at, lane);
      const RowScales<F> mine = load_row_scales<F>(at, row);
      const float2 super = load_row_super<F>(super_at, row);
      // All columns of a product are the token.
      int32_t sums[2], seconds[2];
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        uint32_t regs[4];
        int one[4] = {}, other[4] = {};
        if constexpr (F == TensorType::kQ2_K) {
          uint32_t minimums[4];
          weighted_codes(bits, {load_row_scales<F>(at, g).words[0], load_row_scales<F>(at, g + 8).words[0]},
                         i, regs, minimums);
          mma_s8(one, regs[0], regs[1], regs[2], regs[3], x[i].x, x[i].y);
          mma_s8(other, minimums[0], minimums[1], minimums[2], minimums[3], x[i].x, x[i].y);
        } else if constexpr (numerics::has_half_scales(F)) {
          scaled_codes<F>(bits, i, regs);
          mma_s8_half(one, regs[0], regs[1], x[i].x);
          mma_s8_half(other, regs[2], regs[3], x[i].y);
        } else {
          scaled_codes<F>(bits, i, regs);
          mma_group<F>(one, regs, x[i].x, x[i].y);
        }
        sums[i] = t & 1 ? one[2] : one[0];
        seconds[i] = t & 1 ? other[2] : other[0];
      }
      float2 xs = own_scale;
      int32_t isum = h ? sums[1] : sums[0];
      const int32_t second = h ? seconds[1] : seconds[0];
      if constexpr (F == TensorType::kQ2_K) {
        xs = with_minimums(xs, second);
      } else if constexpr (numerics::has_half_scales(F)) {
        isum = half_scale(mine.words[0], h, 0) * isum + half_scale(mine.words[0], h, 1) * second;
      }
      isum >>= h ? code_shift<F>(1) : code_shift<F>(0);
      const float2 factors = group_factors<F>(mine, super, h);
      const float2 product = make_float2(__fmul_rn(factors.x, xs.x), static_cast<float>(isum));
      if constexpr (kLinkWords == 2) {
        *reinterpret_cast<float4*>(link) = make_float4(product.x, product.y, factors.y, xs.y);
      } else {
        *link = product;
      }
      at += n_units * kShape.unit_bytes;
      super_at += super_stride;
      link += n_units * 2 * kGroupLinks * kLinkWords;
    }
  }
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

// The block's part of a stage of a layer, whose weights are there when `ready` comes to `parity`; thread 0
// arrives at `read` when they have been read.
__device__ __forceinline__ void linear_stage(const PersistentArgs& a, const PersistentLinear& l,
                                             uint32_t stage, bool is_first, bool is_last, uint32_t tag,
                                             uint64_t* ready, uint32_t parity, uint64_t* read,
                                             const StageShared& shared) {
  const bool glu = stage == kGateUpStage, adds = stage == kProjectStage || stage == kDownStage;
  const PersistentShare share = share_of(l, glu);
  if (share.n_tiles == 0) {
    // One thread alone: a thread that came late to a barrier would miss its phase.
    if (threadIdx.x == 0) {
      barrier_wait(ready, parity);
      barrier_arrive(read);
    }
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
  // A lane walks the chain of one strip of one row, the strips of a row side by side. The last warps begin,
  // since the first ones go on to wait for the next stage's input.
  const uint32_t strips = s.strips, n_rows = share.n_tiles * kTileRows;
  const uint32_t place = tid ^ (kPersistentThreads / 2), first_row = share.first_tile * kTileRows;
  const uint32_t own_row = first_row + (place >> s.strip_shift);
  const bool has_row = (place >> s.strip_shift) < n_rows && own_row < s.rows;
  const float bias = has_row && s.bias ? __ldg(s.bias + own_row) : 0.0f;
  if (stage == kProjectStage && is_first && tid < n_rows && first_row + tid < s.rows)
    shared.residual[tid] = __ldcg(a.x + first_row + tid);

  if (adds) {
    quantized_input(l, stage == kDownStage ? words.gated : words.attention, tag, codes, scales);
  } else {
    normed_input(l, stage == kQkvStage && is_first ? a.x : nullptr,
                 stage == kQkvStage ? words.input : words.middle, tag, row, codes, scales);
  }
  barrier_wait(ready, parity);
  __syncwarp();  // the warp's units are there
  switch (type) {
#define ORCD_CASE(name)                                                                              \
  case TensorType::k##name:                                                                          \
    make_links<TensorType::k##name>(l.n_units, n_tiles, s.super_stride, slot, codes, scales, links); \
    break;
    ORCD_CASE(Q4_0)
    ORCD_CASE(Q4_1)
    ORCD_CASE(Q5_0)
    ORCD_CASE(Q5_1)
    ORCD_CASE(Q8_0)
    ORCD_CASE(Q2_K)
    ORCD_CASE(Q3_K)
    ORCD_CASE(Q4_K)
    ORCD_CASE(Q5_K)
    ORCD_CASE(Q6_K)
    ORCD_CASE(IQ4_NL)
    ORCD_CASE(IQ4_XS)
    ORCD_CASE(MXFP4)
#undef ORCD_CASE
    default:
      break;
  }
  compute_sync();
  if (tid == 0) barrier_arrive(read);
  const bool has_minimum = numerics::has_minimum(type);
#pragma unroll 1
  for (uint32_t first = place & ~31u; first < n_rows << s.strip_shift; first += kPersistentThreads) {
    const uint32_t i = first + (tid & 31), in_share = min(i >> s.strip_shift, n_rows - 1),
                   strip = i & (strips - 1);
    const uint32_t begin = (l.n_units * strip >> s.strip_shift) * 2;
    const uint32_t n = min((l.n_units * (strip + 1) >> s.strip_shift) * 2, l.n_groups) - begin;
    const uint32_t at = (in_share / kTileRows * l.n_units * 2 + begin) * kGroupLinks + in_share % kTileRows;
    float y = has_minimum ? walk_links<true>(links + 2 * at, n) : walk_links<false>(links + at, n);
    y = fold_strips(y, strips);
    const bool leads = strip == 0 && i >> s.strip_shift < n_rows;
    if (glu) {
      const uint32_t up_at = at + share.n_tiles * l.n_units * 2 * kGroupLinks;
      float up = has_minimum ? walk_links<true>(links + 2 * up_at, n) : walk_links<false>(links + up_at, n);
      up = fold_strips(up, strips);
      if (leads)
        gated_rows[in_share] = l.activation == model::Activation::kSilu ? __fmul_rn(numerics::silu(y), up)
                                                                        : gated(l.activation, y, up);
      continue;
    }
    const uint32_t out = first_row + in_share;
    if (!leads || out >= s.rows) continue;
    if (s.bias) y = __fadd_rn(y, first == (place & ~31u) ? bias : __ldg(s.bias + out));
    if (stage == kQkvStage) {
      uint64_t* to = share.segment == 0 ? words.q : share.segment == 1 ? words.k : words.v;
      publish(to + out, y, tag);
      continue;
    }
    y = __fadd_rn(shared.residual[in_share], __fmul_rn(y, l.scale));
    shared.residual[in_share] = y;
    if (stage == kProjectStage) {
      publish(words.middle + out, y, tag);
    } else if (is_last) {
      a.x[out] = y;
    } else {
      publish(words.input + out, y, tag + 1);
    }
  }
  if (glu) {
    compute_sync();
    for (uint32_t row_at = place; row_at < n_rows; row_at += kPersistentThreads) {
      publish_group(words.gated, s.rows / 32, (first_row + row_at) / 32, quantize_lane(gated_rows[row_at]),
                    tag);
    }
  }
}
#endif

}  // namespace orcd::cuda
