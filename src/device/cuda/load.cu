// Kernels of loading and of proving residency: repacking, widening, digests, and the bandwidth that is
// measured.
#include "device/cuda/ops.h"

namespace orcd::cuda {
namespace {

using numerics::WeightGroup;

__device__ WeightGroup raw_group(const RepackArgs& a, uint64_t row, uint64_t group) {
  if (row >= a.n_rows || group * 32 >= a.to.cols) return numerics::plain_group(0.0f);
  return numerics::decode_group(a.type, a.raw + row * a.row_bytes, group);
}

// The code of element e of a group as the file holds it: formats with a codebook.
__device__ uint32_t raw_code(const RepackArgs& a, uint64_t row, uint64_t group, uint32_t e) {
  const uint8_t* data = a.raw + row * a.row_bytes;
  const uint8_t* codes = a.type == TensorType::kIQ4_XS   ? data + group / 8 * 136 + 8 + group % 8 * 16
                         : a.type == TensorType::kIQ4_NL ? data + group * 18 + 2
                                                         : data + group * 17 + 1;
  return e < 16 ? codes[e] & 15u : codes[e - 16] >> 4;
}

__device__ void store_u16(uint8_t* to, uint32_t value) {
  to[0] = static_cast<uint8_t>(value);
  to[1] = static_cast<uint8_t>(value >> 8);
}

// A block of a format in a file: its bytes and its groups of 32.
struct FormatBytes {
  uint32_t block, groups;
};
__device__ FormatBytes format_bytes(TensorType type) {
  switch (type) {
    case TensorType::kQ4_0:
      return {18, 1};
    case TensorType::kQ4_1:
      return {20, 1};
    case TensorType::kQ5_0:
      return {22, 1};
    case TensorType::kQ5_1:
      return {24, 1};
    case TensorType::kQ8_0:
      return {34, 1};
    case TensorType::kIQ4_NL:
      return {18, 1};
    case TensorType::kMXFP4:
      return {17, 1};
    case TensorType::kQ2_K:
      return {84, 8};
    case TensorType::kQ3_K:
      return {110, 8};
    case TensorType::kIQ4_XS:
      return {136, 8};
    case TensorType::kQ4_K:
      return {144, 8};
    case TensorType::kQ5_K:
      return {176, 8};
    default:
      return {210, 8};
  }
}

// The scales of one row of a unit, and what it has in stream 2.
__device__ void repack_scales(const RepackArgs& a, uint64_t row, uint64_t unit_index, uint32_t r16,
                              uint8_t* scales, uint8_t* super) {
  const FormatBytes bytes = format_bytes(a.type);
  for (uint32_t h = 0; h < 2; ++h) {
    const uint64_t group = unit_index * 2 + h;
    const bool inside = row < a.n_rows && group * 32 < a.to.cols;
    const uint8_t* block = a.raw + row * a.row_bytes + group / bytes.groups * bytes.block;
    switch (a.type) {
      case TensorType::kQ4_1:
      case TensorType::kQ5_1:
        store_u16(scales + r16 * 8 + h * 4, inside ? numerics::load_u16(block) : 0);
        store_u16(scales + r16 * 8 + h * 4 + 2, inside ? numerics::load_u16(block + 2) : 0);
        break;
      case TensorType::kQ4_K:
      case TensorType::kQ5_K: {
        int32_t scale = 0, min = 0;
        if (inside) numerics::k_scale_min(block + 4, static_cast<int>(group % 8), &scale, &min);
        scales[r16 * 4 + h * 2] = static_cast<uint8_t>(scale);
        scales[r16 * 4 + h * 2 + 1] = static_cast<uint8_t>(min);
        if (group % 8 != 0) break;
        store_u16(super + r16 * 4, inside ? numerics::load_u16(block) : 0);
        store_u16(super + r16 * 4 + 2, inside ? numerics::load_u16(block + 2) : 0);
        break;
      }
      case TensorType::kQ3_K:
      case TensorType::kQ6_K: {
        const WeightGroup w = raw_group(a, row, group);
        scales[r16 * 4 + h * 2] = inside ? static_cast<uint8_t>(w.scale[0]) : 0;
        scales[r16 * 4 + h * 2 + 1] = inside ? static_cast<uint8_t>(w.scale[1]) : 0;
        if (group % 8 == 0)
          store_u16(super + r16 * 2, inside ? numerics::load_u16(block + bytes.block - 2) : 0);
        break;
      }
      case TensorType::kQ2_K:
        store_u16(scales + r16 * 4 + h * 2, inside ? numerics::load_u16(block + group % 8 * 2) : 0);
        if (group % 8 != 0) break;
        store_u16(super + r16 * 4, inside ? numerics::load_u16(block + 80) : 0);
        store_u16(super + r16 * 4 + 2, inside ? numerics::load_u16(block + 82) : 0);
        break;
      case TensorType::kIQ4_XS:
        scales[r16 * 2 + h] =
            inside ? static_cast<uint8_t>(numerics::iq4_xs_scale(block + 2, static_cast<int>(group % 8))) : 0;
        if (group % 8 == 0) store_u16(super + r16 * 2, inside ? numerics::load_u16(block) : 0);
        break;
      case TensorType::kMXFP4:
        scales[r16 * 2 + h] = inside ? block[0] : 0;
        break;
      default:
        store_u16(scales + r16 * 4 + h * 2, inside ? numerics::load_u16(block) : 0);
        break;
    }
  }
}

// A warp is a unit of a tile.
__global__ void __launch_bounds__(256) repack_kernel(const RepackArgs a) {
  const PackedShape shape = packed_shape(a.type);
  const uint64_t n_units = units_of(a.to.cols), n_tiles = (a.n_rows + kTileRows - 1) / kTileRows;
  const uint32_t lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int32_t zero = zero_point(a.type);
  for (uint64_t i = blockIdx.x * 8 + (threadIdx.x >> 5); i < n_tiles * n_units; i += gridDim.x * 8) {
    const uint64_t tile = i / n_units, unit_index = i % n_units;
    const uint64_t to_tile = a.first_row / kTileRows + tile;
    uint8_t* unit = a.to_data + (to_tile * n_units + unit_index) * shape.unit_bytes;
    uint8_t* super = a.to_data + super_offset(a.type, a.to.rows, a.to.cols) +
                     (to_tile * (a.to.cols / 256) + unit_index / 4) * shape.super_bytes;
    uint32_t values[2][4][4];  // [h][register][byte]
    for (uint32_t h = 0; h < 2; ++h) {
      for (uint32_t up = 0; up < 2; ++up) {
        const uint64_t row = tile * kTileRows + g + 8 * up;
        const bool inside = row < a.n_rows && (unit_index * 2 + h) * 32 < a.to.cols;
        const WeightGroup w = raw_group(a, row, unit_index * 2 + h);
        for (uint32_t half = 0; half < 2; ++half) {
          for (uint32_t j = 0; j < 4; ++j)
            values[h][up + 2 * half][j] = !inside ? 0
                                          : numerics::has_codebook(a.type)
                                              ? raw_code(a, row, unit_index * 2 + h, half * 16 + t * 4 + j)
                                              : (w.w[half * 16 + t * 4 + j] + zero) ^ zero;
        }
      }
    }
    const uint32_t bits = wide_bits(a.type);
    uint32_t high[2] = {0, 0}, top = 0;
    for (uint32_t r = 0; r < 4; ++r) {
      for (uint32_t j = 0; j < 4; ++j) {
        const uint32_t v0 = values[0][r][j], v1 = values[1][r][j];
        if (a.type == TensorType::kQ8_0) {
          unit[lane * 16 + r * 4 + j] = static_cast<uint8_t>(v0);
          unit[512 + lane * 16 + r * 4 + j] = static_cast<uint8_t>(v1);
          continue;
        }
        if (numerics::has_codebook(a.type)) {
          if (j % 2 != 0) continue;
          unit[lane * 16 + r * 4 + j / 2] = static_cast<uint8_t>(v0 | values[0][r][j + 1] << 4);
          unit[lane * 16 + r * 4 + 2 + j / 2] = static_cast<uint8_t>(v1 | values[1][r][j + 1] << 4);
          continue;
        }
        if (has_pairs(a.type)) {
          high[0] |= (v0 & 3) << (8 * j + 2 * r);
          high[1] |= (v1 & 3) << (8 * j + 2 * r);
          top |= ((v0 >> 2) & 1) << (8 * j + r) | ((v1 >> 2) & 1) << (8 * j + 4 + r);
          continue;
        }
        if (bits == 0) {
          unit[lane * 16 + r * 4 + j] = static_cast<uint8_t>((v0 & 15) | (v1 & 15) << 4);
          continue;
        }
        const uint32_t rest = 2 * bits - 8;  // bits of the second code that have no room in the byte
        unit[lane * 16 + r * 4 + j] =
            static_cast<uint8_t>((v0 & ((1u << bits) - 1)) | (v1 >> rest & ((1u << (8 - bits)) - 1)) << bits);
        if (bits == 5) {
          high[0] |= (v1 & 3) << (8 * j + 2 * r);
        } else {
          high[r / 2] |= (v1 & 15) << (8 * j + 4 * (r % 2));
        }
      }
    }
    if (has_fifth_bit(a.type)) *reinterpret_cast<uint32_t*>(unit + 512 + lane * 4) = high[0];
    if (a.type == TensorType::kQ6_K)
      *reinterpret_cast<uint2*>(unit + 512 + lane * 8) = make_uint2(high[0], high[1]);
    if (has_pairs(a.type)) *reinterpret_cast<uint2*>(unit + lane * 8) = make_uint2(high[0], high[1]);
    if (a.type == TensorType::kQ3_K) *reinterpret_cast<uint32_t*>(unit + 256 + lane * 4) = top;
    if (lane < kTileRows)
      repack_scales(a, tile * kTileRows + lane, unit_index, lane, unit + shape.scales_at, super);
  }
}

// Float formats: [rows / 32][cols][32].
__global__ void __launch_bounds__(256) repack_float_kernel(const RepackArgs a) {
  const uint64_t bytes = element_bytes(a.type), padded = (a.n_rows + 31) / 32 * 32;
  for (uint64_t i = blockIdx.x * 256 + threadIdx.x; i < padded * a.to.cols; i += gridDim.x * 256) {
    const uint64_t lane = i % 32, k = i / 32 % a.to.cols, row = i / 32 / a.to.cols * 32 + lane;
    uint8_t* to = a.to_data + (a.first_row * a.to.cols + i) * bytes;
    const uint8_t* from = a.raw + row * a.row_bytes + k * bytes;
    for (uint32_t j = 0; j < bytes; ++j) to[j] = row < a.n_rows ? from[j] : 0;
  }
}

__global__ void __launch_bounds__(256) widen_kernel(const WidenArgs a) {
  for (uint64_t i = blockIdx.x * 256 + threadIdx.x; i < a.n; i += gridDim.x * 256) {
    if (!numerics::is_block_format(a.type)) {
      a.to[i] = numerics::load_element(a.type, a.raw, i);
    } else if (i % 32 == 0) {
      numerics::dequantize_group(numerics::decode_group(a.type, a.raw, i / 32), numerics::has_minimum(a.type),
                                 a.to + i);
    }
  }
}

__global__ void __launch_bounds__(256) digest_kernel(const DigestArgs a) {
  numerics::Digest digest;
  for (uint64_t i = blockIdx.x * 256 + threadIdx.x; i < a.n_words; i += gridDim.x * 256)
    numerics::digest_add(&digest, __ldcs(a.words + i), i);
  for (int stride = 16; stride > 0; stride /= 2) {
    digest.a += __shfl_down_sync(~0u, digest.a, stride);
    digest.b += __shfl_down_sync(~0u, digest.b, stride);
  }
  if ((threadIdx.x & 31) == 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(&a.digest->a), static_cast<unsigned long long>(digest.a));
    atomicAdd(reinterpret_cast<unsigned long long*>(&a.digest->b), static_cast<unsigned long long>(digest.b));
  }
}

__global__ void __launch_bounds__(512) read_kernel(const ReadArgs a) {
  uint32_t sum = 0;
  const uint64_t stride = static_cast<uint64_t>(gridDim.x) * 512;
  uint64_t i = blockIdx.x * 512 + threadIdx.x;
  for (; i + 7 * stride < a.n; i += 8 * stride) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = __ldcs(a.data + i + j * stride);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  for (; i < a.n; i += stride) sum ^= __ldcs(a.data + i).x;
  if (sum == 0x9e3779b9u) *a.sink = sum;  // keeps the loads
}

uint32_t grid_for(uint64_t n, uint64_t per_block) {
  const uint64_t blocks = (n + per_block - 1) / per_block;
  return static_cast<uint32_t>(blocks < 1 ? 1 : blocks > 8192 ? 8192 : blocks);
}

}  // namespace

void launch_repack(Calls* calls, const RepackArgs& args) {
  if (numerics::is_block_format(args.type)) {
    const uint64_t units = tiles_of(args.n_rows) * units_of(args.to.cols);
    calls->launch("repack", repack_kernel, {dim3(grid_for(units, 8)), dim3(256), 0, false}, args);
  } else {
    calls->launch("repack floats", repack_float_kernel,
                  {dim3(grid_for((args.n_rows + 31) / 32 * 32 * args.to.cols, 256)), dim3(256), 0, false},
                  args);
  }
}

void launch_widen(Calls* calls, const WidenArgs& args) {
  calls->launch("widen", widen_kernel, {dim3(grid_for(args.n, 256)), dim3(256), 0, false}, args);
}

void launch_digest(Calls* calls, const DigestArgs& args) {
  calls->launch("digest", digest_kernel, {dim3(grid_for(args.n_words, 256 * 8)), dim3(256), 0, false}, args);
}

void launch_read(Calls* calls, uint32_t n_sm, const ReadArgs& args) {
  calls->launch("read bandwidth", read_kernel, {dim3(n_sm * 4), dim3(512), 0, false}, args);
}

}  // namespace orcd::cuda
