// The one table of device calls: all CUDA traffic goes through it. Every return is checked, every call
// counted, an error carries op, shape and device, and a test can make the n-th call fail.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "memory/ledger.h"

namespace orcd::cuda {

enum class CallKind : uint8_t {
  kAllocate,
  kFree,
  kHostAllocate,
  kHostFree,
  kCopy,
  kSet,
  kLaunch,
  kEvent,
  kSynchronize,
  kGraph
};
inline constexpr int kCallKindCount = 10;
const char* call_kind_name(CallKind kind);

// What a fault test asks for: calls number first, first + 1, ... (counted over all kinds from the moment it
// is set) fail with `error`. once: only that one.
struct FaultPlan {
  uint64_t first = 0;  // 1-based; 0 = off
  bool once = true;
  cudaError_t error = cudaErrorMemoryAllocation;
};

struct LaunchShape {
  dim3 grid, block;
  uint32_t shared_bytes = 0;
  bool overlap = true;  // programmatic dependent launch: the kernel waits for its predecessor by itself
};

// Not thread-safe but for the counters: the engine thread owns the device. Methods throw Error(kCudaError),
// or Error(kInsufficientVram) when an allocation does not fit; sticky() then tells whether the context is
// lost.
class Calls {
 public:
  Calls(uint32_t device_index, cudaStream_t stream) : device_index_(device_index), stream_(stream) {}

  void use_device();  // makes it the calling thread's current device
  void* allocate(memory::Ledger* ledger, memory::Category category, uint64_t bytes);
  void free(memory::Ledger* ledger, memory::Category category, uint64_t bytes, void* pointer) noexcept;
  void* host_allocate(uint64_t bytes);  // pinned
  void host_free(void* pointer) noexcept;
  void copy_to_device(void* to, const void* from, uint64_t bytes, const char* what);
  void copy_to_host(void* to, const void* from, uint64_t bytes, const char* what);
  void set(void* pointer, int value, uint64_t bytes, const char* what);
  void record(cudaEvent_t event);
  void wait_event(cudaEvent_t event);  // blocks the host
  void synchronize(const char* what);
  cudaEvent_t create_event(bool timing);
  void destroy_event(cudaEvent_t event) noexcept;
  void begin_capture();
  cudaGraphExec_t end_capture();  // instantiated
  void abort_capture() noexcept;
  void launch_graph(cudaGraphExec_t graph);
  void destroy_graph(cudaGraphExec_t graph) noexcept;

  // op: static text that names the op and its shape in an error.
  template <typename Args>
  void launch(const char* op, void (*kernel)(Args), const LaunchShape& shape, const Args& args) {
    Args copy = args;
    void* pointers[] = {&copy};
    launch_raw(op, reinterpret_cast<const void*>(kernel), shape, pointers);
  }
  // Once per kernel that needs more than 48 KiB of dynamic shared memory.
  void allow_shared(const void* kernel, uint32_t bytes);
  // The same split of L1 and shared memory for every kernel, so that neighbours can be on a multiprocessor
  // together.
  void prefer_shared(const void* kernel);

  cudaStream_t stream() const { return stream_; }
  uint64_t count(CallKind kind) const { return counts_[static_cast<int>(kind)].load(); }
  uint64_t total() const { return total_.load(); }
  bool sticky() const { return sticky_; }
  void set_fault(const FaultPlan& plan);

 private:
  void launch_raw(const char* op, const void* kernel, const LaunchShape& shape, void** args);
  // Counts the call; returns the planned error instead of running it, or cudaSuccess.
  cudaError_t planned_fault(CallKind kind);
  void check(CallKind kind, cudaError_t error, const char* what, const std::string& detail = {});

  uint32_t device_index_;
  cudaStream_t stream_;
  std::atomic<uint64_t> counts_[kCallKindCount] = {};
  std::atomic<uint64_t> total_ = 0;
  std::atomic<bool> sticky_ = false;
  FaultPlan fault_;
  uint64_t fault_base_ = 0;
};

}  // namespace orcd::cuda
