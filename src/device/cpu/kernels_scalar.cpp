#include "device/cpu/simd_scalar.h"
// The lanes come first: kernels_shared.h is written over them.
#include "device/cpu/kernels_shared.h"

namespace orcd::cpu {
namespace {

// The definition on the packed layout: a group is unpacked once and used for every token.
void linear_blocks_row(const LinearArgs& args, const uint8_t* tile, const TileLayout& layout, uint32_t row,
                       float* y) {
  const uint64_t groups = args.cols / 32;
  const bool has_min = numerics::has_minimum(args.type);
  for (uint32_t s = 0; s < args.strips; ++s) {
    auto* acc = reinterpret_cast<float*>(args.scratch);
    constexpr uint32_t kBlock = 64;  // tokens whose chains are open at once; linear_scratch_bytes >= 512
    for (uint32_t t0 = 0; t0 < args.n_tokens; t0 += kBlock) {
      const uint32_t n = args.n_tokens - t0 < kBlock ? args.n_tokens - t0 : kBlock;
      for (uint32_t t = 0; t < n; ++t) acc[t] = 0.0f;
      const uint64_t end = numerics::strip_begin(args.cols, args.strips, s + 1) / 32;
      for (uint64_t g = numerics::strip_begin(args.cols, args.strips, s) / 32; g < end; ++g) {
        const numerics::WeightGroup w = unpack_group(args.type, tile, layout, row, g);
        for (uint32_t t = 0; t < n; ++t) {
          numerics::QuantizedGroup x;
          memcpy(x.q, args.xq + (t0 + t) * args.cols + g * 32, 32);
          const GroupScale& scale = args.xs[(t0 + t) * groups + g];
          x.d = scale.d;
          x.sum_low = scale.sum_low;
          x.sum_high = scale.sum_high;
          acc[t] = numerics::chain_group(w, has_min, x, acc[t]);
        }
      }
      for (uint32_t t = 0; t < n; ++t) {
        float* out = y + (t0 + t) * args.y_stride;
        *out = s == 0 ? acc[t] : *out + acc[t];
      }
    }
  }
}

void linear(const LinearArgs& args) {
  if (!numerics::is_block_format(args.type)) {
    linear_float_format(args);
    return;
  }
  const TileLayout layout = tile_layout(args.type, args.cols);
  for (uint64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const uint8_t* data = args.weights + tile * layout.tile_bytes;
    for (uint32_t r = 0; r < kTileRows && tile * kTileRows + r < args.rows; ++r) {
      linear_blocks_row(args, data, layout, r, args.y + tile * kTileRows + r - args.y_row);
    }
  }
}

}  // namespace

const Kernels& scalar_kernels() {
  static constexpr Kernels kTable = kernels_of(linear);
  return kTable;
}

}  // namespace orcd::cpu
