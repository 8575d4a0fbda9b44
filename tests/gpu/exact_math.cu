#include "device/cuda/exact_math.cuh"

#include <cuda_runtime.h>

#include <stdexcept>

#include "exact_math.h"

namespace orcd::test {
namespace {

using numerics::bits_float;
using numerics::float_bits;

constexpr uint32_t kThreads = 256, kBlocks = 2048;

__global__ void count_code_scales(unsigned long long* count) {
  constexpr uint32_t kFirst = 0x21800000u, kEnd = kFirst + 0x3c000000u;  // is_ordinary()
  unsigned long long n = 0;
  for (uint64_t bits = kFirst - 1 + blockIdx.x * kThreads + threadIdx.x; bits < kEnd;
       bits += kBlocks * kThreads) {
    const float amax = bits < kFirst ? 0.0f : bits_float(static_cast<uint32_t>(bits));
    const float2 got = cuda::code_scales(amax);
    const float d = amax / 127.0f, inverse = d > 0.0f ? 127.0f / amax : 0.0f;
    n += float_bits(got.x) != float_bits(d) || float_bits(got.y) != float_bits(inverse) ||
         !(cuda::is_ordinary(amax) || amax == 0.0f);
  }
  atomicAdd(count, n);
}

__global__ void count_inverse_roots(unsigned long long* count) {
  constexpr uint32_t kFirst = (127 - 84) << 23, kEnd = (127 + 61) << 23;
  unsigned long long n = 0;
  for (uint64_t bits = kFirst + blockIdx.x * kThreads + threadIdx.x; bits < kEnd;
       bits += kBlocks * kThreads) {
    const float x = bits_float(static_cast<uint32_t>(bits));
    n += float_bits(cuda::inverse_root(x)) != float_bits(1.0f / sqrtf(x));
  }
  atomicAdd(count, n);
}

__global__ void count_quotients(uint32_t divisor, unsigned long long* count) {
  const auto b = static_cast<float>(divisor);
  const float near = cuda::near_reciprocal(b);
  unsigned long long n = 0;
  for (uint32_t mantissa = blockIdx.x * kThreads + threadIdx.x; mantissa < 1u << 23;
       mantissa += kBlocks * kThreads) {
    for (const uint32_t exponent : {127u - 60u, 127u, 127u + 59u}) {
      const float a = bits_float(exponent << 23 | mantissa);
      n += float_bits(cuda::divide(a, b, near)) != float_bits(a / b);
    }
  }
  atomicAdd(count, n);
}

__global__ void count_exponentials(unsigned long long* count) {
  unsigned long long n = 0;
  const auto compare = [&](float x) {
    n += float_bits(cuda::exp_nonpositive(x)) != float_bits(numerics::exp_f32(x));
  };
  for (uint64_t bits = blockIdx.x * kThreads + threadIdx.x; bits < 1ull << 31; bits += kBlocks * kThreads)
    compare(bits_float(static_cast<uint32_t>(bits) | 0x80000000u));  // -0 to -Inf, and NaN
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    compare(0.0f);
    compare(bits_float(0x7fc00000u));
  }
  atomicAdd(count, n);
}

__global__ void count_reciprocals(unsigned long long* count) {
  unsigned long long n = 0;
  for (uint64_t bits = blockIdx.x * kThreads + threadIdx.x; bits < 1ull << 31; bits += kBlocks * kThreads) {
    const float b = bits_float(static_cast<uint32_t>(bits));
    n += float_bits(cuda::reciprocal(b)) != float_bits(1.0f / b);
  }
  atomicAdd(count, n);
}

__global__ void count_halves(unsigned long long* count) {
  unsigned long long n = 0;
  for (uint64_t bits = blockIdx.x * kThreads + threadIdx.x; bits < 1ull << 32; bits += kBlocks * kThreads) {
    const float x = bits_float(static_cast<uint32_t>(bits));
    n += cuda::half_bits(x) != numerics::float_to_half(x);
  }
  atomicAdd(count, n);
}

template <typename Launch>
uint64_t counted(int device, Launch launch) {
  unsigned long long* count = nullptr;
  unsigned long long out = 0;
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaMalloc(&count, sizeof(*count));
  if (error == cudaSuccess) error = cudaMemset(count, 0, sizeof(*count));
  if (error == cudaSuccess) launch(count);
  if (error == cudaSuccess) error = cudaMemcpy(&out, count, sizeof(out), cudaMemcpyDeviceToHost);
  cudaFree(count);
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorName(error));
  return out;
}

}  // namespace

uint64_t different_code_scales(int device) {
  return counted(device, [](unsigned long long* count) { count_code_scales<<<kBlocks, kThreads>>>(count); });
}
uint64_t different_inverse_roots(int device) {
  return counted(device,
                 [](unsigned long long* count) { count_inverse_roots<<<kBlocks, kThreads>>>(count); });
}
uint64_t different_exponentials(int device) {
  return counted(device, [](unsigned long long* count) { count_exponentials<<<kBlocks, kThreads>>>(count); });
}
uint64_t different_reciprocals(int device) {
  return counted(device, [](unsigned long long* count) { count_reciprocals<<<kBlocks, kThreads>>>(count); });
}
uint64_t different_halves(int device) {
  return counted(device, [](unsigned long long* count) { count_halves<<<kBlocks, kThreads>>>(count); });
}
uint64_t different_quotients(int device, uint32_t n) {
  return counted(device,
                 [n](unsigned long long* count) { count_quotients<<<kBlocks, kThreads>>>(n, count); });
}

}  // namespace orcd::test
