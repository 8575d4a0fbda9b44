// The CUDA runtime played in host memory, for the host side of the device: allocations are malloc, kernels do
// nothing. Work is done as late as it may be, when the host waits for it or a stream that it waits for, and
// what a real stream would forgive or turn into wrong bits ends the process: a buffer freed or a pinned
// source changed before its copy was made.
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>

#include "gpu/fake_cudart.h"

struct Operation {
  std::function<void()> run;
  const uint8_t *first = nullptr, *second = nullptr;  // memory that must be there until then
};
struct CUstream_st {
  std::deque<Operation> queue;
  uint64_t n_queued = 0, n_run = 0;
};
struct CUevent_st {
  cudaStream_t stream = nullptr;  // of the last record
  uint64_t reached_at = 0;        // when so many of its operations have run
};
struct CUgraph_st {};
struct CUgraphExec_st {};

namespace {

constexpr uint64_t kTotalBytes = uint64_t{64} << 30;

std::atomic<uint64_t> devices_chosen = 0;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "fake_cudart: %s\n", what);
  std::abort();
}

struct Runtime {
  std::recursive_mutex mutex;
  std::map<const uint8_t*, size_t> device, pinned;     // live allocations
  uint64_t device_bytes = 0, n_queued = 0, n_run = 0;  // operations of all streams
  std::set<cudaStream_t> streams;
  bool capturing = false;

  static const std::map<const uint8_t*, size_t>::value_type* find(const std::map<const uint8_t*, size_t>& in,
                                                                  const void* pointer) {
    const auto* p = static_cast<const uint8_t*>(pointer);
    auto it = in.upper_bound(p);
    if (it == in.begin()) return nullptr;
    --it;
    return p < it->first + it->second ? &*it : nullptr;
  }
  void push(cudaStream_t stream, Operation operation) {
    if (capturing) return;  // a graph's nodes do nothing when it runs
    stream->queue.push_back(std::move(operation));
    ++stream->n_queued;
    ++n_queued;
  }
  void run_until(cudaStream_t stream, uint64_t number) {
    while (stream->n_run < number) {
      stream->queue.front().run();
      stream->queue.pop_front();
      ++stream->n_run;
      ++n_run;
    }
  }
  void must_be_idle(const uint8_t* base, size_t bytes) const {
    for (const cudaStream_t stream : streams)
      for (const Operation& operation : stream->queue)
        for (const uint8_t* used : {operation.first, operation.second})
          if (used && used >= base && used < base + bytes)
            fail("memory is freed while a copy still needs it");
  }
  cudaError_t release(std::map<const uint8_t*, size_t>& from, void* pointer) {
    const auto it = from.find(static_cast<const uint8_t*>(pointer));
    if (it == from.end()) fail("what is freed was not allocated");
    must_be_idle(it->first, it->second);
    if (&from == &device) device_bytes -= it->second;
    from.erase(it);
    std::free(pointer);
    return cudaSuccess;
  }
};

Runtime& runtime() {
  static Runtime instance;
  return instance;
}
using Lock = std::lock_guard<std::recursive_mutex>;

uint64_t hash(const uint8_t* bytes, size_t n) {
  uint64_t h = n;
  for (size_t i = 0; i < n; ++i) h = (h ^ bytes[i]) * 0x100000001b3ull;
  return h;
}

}  // namespace

namespace orcd::test {

uint64_t fake_operations_run() {
  Lock lock(runtime().mutex);
  return runtime().n_run;
}
uint64_t fake_devices_chosen() { return devices_chosen; }
uint64_t fake_operations_queued() {
  Lock lock(runtime().mutex);
  return runtime().n_queued;
}

}  // namespace orcd::test

extern "C" {

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {}
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { return cudaSuccess; }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) { return cudaSuccess; }
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "fake GPU");
  properties->major = 9;
  properties->multiProcessorCount = 132;
  properties->sharedMemPerBlockOptin = 227 * 1024;
  properties->sharedMemPerMultiprocessor = 228 * 1024;
  properties->reservedSharedMemPerBlock = 1024;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int) {
  std::snprintf(id, static_cast<size_t>(length), "0000:00:00.0");
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) {
  ++devices_chosen;
  return cudaSuccess;
}
cudaError_t cudaDeviceSetLimit(enum cudaLimit, size_t) { return cudaSuccess; }
cudaError_t cudaFuncSetAttribute(const void*, enum cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  return cudaSuccess;
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}
const char* cudaGetErrorString(cudaError_t) { return "a fake error"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  Lock lock(runtime().mutex);
  *total = kTotalBytes;
  *free = kTotalBytes - runtime().device_bytes;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  Runtime& r = runtime();
  Lock lock(r.mutex);
  if (bytes > kTotalBytes - r.device_bytes) return cudaErrorMemoryAllocation;
  *pointer = std::malloc(bytes);
  std::memset(*pointer, 0xcc, bytes);
  r.device.emplace(static_cast<uint8_t*>(*pointer), bytes);
  r.device_bytes += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  Lock lock(runtime().mutex);
  return runtime().release(runtime().device, pointer);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  Lock lock(runtime().mutex);
  *pointer = std::malloc(bytes);
  std::memset(*pointer, 0xcc, bytes);
  runtime().pinned.emplace(static_cast<uint8_t*>(*pointer), bytes);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  Lock lock(runtime().mutex);
  return runtime().release(runtime().pinned, pointer);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  Lock lock(runtime().mutex);
  *attributes = {};
  attributes->type = Runtime::find(runtime().device, pointer)   ? cudaMemoryTypeDevice
                     : Runtime::find(runtime().pinned, pointer) ? cudaMemoryTypeHost
                                                                : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Runtime& r = runtime();
  Lock lock(r.mutex);
  const bool up = kind == cudaMemcpyHostToDevice;
  const auto* block = Runtime::find(r.device, up ? to : from);
  const auto* at = static_cast<const uint8_t*>(up ? to : from);
  if (!block || at + bytes > block->first + block->second) fail("a copy leaves its allocation");
  const auto *source = static_cast<const uint8_t*>(from), *target = static_cast<const uint8_t*>(to);
  if (!Runtime::find(r.pinned, up ? from : to)) {  // pageable memory: the driver waits
    r.run_until(stream, stream->n_queued);
    std::memcpy(to, from, bytes);
    return cudaSuccess;
  }
  const uint64_t before = up ? hash(source, bytes) : 0;
  r.push(stream, {[=] {
                    if (up && hash(source, bytes) != before)
                      fail("a pinned source changed before its copy was made");
                    std::memcpy(to, from, bytes);
                  },
                  source, target});
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  Runtime& r = runtime();
  Lock lock(r.mutex);
  const auto* block = Runtime::find(r.device, pointer);
  if (!block || static_cast<uint8_t*>(pointer) + bytes > block->first + block->second)
    fail("a fill leaves its allocation");
  r.push(stream, {[=] { std::memset(pointer, value, bytes); }, static_cast<uint8_t*>(pointer), nullptr});
  return cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void*, void**) {
  Lock lock(runtime().mutex);
  runtime().push(config->stream, {[] {}, nullptr, nullptr});
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Lock lock(runtime().mutex);
  event->stream = stream;
  event->reached_at = stream->n_queued;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Lock lock(runtime().mutex);
  if (event->stream) runtime().run_until(event->stream, event->reached_at);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) {
  *ms = 1;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Lock lock(runtime().mutex);
  *stream = new CUstream_st;
  runtime().streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock(runtime().mutex);
  runtime().run_until(stream, stream->n_queued);
  runtime().streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Lock lock(runtime().mutex);
  if (const cudaStream_t other = event->stream) {
    const uint64_t number = event->reached_at;
    runtime().push(stream, {[=] { runtime().run_until(other, number); }, nullptr, nullptr});
  }
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Lock lock(runtime().mutex);
  if (runtime().capturing) fail("a stream is waited for while it captures");
  runtime().run_until(stream, stream->n_queued);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, enum cudaStreamCaptureMode) {
  Lock lock(runtime().mutex);
  if (runtime().capturing) fail("a capture inside a capture");
  runtime().capturing = true;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  Lock lock(runtime().mutex);
  if (!runtime().capturing) fail("the end of no capture");
  runtime().capturing = false;
  *graph = new CUgraph_st;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t, unsigned long long) {
  *exec = new CUgraphExec_st;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t stream) {
  Lock lock(runtime().mutex);
  runtime().push(stream, {[] {}, nullptr, nullptr});
  return cudaSuccess;
}

}  // extern "C"
