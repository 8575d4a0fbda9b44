// The one table of device calls: all CUDA traffic goes through it. Every return is checked, every call
// counted, an error carries op, shape and device, and a test can make the n-th call fail.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <unordered_set>

#include "memory/ledger.h"

namespace orcd::cuda {

enum class CallKind : uint8_t {
  kDevice,  // choose it, ask for its properties, memory and limits
  kAllocate,
  kFree,
  kHostAllocate,
  kHostFree,
  kCopy,
  kSet,
  kLaunch,
  kKernel,  // attributes of a kernel
  kEvent,
  kSynchronize,
  kGraph,
  kStream
};
inline constexpr int kCallKindCount = 13;
const char* call_kind_name(CallKind kind);

// What a fault test asks for: calls number first, first + 1, ... (counted over all kinds from the moment it
// is set) fail with `error` and are not made. once: only that one. An error that a context does not survive
// makes every later call fail with it, as the driver does, until set_fault() is called again. What gives
// something back (free, destroy) is counted but always done.
struct FaultPlan {
  uint64_t first = 0;  // 1-based; 0 = off
  bool once = true;
  cudaError_t error = cudaErrorMemoryAllocation;
};

// Kernels, and copies that stand in their order; what a step's kernels read; what the host reads of a step. A
// copy in the kernels' own stream would keep the next step waiting for as long as it takes to begin.
enum class Stream : uint8_t { kCompute, kUpload, kDownload };
inline constexpr int kStreamCount = 3;

struct LaunchShape {
  dim3 grid, block;
  uint32_t shared_bytes = 0;
  bool overlap = true;    // programmatic dependent launch: the kernel waits for its predecessor by itself
  uint32_t cluster = 1;   // blocks along x that read each other's shared memory; compute capability 9.0
  bool together = false;  // cooperative: the blocks wait for each other, so all are there or none
};

struct MemoryInfo {
  uint64_t free_bytes, total_bytes;
};

// What was taken from the driver and not given back.
struct Holdings {
  uint64_t device_bytes = 0, host_bytes = 0;
  uint32_t events = 0, graphs = 0;
  bool operator==(const Holdings&) const = default;
};

// Local memory (spilled registers, stacks) of the kernels seen so far: the driver keeps as much for every
// thread that can be resident.
struct LocalMemory {
  uint32_t n_kernels = 0;
  uint64_t bytes_per_thread = 0;  // of the kernel that needs most
};

// Not thread-safe but for counters and lost(): the engine thread owns the device. Methods throw
// Error(kCudaError), or Error(kInsufficientVram) when an allocation does not fit; lost() then tells whether
// the context is gone.
class Calls {
 public:
  explicit Calls(uint32_t device_index, const FaultPlan& fault = {});
  ~Calls();
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  static int device_count();  // throws Error(kCudaError) where there is no usable driver
  cudaDeviceProp properties();
  // How many blocks with so much dynamic shared memory a multiprocessor has room for; once properties() are
  // known.
  uint32_t blocks_per_sm(uint32_t shared_bytes) const;
  std::string pci_bus_id();
  int runtime_version();
  void use_device();  // makes it the calling thread's current device
  MemoryInfo memory_info();
  void set_limit(cudaLimit limit, uint64_t value, const char* what);
  void create_streams();  // destroyed with this table

  void* allocate(memory::Ledger* ledger, memory::Category category, uint64_t bytes);
  void free(memory::Ledger* ledger, memory::Category category, uint64_t bytes, void* pointer) noexcept;
  void* host_allocate(memory::Ledger* ledger, uint64_t bytes);  // pinned
  void host_free(memory::Ledger* ledger, uint64_t bytes, void* pointer) noexcept;
  // "device" for plain memory of this device that the host cannot reach, else "host", "managed" or "unknown".
  std::string pointer_type(const void* pointer);
  void copy_to_device(void* to, const void* from, uint64_t bytes, const char* what,
                      Stream in = Stream::kCompute);
  void copy_to_host(void* to, const void* from, uint64_t bytes, const char* what,
                    Stream in = Stream::kCompute);
  void set(void* pointer, int value, uint64_t bytes, const char* what);
  cudaEvent_t create_event(bool timing);
  void destroy_event(cudaEvent_t event) noexcept;
  void record(cudaEvent_t event, Stream in = Stream::kCompute);
  void continue_after(cudaEvent_t event, Stream in);  // what is put into this stream from here on
  void wait_event(cudaEvent_t event);                 // blocks the host
  float elapsed_ms(cudaEvent_t begin, cudaEvent_t end);
  void synchronize(const char* what);  // all streams
  void finish() noexcept;  // the same on the way out: nothing may be freed that the device still uses
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
  LocalMemory local_memory();

  cudaStream_t stream(Stream which = Stream::kCompute) const { return streams_[static_cast<int>(which)]; }
  uint64_t count(CallKind kind) const { return counts_[static_cast<int>(kind)].load(); }
  uint64_t total() const { return total_.load(); }
  const Holdings& holdings() const { return holdings_; }
  bool lost() const { return lost_; }
  void set_fault(const FaultPlan& plan);

 private:
  void launch_raw(const char* op, const void* kernel, const LaunchShape& shape, void** args);
  // Counts the call and makes it, unless the plan or a lost context say how it ends.
  template <typename Call>
  cudaError_t make(CallKind kind, const Call& call);
  template <typename Call>
  void made(CallKind kind, const char* what, const Call& call, std::string (*detail)(uint64_t) = nullptr,
            uint64_t value = 0);
  cudaError_t count_call(CallKind kind);
  void check(CallKind kind, cudaError_t error, const char* what, const std::string& detail = {});
  void lose(cudaError_t error, bool simulated);

  uint32_t device_index_;
  uint64_t sm_shared_bytes_ = 0, block_shared_bytes_ = 0;  // of a multiprocessor; what a block has besides
  cudaStream_t streams_[kStreamCount] = {};
  std::atomic<uint64_t> counts_[kCallKindCount] = {};
  std::atomic<uint64_t> total_ = 0;
  std::atomic<bool> lost_ = false;
  cudaError_t lost_error_ = cudaSuccess;
  bool lost_by_plan_ = false;
  Holdings holdings_;
  std::unordered_set<const void*> kernels_;
  FaultPlan fault_;
  uint64_t fault_base_ = 0;
};

}  // namespace orcd::cuda
