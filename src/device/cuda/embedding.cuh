// Rows of the table of embeddings.
#pragma once

#include "device/cuda/layout.h"
#include "device/cuda/ops.h"

namespace orcd::cuda {

__device__ __forceinline__ float table_value(const Matrix& table, uint64_t row, uint64_t i,
                                             const numerics::WeightGroup& g, uint32_t in_group) {
  if (!numerics::is_block_format(table.type)) {
    const uint64_t at = (row / 32 * table.cols + i) * 32 + row % 32;
    return numerics::load_element(table.type, table.data, at);
  }
  // Of two, by a mask: an index that is known at run time only would put the group into local memory.
  const int32_t second = in_group >= 16 ? -1 : 0;
  const auto of_half = [&](const int32_t(&two)[2]) {
    return static_cast<float>(two[0] ^ ((two[0] ^ two[1]) & second));
  };
  const float value = __fmul_rn(__fmul_rn(g.d, of_half(g.scale)), static_cast<float>(g.w[0]));
  if (!numerics::has_minimum(table.type)) return value;
  return __fadd_rn(value, __fmul_rn(g.dm, of_half(g.min)));
}

// The dequantised element; scales are decoded by every thread for itself.
__device__ __forceinline__ float look_up(const Matrix& table, uint64_t row, uint64_t i) {
  numerics::WeightGroup g = numerics::plain_group(0.0f);
  if (numerics::is_block_format(table.type)) {
    g = packed_scales(table, row, i / 32);
    g.w[0] = static_cast<int16_t>(packed_value(table, row, i));
  }
  return table_value(table, row, i, g, static_cast<uint32_t>(i % 32));
}

// What a word of the step names: a token, or of a slot the one that was sampled last.
__device__ __forceinline__ int32_t id_of(int32_t word, const int32_t* last_token) {
  const int32_t id = word < 0 ? __ldcg(last_token + (-1 - word)) : word;
  return id < 0 ? 0 : id;  // nothing was sampled: the host has seen the row's flag and drops what follows
}

}  // namespace orcd::cuda
