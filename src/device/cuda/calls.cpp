#include "device/cuda/calls.h"

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

}  // namespace

const char* call_kind_name(CallKind kind) {
  constexpr const char* kNames[kCallKindCount] = {"allocate",    "free", "host_allocate", "host_free",
                                                  "copy",        "set",  "launch",        "event",
                                                  "synchronize", "graph"};
  return kNames[static_cast<int>(kind)];
}

void Calls::set_fault(const FaultPlan& plan) {
  fault_ = plan;
  fault_base_ = total_.load();
}

cudaError_t Calls::planned_fault(CallKind kind) {
  ++counts_[static_cast<int>(kind)];
  const uint64_t number = ++total_ - fault_base_;
  if (fault_.first == 0) return cudaSuccess;
  const bool hit = fault_.once ? number == fault_.first : number >= fault_.first;
  return hit ? fault_.error : cudaSuccess;
}

void Calls::check(CallKind kind, cudaError_t error, const char* what, const std::string& detail) {
  if (error == cudaSuccess) return;
  if (is_sticky(error)) sticky_ = true;
  cudaGetLastError();  // a recoverable error is reported once
  ErrorValues values = {{"call", std::string(call_kind_name(kind))},
                        {"op", std::string(what)},
                        {"device", "cuda:" + std::to_string(device_index_)},
                        {"cuda_error", std::string(cudaGetErrorName(error))},
                        {"sticky", std::string(sticky_ ? "yes" : "no")}};
  if (!detail.empty()) values.emplace_back("shape", detail);
  throw Error(ErrorCode::kCudaError, cudaGetErrorString(error), std::move(values),
              sticky_ ? "the device context is lost; the process must be restarted" : "");
}

void Calls::use_device() {
  check(CallKind::kSynchronize, cudaSetDevice(static_cast<int>(device_index_)), "choose the device");
}

void* Calls::allocate(memory::Ledger* ledger, memory::Category category, uint64_t bytes) {
  void* pointer = nullptr;
  cudaError_t error = planned_fault(CallKind::kAllocate);
  if (error == cudaSuccess) error = cudaMalloc(&pointer, bytes);
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
  check(CallKind::kAllocate, error, "allocate", std::to_string(bytes) + " bytes");
  if (ledger) ledger->allocated(category, bytes);
  return pointer;
}

void Calls::free(memory::Ledger* ledger, memory::Category category, uint64_t bytes, void* pointer) noexcept {
  if (!pointer) return;
  planned_fault(CallKind::kFree);  // counted; freeing is never left out
  cudaFree(pointer);
  cudaGetLastError();
  if (ledger) ledger->freed(category, bytes);
}

void* Calls::host_allocate(uint64_t bytes) {
  void* pointer = nullptr;
  cudaError_t error = planned_fault(CallKind::kHostAllocate);
  if (error == cudaSuccess) error = cudaMallocHost(&pointer, bytes);
  check(CallKind::kHostAllocate, error, "pinned host memory", std::to_string(bytes) + " bytes");
  return pointer;
}

void Calls::host_free(void* pointer) noexcept {
  if (!pointer) return;
  planned_fault(CallKind::kHostFree);
  cudaFreeHost(pointer);
  cudaGetLastError();
}

void Calls::copy_to_device(void* to, const void* from, uint64_t bytes, const char* what) {
  cudaError_t error = planned_fault(CallKind::kCopy);
  if (error == cudaSuccess) error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_);
  check(CallKind::kCopy, error, what, std::to_string(bytes) + " bytes to device");
}

void Calls::copy_to_host(void* to, const void* from, uint64_t bytes, const char* what) {
  cudaError_t error = planned_fault(CallKind::kCopy);
  if (error == cudaSuccess) error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_);
  check(CallKind::kCopy, error, what, std::to_string(bytes) + " bytes to host");
}

void Calls::set(void* pointer, int value, uint64_t bytes, const char* what) {
  cudaError_t error = planned_fault(CallKind::kSet);
  if (error == cudaSuccess) error = cudaMemsetAsync(pointer, value, bytes, stream_);
  check(CallKind::kSet, error, what, std::to_string(bytes) + " bytes");
}

void Calls::record(cudaEvent_t event) {
  cudaError_t error = planned_fault(CallKind::kEvent);
  if (error == cudaSuccess) error = cudaEventRecord(event, stream_);
  check(CallKind::kEvent, error, "record");
}

void Calls::wait_event(cudaEvent_t event) {
  cudaError_t error = planned_fault(CallKind::kSynchronize);
  if (error == cudaSuccess) error = cudaEventSynchronize(event);
  check(CallKind::kSynchronize, error, "wait for a step");
}

void Calls::synchronize(const char* what) {
  cudaError_t error = planned_fault(CallKind::kSynchronize);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream_);
  check(CallKind::kSynchronize, error, what);
}

cudaEvent_t Calls::create_event(bool timing) {
  cudaEvent_t event = nullptr;
  cudaError_t error = planned_fault(CallKind::kEvent);
  if (error == cudaSuccess)
    error = cudaEventCreateWithFlags(&event, timing ? cudaEventDefault : cudaEventDisableTiming);
  check(CallKind::kEvent, error, "create event");
  return event;
}

void Calls::destroy_event(cudaEvent_t event) noexcept {
  if (event) cudaEventDestroy(event);
}

void Calls::begin_capture() {
  cudaError_t error = planned_fault(CallKind::kGraph);
  if (error == cudaSuccess) error = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
  check(CallKind::kGraph, error, "begin capture");
}

cudaGraphExec_t Calls::end_capture() {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream_, &graph);
  const cudaError_t fault = planned_fault(CallKind::kGraph);
  if (error == cudaSuccess) error = fault;
  if (error == cudaSuccess) error = cudaGraphInstantiate(&exec, graph, 0);
  if (graph) cudaGraphDestroy(graph);
  if (error == cudaSuccess) error = cudaGraphUpload(exec, stream_);
  if (error != cudaSuccess && exec) cudaGraphExecDestroy(exec);
  check(CallKind::kGraph, error, "instantiate a graph");
  return exec;
}

void Calls::abort_capture() noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream_, &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void Calls::launch_graph(cudaGraphExec_t graph) {
  cudaError_t error = planned_fault(CallKind::kGraph);
  if (error == cudaSuccess) error = cudaGraphLaunch(graph, stream_);
  check(CallKind::kGraph, error, "launch a graph");
}

void Calls::destroy_graph(cudaGraphExec_t graph) noexcept {
  if (graph) cudaGraphExecDestroy(graph);
}

void Calls::allow_shared(const void* kernel, uint32_t bytes) {
  cudaError_t error = planned_fault(CallKind::kLaunch);
  if (error == cudaSuccess)
    error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  check(CallKind::kLaunch, error, "shared memory of a kernel", std::to_string(bytes) + " bytes");
  prefer_shared(kernel);
}

void Calls::prefer_shared(const void* kernel) {
  cudaError_t error = planned_fault(CallKind::kLaunch);
  if (error == cudaSuccess)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                 cudaSharedmemCarveoutMaxShared);
  check(CallKind::kLaunch, error, "shared memory carve-out of a kernel");
}

void Calls::launch_raw(const char* op, const void* kernel, const LaunchShape& shape, void** args) {
  cudaError_t error = planned_fault(CallKind::kLaunch);
  if (error == cudaSuccess) {
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = stream_;
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = shape.overlap ? 1 : 0;
    error = cudaLaunchKernelExC(&config, kernel, args);
  }
  if (error != cudaSuccess) check(CallKind::kLaunch, error, op, shape_text(shape));
}

}  // namespace orcd::cuda
