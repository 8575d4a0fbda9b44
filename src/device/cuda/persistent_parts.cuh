// What the stages of both persistent kernels (persistent.h) begin and end with: a quantised input, and strips
// that are folded.
#pragma once

#include "device/cuda/exchange.cuh"

namespace orcd::cuda {

#if __CUDA_ARCH__ >= 900
// Which stage of which layer. As the thread's index, it is looked at anew where it is needed.
struct StagePlace {
  uint32_t index;
  __device__ __forceinline__ StagePlace here() const { return {value_here(index)}; }
  __device__ __forceinline__ uint32_t layer() const { return index / kLinearStages; }
  __device__ __forceinline__ uint32_t stage() const { return index % kLinearStages; }
};

// A stage's input where it was published quantised. All see it behind a barrier.
__device__ __forceinline__ void quantized_words(uint32_t n_groups, const uint64_t* words, uint32_t tag,
                                                uint8_t* codes, float2* scales) {
  constexpr uint32_t kBatch = 10;
  const uint32_t n_codes = n_groups * 8, n_words = n_groups * 10;
#pragma unroll 1
  for (uint32_t first = thread_here(); first < n_words; first += kBatch * kComputeThreads) {
    uint32_t bits[kBatch];
    const uint32_t n = min(kBatch, (n_words - 1 - first) / kComputeThreads + 1);
    poll_bits<kBatch>([&](uint32_t i) { return words + first + i * kComputeThreads; }, n, tag, bits);
#pragma unroll
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = first + j * kComputeThreads;
      if (j >= n) break;
      if (i < n_codes) {
        reinterpret_cast<uint32_t*>(codes)[i] = bits[j];
      } else {
        reinterpret_cast<uint32_t*>(scales)[i - n_codes] = bits[j];
      }
    }
  }
}

// The strips of kN rows, whose partial results stand `apart` floats from each other, folded left. All loads
// are on their way before the first sum.
template <uint32_t kStrips, uint32_t kN>
__device__ __forceinline__ void fold_parts(const float* part, uint32_t apart, float (&y)[kN]) {
  float v[kStrips][kN];
#pragma unroll
  for (uint32_t i = 0; i < kStrips; ++i) {
#pragma unroll
    for (uint32_t r = 0; r < kN; ++r) v[i][r] = part[r * apart + i * kTileRows];
  }
#pragma unroll
  for (uint32_t i = 0; i < kStrips; ++i) {
#pragma unroll
    for (uint32_t r = 0; r < kN; ++r) y[r] = i == 0 ? v[0][r] : __fadd_rn(y[r], v[i][r]);
  }
}
template <uint32_t kN>
__device__ __forceinline__ void fold_rows(const float* part, uint32_t apart, uint32_t strips,
                                          float (&y)[kN]) {
  static_assert(numerics::kMaxStrips == 16);
  if (strips == 16) return fold_parts<16>(part, apart, y);
  if (strips == 8) return fold_parts<8>(part, apart, y);
  if (strips == 4) return fold_parts<4>(part, apart, y);
  if (strips == 2) return fold_parts<2>(part, apart, y);
  fold_parts<1>(part, apart, y);
}
#endif

}  // namespace orcd::cuda
