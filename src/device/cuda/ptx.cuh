// The few instructions that CUDA C++ has no name for.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace orcd::cuda {

// Programmatic dependent launch. launch_dependents lets the next kernel's blocks start, which they do anyway
// as this kernel's blocks end: long kernels over weights call it, so that the next one's first fetches keep
// the memory busy. In short kernels those fetches only stand before their own loads (docs/PERFORMANCE.md).
// wait_for_inputs waits until all that came before is visible.
__device__ __forceinline__ void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ __forceinline__ void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// For kernels that stay for many stages: what is made of the value is made anew where this is called, and not
// kept in registers, or spilled, from the kernel's beginning on. And so the thread's index.
__device__ __forceinline__ uint32_t value_here(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}
__device__ __forceinline__ uint32_t thread_here() { return value_here(threadIdx.x); }

__device__ __forceinline__ void copy_async16(uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// The 32 bytes of a group of one token stand as 8 bytes for each lane t of a B fragment's four:
// elements 4t .. 4t+3, then 16+4t .. 16+4t+3. The byte of element e:
__device__ __forceinline__ uint32_t chunk_byte(uint32_t e) { return (e % 16) / 4 * 8 + e / 16 * 4 + e % 4; }

template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

#if __CUDA_ARCH__ >= 900
// True in one lane of a whole warp.
__device__ __forceinline__ bool elect_one() {
  uint32_t elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}"
               : "=r"(elected)::"memory");
  return elected != 0;
}
// Barriers in shared memory that count arrivals, and the bytes of bulk copies.
__device__ __forceinline__ void barrier_init(uint64_t* barrier, uint32_t n_arrivals = 1) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(barrier));
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address), "r"(n_arrivals) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void barrier_expect(uint64_t* barrier, uint32_t bytes) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(barrier));
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void barrier_wait(uint64_t* barrier, uint32_t parity) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(barrier));
  asm volatile(
      "{\n.reg .pred p;\nWAIT: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra DONE;\nbra "
      "WAIT;\n"
      "DONE:\n}" ::"r"(address),
      "r"(parity)
      : "memory");
}
// Whether the phase of this parity is over: true of parity 1 before the first is.
__device__ __forceinline__ bool barrier_test(uint64_t* barrier, uint32_t parity) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(barrier));
  uint32_t over;
  asm volatile(
      "{\n.reg .pred p;\nmbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
      : "=r"(over)
      : "r"(address), "r"(parity)
      : "memory");
  return over != 0;
}
__device__ __forceinline__ void barrier_arrive(uint64_t* barrier) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(barrier));
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address) : "memory");
}
// 16-byte aligned on both sides and in length.
__device__ __forceinline__ void bulk_copy(void* shared, const void* global, uint32_t bytes,
                                          uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(global), "r"(bytes), "r"(static_cast<uint32_t>(__cvta_generic_to_shared(barrier)))
      : "memory");
}
#endif

// Behind it, bulk copies may write where this thread has written.
__device__ __forceinline__ void fence_async_shared() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Asks for bytes (a multiple of 16) to be in L2 soon.
__device__ __forceinline__ void prefetch_l2(const void* global, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(global), "r"(bytes));
#endif
}

// The blocks of a launch with the same blockIdx.y, where it is launched as one cluster along x: their
// barrier, behind which they see what the others wrote to shared memory, and a word of another's. Without
// clusters a row is one block.
__device__ __forceinline__ void row_barrier() {
#if __CUDA_ARCH__ >= 900
  if (gridDim.x > 1) {
    __syncwarp();
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
    return;
  }
#endif
  __syncthreads();
}
__device__ __forceinline__ uint64_t word_of_block(const uint64_t* own, uint32_t block) {
#if __CUDA_ARCH__ >= 900
  uint64_t word;
  asm volatile("{\n.reg .b32 at;\nmapa.shared::cluster.u32 at, %1, %2;\nld.shared::cluster.u64 %0, [at];\n}"
               : "=l"(word)
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(own))), "r"(block)
               : "memory");
  return word;
#else
  return *own;
#endif
}

// True in every thread of the last of n blocks to come here, for which all that the others wrote before is
// visible. arrivals: zero before the first comes and after the last has; flag: in shared memory.
__device__ __forceinline__ bool is_last_to_arrive(uint32_t* arrivals, uint32_t n, uint32_t* flag) {
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(arrivals) : "memory");
    *flag = before == n - 1 ? 1 : 0;
    if (before == n - 1) *arrivals = 0;
  }
  __syncthreads();
  return *flag != 0;
}

// Two binary16 values, exactly.
__device__ __forceinline__ float2 half_pair(uint32_t bits) {
  return __half22float2(*reinterpret_cast<const __half2*>(&bits));
}

__device__ __forceinline__ float half_value(const uint16_t* p) {
  return __half2float(*reinterpret_cast<const __half*>(p));
}

// d += a (16 x 32) * b (32 x 8), int8, exact in int32.
__device__ __forceinline__ void mma_s8(int (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                       uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma_u8(int (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                       uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// d += a (16 x 16) * b (16 x 8): one half of a group.
__device__ __forceinline__ void mma_s8_half(int (&d)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a0), "r"(a1), "r"(b0));
}

}  // namespace orcd::cuda
