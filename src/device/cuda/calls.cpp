#include "device/cuda/calls.h"

#include <algorithm>

#include "base/error.h"

namespace orcd::cuda {
namespace {

// Errors after which the context is unusable: every later call returns the same.
bool is_sticky(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorAssert:
    case cudaErrorLaunchTimeout:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorExternalDevice:
    case cudaErrorContained:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

std::string shape_text(const LaunchShape& shape) {
  const auto triple = [](const dim3& d) {
    return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z);
  };
  return "grid " + triple(shape.grid) + ", block " + triple(shape.block) + ", shared " +
         std::to_string(shape.shared_bytes);
}

std::string bytes_text(uint64_t bytes) { return std::to_string(bytes) + " bytes"; }

}  // namespace

const char* call_kind_name(CallKind kind) {
  constexpr const char* kNames[kCallKindCount] = {
      "device", "allocate", "free",  "host_allocate", "host_free", "copy",  "set",
      "launch", "kernel",   "event", "synchronize",   "graph",     "stream"};
  return kNames[static_cast<int>(kind)];
}

Calls::Calls(uint32_t device_index, const FaultPlan& fault) : device_index_(device_index), fault_(fault) {}

Calls::~Calls() {
  for (cudaStream_t stream : streams_) {
    if (!stream) continue;
    count_call(CallKind::kStream);
    cudaSetDevice(static_cast<int>(device_index_));
    cudaStreamDestroy(stream);
    cudaGetLastError();
  }
}

void Calls::set_fault(const FaultPlan& plan) {
  fault_ = plan;
  fault_base_ = total_.load();
  if (lost_by_plan_) lost_ = lost_by_plan_ = false;
}

void Calls::lose(cudaError_t error, bool simulated) {
  if (lost_) return;
  lost_error_ = error;
  lost_by_plan_ = simulated;
  lost_ = true;
}

// Counts the call; how it ends without being made, or cudaSuccess.
cudaError_t Calls::count_call(CallKind kind) {
  ++counts_[static_cast<int>(kind)];
  const uint64_t number = ++total_ - fault_base_;
  if (lost_) return lost_error_;
  if (fault_.first == 0) return cudaSuccess;
  const bool hit = fault_.once ? number == fault_.first : number >= fault_.first;
  if (!hit) return cudaSuccess;
  if (is_sticky(fault_.error)) lose(fault_.error, true);
  return fault_.error;
}

template <typename Call>
cudaError_t Calls::make(CallKind kind, const Call& call) {
  const cudaError_t ended = count_call(kind);
  return ended == cudaSuccess ? call() : ended;
}

template <typename Call>
void Calls::made(CallKind kind, const char* what, const Call& call, std::string (*detail)(uint64_t),
                 uint64_t value) {
  const cudaError_t error = make(kind, call);
  if (error != cudaSuccess) check(kind, error, what, detail ? detail(value) : std::string());
}

void Calls::check(CallKind kind, cudaError_t error, const char* what, const std::string& detail) {
  if (error == cudaSuccess) return;
  if (is_sticky(error)) lose(error, false);
  cudaGetLastError();  // a recoverable error is reported once
  ErrorValues values = {{"call", std::string(call_kind_name(kind))},
                        {"op", std::string(what)},
                        {"device", "cuda:" + std::to_string(device_index_)},
                        {"cuda_error", std::string(cudaGetErrorName(error))},
                        {"context", std::string(lost_ ? "lost" : "usable")}};
  if (!detail.empty()) values.emplace_back("shape", detail);
  throw Error(ErrorCode::kCudaError, cudaGetErrorString(error), std::move(values),
              lost_ ? "the device context is lost; the process must be restarted" : "");
}

int Calls::device_count() {
  int n = 0;
  const cudaError_t error = cudaGetDeviceCount(&n);
  if (error == cudaSuccess) return n;
  cudaGetLastError();
  if (error == cudaErrorNoDevice) return 0;  // or CUDA_VISIBLE_DEVICES hides them all
  throw Error(ErrorCode::kCudaError, std::string("no usable CUDA driver: ") + cudaGetErrorString(error),
              {{"cuda_error", std::string(cudaGetErrorName(error))}},
              "install the NVIDIA driver, or use --device cpu");
}

cudaDeviceProp Calls::properties() {
  cudaDeviceProp properties = {};
  made(CallKind::kDevice, "read device properties",
       [&] { return cudaGetDeviceProperties(&properties, static_cast<int>(device_index_)); });
  sm_shared_bytes_ = properties.sharedMemPerMultiprocessor;
  block_shared_bytes_ = properties.reservedSharedMemPerBlock;
  return properties;
}

uint32_t Calls::blocks_per_sm(uint32_t shared_bytes) const {
  return static_cast<uint32_t>(sm_shared_bytes_ / (shared_bytes + block_shared_bytes_));
}

std::string Calls::pci_bus_id() {
  char id[32] = {};
  made(CallKind::kDevice, "read the PCI bus id",
       [&] { return cudaDeviceGetPCIBusId(id, sizeof id, static_cast<int>(device_index_)); });
  return id;
}

int Calls::runtime_version() {
  int version = 0;
  made(CallKind::kDevice, "read the runtime version", [&] { return cudaRuntimeGetVersion(&version); });
  return version;
}

void Calls::use_device() {
  made(CallKind::kDevice, "choose the device",
       [&] { return cudaSetDevice(static_cast<int>(device_index_)); });
}

MemoryInfo Calls::memory_info() {
  size_t free = 0, total = 0;
  made(CallKind::kDevice, "read free memory", [&] { return cudaMemGetInfo(&free, &total); });
  return {free, total};
}

void Calls::set_limit(cudaLimit limit, uint64_t value, const char* what) {
  made(
      CallKind::kDevice, what, [&] { return cudaDeviceSetLimit(limit, value); }, bytes_text, value);
}

void Calls::create_streams() {
  for (cudaStream_t& stream : streams_) {
    made(CallKind::kStream, "create a stream",
         [&] { return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); });
  }
}

void* Calls::allocate(memory::Ledger* ledger, memory::Category category, uint64_t bytes) {
  void* pointer = nullptr;
  const cudaError_t error = make(CallKind::kAllocate, [&] { return cudaMalloc(&pointer, bytes); });
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free_bytes = 0, total_bytes = 0;
    cudaMemGetInfo(&free_bytes, &total_bytes);
    throw Error(ErrorCode::kInsufficientVram, "the device refused an allocation that the plan needs",
                {{"required", bytes},
                 {"available", static_cast<uint64_t>(free_bytes)},
                 {"category", std::string(memory::category_name(category))},
                 {"device", "cuda:" + std::to_string(device_index_)}},
                "close other programs on this device, or lower the context or the number of slots");
  }
  check(CallKind::kAllocate, error, "allocate", bytes_text(bytes));
  holdings_.device_bytes += bytes;
  if (ledger) ledger->allocated(category, bytes);
  return pointer;
}

void Calls::free(memory::Ledger* ledger, memory::Category category, uint64_t bytes, void* pointer) noexcept {
  if (!pointer) return;
  count_call(CallKind::kFree);
  cudaFree(pointer);
  cudaGetLastError();
  holdings_.device_bytes -= bytes;
  if (ledger) ledger->freed(category, bytes);
}

void* Calls::host_allocate(memory::Ledger* ledger, uint64_t bytes) {
  void* pointer = nullptr;
  made(
      CallKind::kHostAllocate, "pinned host memory", [&] { return cudaMallocHost(&pointer, bytes); },
      bytes_text, bytes);
  holdings_.host_bytes += bytes;
  if (ledger) ledger->host_allocated(bytes);
  return pointer;
}

void Calls::host_free(memory::Ledger* ledger, uint64_t bytes, void* pointer) noexcept {
  if (!pointer) return;
  count_call(CallKind::kHostFree);
  cudaFreeHost(pointer);
  cudaGetLastError();
  holdings_.host_bytes -= bytes;
  if (ledger) ledger->host_freed(bytes);
}

std::string Calls::pointer_type(const void* pointer) {
  cudaPointerAttributes attributes = {};
  made(CallKind::kDevice, "read pointer attributes",
       [&] { return cudaPointerGetAttributes(&attributes, pointer); });
  switch (attributes.type) {
    case cudaMemoryTypeDevice:
      return attributes.hostPointer || attributes.device != static_cast<int>(device_index_) ? "host"
                                                                                            : "device";
    case cudaMemoryTypeManaged:
      return "managed";
    case cudaMemoryTypeHost:
      return "host";
    default:
      return "unknown";
  }
}

void Calls::copy_to_device(void* to, const void* from, uint64_t bytes, const char* what, Stream in) {
  made(
      CallKind::kCopy, what,
      [&] { return cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream(in)); }, bytes_text,
      bytes);
}

void Calls::copy_to_host(void* to, const void* from, uint64_t bytes, const char* what, Stream in) {
  made(
      CallKind::kCopy, what,
      [&] { return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream(in)); }, bytes_text,
      bytes);
}

void Calls::set(void* pointer, int value, uint64_t bytes, const char* what) {
  made(
      CallKind::kSet, what, [&] { return cudaMemsetAsync(pointer, value, bytes, stream()); }, bytes_text,
      bytes);
}

cudaEvent_t Calls::create_event(bool timing) {
  cudaEvent_t event = nullptr;
  made(CallKind::kEvent, "create event",
       [&] { return cudaEventCreateWithFlags(&event, timing ? cudaEventDefault : cudaEventDisableTiming); });
  ++holdings_.events;
  return event;
}

void Calls::destroy_event(cudaEvent_t event) noexcept {
  if (!event) return;
  count_call(CallKind::kEvent);
  cudaEventDestroy(event);
  cudaGetLastError();
  --holdings_.events;
}

void Calls::record(cudaEvent_t event, Stream in) {
  made(CallKind::kEvent, "record", [&] { return cudaEventRecord(event, stream(in)); });
}

void Calls::continue_after(cudaEvent_t event, Stream in) {
  made(CallKind::kEvent, "let a stream wait", [&] { return cudaStreamWaitEvent(stream(in), event, 0); });
}

void Calls::wait_event(cudaEvent_t event) {
  made(CallKind::kSynchronize, "wait for an event", [&] { return cudaEventSynchronize(event); });
}

float Calls::elapsed_ms(cudaEvent_t begin, cudaEvent_t end) {
  float ms = 0;
  made(CallKind::kEvent, "read a time", [&] { return cudaEventElapsedTime(&ms, begin, end); });
  return ms;
}

void Calls::synchronize(const char* what) {
  for (cudaStream_t stream : streams_)
    made(CallKind::kSynchronize, what, [&] { return cudaStreamSynchronize(stream); });
}

void Calls::finish() noexcept {
  count_call(CallKind::kSynchronize);
  cudaSetDevice(static_cast<int>(device_index_));
  for (cudaStream_t stream : streams_) cudaStreamSynchronize(stream);
  cudaGetLastError();
}

void Calls::begin_capture() {
  made(CallKind::kGraph, "begin capture",
       [&] { return cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal); });
}

cudaGraphExec_t Calls::end_capture() {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  // The capture is ended whatever the plan says: the stream must be usable again.
  cudaError_t error = cudaStreamEndCapture(stream(), &graph);
  if (const cudaError_t ended = count_call(CallKind::kGraph); ended != cudaSuccess) error = ended;
  if (error == cudaSuccess)
    error = make(CallKind::kGraph, [&] { return cudaGraphInstantiate(&exec, graph, 0); });
  if (graph) cudaGraphDestroy(graph);
  if (error == cudaSuccess) error = make(CallKind::kGraph, [&] { return cudaGraphUpload(exec, stream()); });
  if (error != cudaSuccess && exec) cudaGraphExecDestroy(exec);
  check(CallKind::kGraph, error, "instantiate a graph");
  ++holdings_.graphs;
  return exec;
}

void Calls::abort_capture() noexcept {
  count_call(CallKind::kGraph);
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream(), &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void Calls::launch_graph(cudaGraphExec_t graph) {
  made(CallKind::kGraph, "launch a graph", [&] { return cudaGraphLaunch(graph, stream()); });
}

void Calls::destroy_graph(cudaGraphExec_t graph) noexcept {
  if (!graph) return;
  count_call(CallKind::kGraph);
  cudaGraphExecDestroy(graph);
  cudaGetLastError();
  --holdings_.graphs;
}

void Calls::allow_shared(const void* kernel, uint32_t bytes) {
  made(
      CallKind::kKernel, "shared memory of a kernel",
      [&] {
        return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(bytes));
      },
      bytes_text, bytes);
  prefer_shared(kernel);
}

void Calls::prefer_shared(const void* kernel) {
  kernels_.insert(kernel);
  made(CallKind::kKernel, "shared memory carve-out of a kernel", [&] {
    return cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                cudaSharedmemCarveoutMaxShared);
  });
}

LocalMemory Calls::local_memory() {
  LocalMemory out;
  for (const void* kernel : kernels_) {
    cudaFuncAttributes attributes = {};
    made(CallKind::kKernel, "attributes of a kernel",
         [&] { return cudaFuncGetAttributes(&attributes, kernel); });
    out.bytes_per_thread = std::max<uint64_t>(out.bytes_per_thread, attributes.localSizeBytes);
    ++out.n_kernels;
  }
  return out;
}

void Calls::launch_raw(const char* op, const void* kernel, const LaunchShape& shape, void** args) {
  kernels_.insert(kernel);
  const cudaError_t error = make(CallKind::kLaunch, [&] {
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = stream();
    cudaLaunchAttribute attributes[3] = {};
    config.attrs = attributes;
    if (shape.overlap) {
      cudaLaunchAttribute& overlap = attributes[config.numAttrs++];
      overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      overlap.val.programmaticStreamSerializationAllowed = 1;
    }
    if (shape.cluster > 1) {
      cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
      cluster.id = cudaLaunchAttributeClusterDimension;
      cluster.val.clusterDim.x = shape.cluster;
      cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    }
    if (shape.together) {
      cudaLaunchAttribute& together = attributes[config.numAttrs++];
      together.id = cudaLaunchAttributeCooperative;
      together.val.cooperative = 1;
    }
    return cudaLaunchKernelExC(&config, kernel, args);
  });
  if (error != cudaSuccess) check(CallKind::kLaunch, error, op, shape_text(shape));
}

}  // namespace orcd::cuda
