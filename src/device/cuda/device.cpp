// The CUDA device object: opened by number, refused with a reason, its properties read once.
#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/units.h"
#include "device/cuda/executor.h"
#include "device/cuda_device.h"
#include "device/limits.h"

namespace orcd::cuda {
namespace {

Error refuse(uint32_t index, std::string message, std::string hint = {}) {
  return Error(ErrorCode::kCudaError, std::move(message), {{"device", "cuda:" + std::to_string(index)}},
               std::move(hint));
}

void need(uint32_t index, cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  throw Error(
      ErrorCode::kCudaError, std::string(what) + ": " + cudaGetErrorString(error),
      {{"device", "cuda:" + std::to_string(index)}, {"cuda_error", std::string(cudaGetErrorName(error))}});
}

int device_count() {
  int n = 0;
  const cudaError_t error = cudaGetDeviceCount(&n);
  if (error != cudaSuccess) cudaGetLastError();
  return error == cudaSuccess ? n : 0;
}

class CudaDevice final : public device::Device {
 public:
  explicit CudaDevice(uint32_t index) : context_(std::make_shared<Context>(index)) {}

  const device::DeviceInfo& info() const override { return context_->info; }

  uint64_t free_bytes() const override {
    size_t free = 0, total = 0;
    need(context_->index, cudaSetDevice(static_cast<int>(context_->index)), "choose the device");
    need(context_->index, cudaMemGetInfo(&free, &total), "read free memory");
    return free;
  }

  device::ResolvedLimits resolve(const model::Program& program, const device::Limits& limits) const override {
    const uint64_t free = free_bytes();
    const uint64_t available = limits.budget_bytes != 0 ? std::min(limits.budget_bytes, free) : free;
    return device::resolve_limits(
        program, limits, context_->info.name, available,
        [&](const device::ResolvedLimits& resolved) { return plan(program, resolved); });
  }

  memory::Plan plan(const model::Program& program, const device::ResolvedLimits& limits) const override {
    return CudaPlan(program, limits).plan;
  }

  std::unique_ptr<device::Executor> load(std::shared_ptr<const model::Program> program,
                                         const device::ResolvedLimits& limits,
                                         const device::Progress& progress) override {
    need(context_->index, cudaSetDevice(static_cast<int>(context_->index)), "choose the device");
    return make_executor(context_, std::move(program), limits, progress);
  }

  double measure_read_bandwidth(uint64_t bytes) override {
    constexpr int kRuns = 5;
    need(context_->index, cudaSetDevice(static_cast<int>(context_->index)), "choose the device");
    if (bytes == 0) bytes = std::min<uint64_t>(4 * kGiB, free_bytes() / 4);
    bytes = bytes / 4096 * 4096;
    Calls* calls = context_->calls.get();
    memory::Ledger ledger;
    void* buffer = calls->allocate(&ledger, memory::Category::kStaging, bytes);
    double best = 0;
    cudaEvent_t begin = nullptr, end = nullptr;
    const auto release = [&] {
      calls->destroy_event(begin);
      calls->destroy_event(end);
      calls->free(&ledger, memory::Category::kStaging, bytes, buffer);
    };
    try {
      begin = calls->create_event(true);
      end = calls->create_event(true);
      calls->set(buffer, 0x5a, bytes, "fill the bandwidth buffer");
      const ReadArgs args = {static_cast<const uint4*>(buffer), bytes / 16, static_cast<uint32_t*>(buffer)};
      for (int run = 0; run < kRuns; ++run) {
        calls->record(begin);
        launch_read(calls, context_->n_sm, args);
        calls->record(end);
        calls->wait_event(end);
        float ms = 0;
        cudaEventElapsedTime(&ms, begin, end);
        best = std::max(best, static_cast<double>(bytes) / (ms * 1e-3));
      }
    } catch (...) {
      release();
      throw;
    }
    release();
    return best;
  }

 private:
  std::shared_ptr<Context> context_;
};

}  // namespace

Context::Context(uint32_t index_in) : index(index_in) {
  int n = 0;
  const cudaError_t count_error = cudaGetDeviceCount(&n);
  if (count_error != cudaSuccess) {
    cudaGetLastError();
    throw refuse(index, std::string("no usable CUDA driver: ") + cudaGetErrorString(count_error),
                 "install the NVIDIA driver, or use --device cpu");
  }
  if (index >= static_cast<uint32_t>(n))
    throw refuse(index, "there is no CUDA device with this number; there are " + std::to_string(n),
                 "see `devices`");
  cudaDeviceProp properties = {};
  need(index, cudaGetDeviceProperties(&properties, static_cast<int>(index)), "read device properties");
  if (properties.integrated != 0)
    throw refuse(index, "an integrated GPU shares the host's memory, so nothing could be resident in VRAM");
  if (properties.major < 8)
    throw refuse(index,
                 "compute capability " + std::to_string(properties.major) + "." +
                     std::to_string(properties.minor) + " is too old",
                 "a GPU of compute capability 8.0 or newer is needed");
  need(index, cudaSetDevice(static_cast<int>(index)), "choose the device");
  size_t free = 0, total = 0;
  need(index, cudaMemGetInfo(&free, &total), "create the context");
  need(index, cudaDeviceSetLimit(cudaLimitMallocHeapSize, 0), "set the heap limit");
  need(index, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create the stream");
  n_sm = static_cast<uint32_t>(properties.multiProcessorCount);
  has_wgmma = properties.major == 9;
  int runtime = 0;
  cudaRuntimeGetVersion(&runtime);
  need(index, cudaMemGetInfo(&free, &total), "read free memory");
  info.name = "cuda:" + std::to_string(index);
  info.description = std::string(properties.name) + ", " + std::to_string(n_sm) + " multiprocessors";
  info.isa = "sm_" + std::to_string(properties.major) + std::to_string(properties.minor);
  info.total_bytes = total;
  info.free_bytes = free;
  info.driver_overhead_bytes = total - free;
  info.cuda_runtime_version = runtime;
  calls = std::make_unique<Calls>(index, stream);
}

Context::~Context() {
  if (!stream) return;
  cudaSetDevice(static_cast<int>(index));
  cudaStreamDestroy(stream);
}

}  // namespace orcd::cuda

namespace orcd::device {

std::unique_ptr<Device> open_cuda_device(uint32_t index) { return std::make_unique<cuda::CudaDevice>(index); }

std::vector<DeviceInfo> list_cuda_devices() {
  std::vector<DeviceInfo> all;
  for (int i = 0; i < cuda::device_count(); ++i) {
    try {
      all.push_back(cuda::CudaDevice(static_cast<uint32_t>(i)).info());
    } catch (const Error&) {
      // A device that cannot be opened is not in the list; open_cuda_device() says why.
    }
  }
  return all;
}

}  // namespace orcd::device
