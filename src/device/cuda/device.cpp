// The CUDA device object: opened by number, refused with a reason, its properties read once.
#include "device/cuda/device.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <string>

#include "base/error.h"
#include "base/units.h"
#include "device/cuda/architecture.h"
#include "device/cuda/executor.h"
#include "device/cuda/experts.h"
#include "device/cuda/kernels.h"
#include "device/cuda/linear.h"
#include "device/cuda/nvml.h"
#include "device/cuda/persistent.h"
#include "device/cuda_device.h"
#include "device/limits.h"

namespace orcd::cuda {
namespace {

// All code is loaded when the context is made and not at a kernel's first use, so that nothing grows after
// ready. Before main, as the driver reads it once and other threads may read the environment later.
[[maybe_unused]] const int kEagerLoading = setenv("CUDA_MODULE_LOADING", "EAGER", 0);

// Free memory that a plan leaves to the driver: an arena takes whole granules of 2 MiB, recorded graphs take
// some.
constexpr uint64_t kDriverReserve = 64 * kMiB;

Error refuse(uint32_t index, std::string message, std::string hint) {
  return Error(ErrorCode::kCudaError, std::move(message), {{"device", "cuda:" + std::to_string(index)}},
               std::move(hint));
}

// How many there are, where the one with this number is asked for.
int count_for(uint32_t index) {
  try {
    return Calls::device_count();
  } catch (const Error& error) {
    ErrorValues values = {{"device", "cuda:" + std::to_string(index)}};
    values.insert(values.end(), error.values().begin(), error.values().end());
    throw Error(error.code(), error.message(), std::move(values), error.hint());
  }
}

// What making the context took, measured when the process made it: it then stays until the process ends.
uint64_t driver_overhead(uint32_t index, const device::DriverMemory& before,
                         const device::DriverMemory& after, uint64_t used_by_all) {
  static std::mutex mutex;
  static std::map<uint32_t, uint64_t> measured;
  std::lock_guard lock(mutex);
  const auto found = measured.find(index);
  if (found != measured.end()) return found->second;
  const bool known = before.reason.empty() && after.reason.empty() && after.used_bytes > before.used_bytes;
  const uint64_t bytes =
      after.process_bytes.value_or(known ? after.used_bytes - before.used_bytes : used_by_all);
  return measured.emplace(index, bytes).first->second;
}

struct DeviceBuffer {
  DeviceBuffer(Calls* calls_in, uint64_t bytes_in)
      : calls(calls_in), bytes(bytes_in), data(calls->allocate(nullptr, memory::Category::kStaging, bytes)) {}
  ~DeviceBuffer() {
    calls->finish();
    calls->free(nullptr, memory::Category::kStaging, bytes, data);
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  Calls* calls;
  uint64_t bytes;
  void* data;
};

struct TimingEvent {
  explicit TimingEvent(Calls* calls_in) : calls(calls_in), event(calls->create_event(true)) {}
  ~TimingEvent() { calls->destroy_event(event); }
  TimingEvent(const TimingEvent&) = delete;
  TimingEvent& operator=(const TimingEvent&) = delete;
  Calls* calls;
  cudaEvent_t event;
};

constexpr uint32_t kBatchTokens = 2048;  // of a step: matrices are read once for more tokens

// Pairs of a token and an expert of floats are rows of a grid, of which a launch has 65,535.
uint32_t most_batch_tokens(const model::Program& program) {
  return program.has_float_experts ? 65535 / program.max_experts_used : device::kMaxBatchTokens;
}

class CudaDevice final : public device::Device {
 public:
  explicit CudaDevice(std::shared_ptr<Context> context) : context_(std::move(context)) {}

  const device::DeviceInfo& info() const override { return context_->info; }

  uint64_t free_bytes() const override {
    context_->calls->use_device();
    return context_->calls->memory_info().free_bytes;
  }

  std::optional<device::DriverMemory> driver_memory() const override {
    return read_driver_memory(context_->pci_bus_id);
  }

  device::ResolvedLimits resolve(const model::Program& program, const device::Limits& limits) const override {
    const uint64_t most = available(limits.budget_bytes);
    const device::PlanFunction plan = plan_of(program);
    const uint32_t most_tokens = most_batch_tokens(program);
    if (limits.batch_tokens > most_tokens) {
      throw Error(ErrorCode::kInvalidRequest, "a step has too many tokens for experts of F32, F16 or BF16",
                  {{"batch_tokens", uint64_t{limits.batch_tokens}}, {"most", uint64_t{most_tokens}}},
                  "lower --batch-tokens");
    }
    return device::with_larger_steps(limits,
                                     device::resolve_limits(program, limits, context_->info.name, most, plan),
                                     std::min(kBatchTokens, most_tokens), most, plan);
  }

  memory::Plan plan(const model::Program& program, const device::ResolvedLimits& limits) const override {
    return make_plan(*context_, program, limits).plan;
  }

  std::unique_ptr<device::Executor> load(std::shared_ptr<const model::Program> program,
                                         const device::ResolvedLimits& limits,
                                         const device::Progress& progress) override {
    context_->calls->use_device();
    try {
      return make_executor(context_, program, limits, progress);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInsufficientVram) throw;
      throw with_model(error, *program, limits);
    }
  }

  double measure_read_bandwidth(uint64_t bytes) override {
    constexpr int kRuns = 5;
    Calls* calls = context_->calls.get();
    calls->use_device();
    if (bytes == 0) bytes = std::min<uint64_t>(4 * kGiB, free_bytes() / 4);
    bytes = bytes / 4096 * 4096;
    const DeviceBuffer buffer(calls, bytes);
    const TimingEvent begin(calls), end(calls);
    calls->set(buffer.data, 0x5a, bytes, "fill the bandwidth buffer");
    const ReadArgs args = {static_cast<const uint4*>(buffer.data), bytes / 16,
                           static_cast<uint32_t*>(buffer.data)};
    double best = 0;
    for (int run = 0; run < kRuns; ++run) {
      calls->record(begin.event);
      launch_read(calls, context_->n_sm, args);
      calls->record(end.event);
      calls->wait_event(end.event);
      best = std::max(best, static_cast<double>(bytes) / (calls->elapsed_ms(begin.event, end.event) * 1e-3));
    }
    return best;
  }

 private:
  uint64_t available(uint64_t budget_bytes) const {
    const uint64_t free = free_bytes();
    const uint64_t most = free - std::min(free, kDriverReserve);
    return budget_bytes != 0 ? std::min(budget_bytes, most) : most;
  }

  device::PlanFunction plan_of(const model::Program& program) const {
    return [this, &program](const device::ResolvedLimits& limits) {
      return CudaPlan(program, limits, context_->persistent).plan;
    };
  }

  // The driver refused what was free when it was asked: told like any plan that does not fit.
  Error with_model(const Error& error, const model::Program& program,
                   const device::ResolvedLimits& limits) const {
    const device::Limits asked = {.slots = limits.slots, .batch_tokens = limits.batch_tokens};
    uint32_t max_context = 0;
    if (!context_->calls->lost())
      max_context = device::largest_context(program, asked, available(0), plan_of(program));
    ErrorValues values = error.values();
    values.emplace_back("model", device::model_label(program));
    values.emplace_back("planned", make_plan(*context_, program, limits).plan.total_bytes());
    values.emplace_back("max_context", uint64_t{max_context});
    return Error(error.code(), error.message(), std::move(values), error.hint());
  }

  std::shared_ptr<Context> context_;
};

}  // namespace

Context::Context(uint32_t index_in, const FaultPlan& fault)
    : index(index_in), calls(std::make_unique<Calls>(index_in, fault)) {
  const int n = count_for(index);
  if (index >= static_cast<uint32_t>(n))
    throw refuse(index, "there is no CUDA device with this number; there are " + std::to_string(n),
                 "see `devices`; CUDA_VISIBLE_DEVICES hides some and counts the others from 0");
  const cudaDeviceProp properties = calls->properties();
  if (const auto no = refusal(properties.integrated != 0, properties.major, properties.minor,
                              ORCD_COMPILED_ARCHITECTURES, properties.sharedMemPerBlockOptin))
    throw refuse(index, no->message, no->hint);
  n_sm = static_cast<uint32_t>(properties.multiProcessorCount);
  const Kernels wanted = wanted_kernels();
  has_clusters = properties.major >= 9 && wanted != Kernels::kPortable;
  persistent.streams = wanted == Kernels::kStreamed;
  if (properties.major >= 9 && (wanted == Kernels::kDefault || persistent.streams)) persistent.n = n_sm;
  has_wgmma = properties.major == 9 &&
              std::string_view(ORCD_COMPILED_ARCHITECTURES).find("90a") != std::string_view::npos &&
              wanted != Kernels::kPortable;
  pci_bus_id = calls->pci_bus_id();
  const device::DriverMemory before = read_driver_memory(pci_bus_id);
  calls->use_device();
  calls->set_limit(cudaLimitMallocHeapSize, 0, "set the heap limit");
  calls->create_streams();
  prepare_linear(calls.get());
  prepare_router(calls.get());
  prepare_sort(calls.get());
  prepare_sample(calls.get());
  prepare_quantize(calls.get());
  prepare_attention(calls.get());
  prepare_decode(calls.get());
  if (persistent.n != 0) prepare_persistent(calls.get());
  prepare_prefill_attention(calls.get());
  const LocalMemory local = calls->local_memory();
  const MemoryInfo memory = calls->memory_info();
  info.name = "cuda:" + std::to_string(index);
  info.description = std::string(properties.name) + ", " + std::to_string(n_sm) + " multiprocessors";
  info.isa = "sm_" + std::to_string(properties.major) + std::to_string(properties.minor);
  info.total_bytes = memory.total_bytes;
  info.free_bytes = memory.free_bytes;
  info.driver_overhead_bytes =
      driver_overhead(index, before, read_driver_memory(pci_bus_id), memory.total_bytes - memory.free_bytes);
  info.reserved_bytes = kDriverReserve;
  info.cuda_runtime_version = calls->runtime_version();
  info.local_bytes_per_thread = local.bytes_per_thread;
  info.n_kernels = local.n_kernels;
}

std::unique_ptr<device::Device> make_device(std::shared_ptr<Context> context) {
  return std::make_unique<CudaDevice>(std::move(context));
}

}  // namespace orcd::cuda

namespace orcd::device {

std::unique_ptr<Device> open_cuda_device(uint32_t index) {
  return cuda::make_device(std::make_shared<cuda::Context>(index));
}

CudaDevices count_cuda_devices() {
  try {
    const auto n = static_cast<uint32_t>(cuda::Calls::device_count());
    return {n, n ? "" : "the driver shows none; CUDA_VISIBLE_DEVICES may hide them"};
  } catch (const Error& error) {
    return {0, error.line()};
  }
}

}  // namespace orcd::device
