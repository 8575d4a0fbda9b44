#include "device/cpu/cpu_device.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>

#include "base/error.h"
#include "base/units.h"
#include "device/cpu/arena.h"
#include "device/cpu/executor.h"
#include "device/cpu/host_memory.h"
#include "device/cpu/isa.h"
#include "device/cpu/plan.h"
#include "device/cpu/thread_pool.h"
#include "device/limits.h"

namespace orcd::cpu {
namespace {

constexpr uint32_t kMaxThreads = 256;

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

const Kernels& kernels_of(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return avx512_kernels();
  if (isa == Isa::kAvx2) return avx2_kernels();
#endif
  (void)isa;
  return scalar_kernels();
}

class CpuDevice final : public device::Device {
 public:
  explicit CpuDevice(uint32_t n_threads) : isa_(choose_isa()) {
    if (n_threads > kMaxThreads) {
      throw Error(ErrorCode::kInvalidRequest, "too many threads",
                  {{"threads", uint64_t{n_threads}}, {"limit", uint64_t{kMaxThreads}}}, "lower --threads");
    }
    info_.name = "cpu";
    info_.n_threads = n_threads != 0 ? n_threads : std::min(available_cores(), kMaxThreads);
    info_.isa = isa_name(isa_);
    info_.description =
        processor_name() + ", " + info_.isa + ", " + std::to_string(info_.n_threads) + " threads";
    const HostMemory memory = host_memory();
    info_.total_bytes = memory.total_bytes;
    info_.free_bytes = memory.free_bytes;
  }

  const device::DeviceInfo& info() const override { return info_; }

  uint64_t free_bytes() const override { return host_memory().free_bytes; }

  device::ResolvedLimits resolve(const model::Program& program, const device::Limits& limits) const override {
    const uint64_t free = free_bytes();
    const uint64_t available = limits.budget_bytes != 0 ? std::min(limits.budget_bytes, free) : free;
    return device::resolve_limits(
        program, limits, info_.name, available,
        [&](const device::ResolvedLimits& resolved) { return plan(program, resolved); });
  }

  memory::Plan plan(const model::Program& program, const device::ResolvedLimits& limits) const override {
    return CpuPlan(program, limits, info_.n_threads).plan;
  }

  std::unique_ptr<device::Executor> load(std::shared_ptr<const model::Program> program,
                                         const device::ResolvedLimits& limits,
                                         const device::Progress& progress) override {
    return make_executor(std::move(program), limits, info_.n_threads, kernels_of(isa_), progress);
  }

  double measure_read_bandwidth(uint64_t bytes) override {
    constexpr int kRuns = 5;
    if (bytes == 0) bytes = std::min<uint64_t>(kGiB, free_bytes() / 4);
    memory::Ledger ledger;
    const HostArena buffer(memory::Category::kStaging, align_up(bytes, 4096 * info_.n_threads), &ledger);
    ThreadPool pool(info_.n_threads);
    const Kernels& kernels = kernels_of(isa_);
    const uint64_t part = buffer.bytes() / info_.n_threads;
    std::atomic<uint64_t> sum = 0;
    double best = 0;
    for (int run = 0; run < kRuns; ++run) {
      const auto start = std::chrono::steady_clock::now();
      pool.run([&](uint32_t thread) { sum += kernels.read_sum(buffer.data() + thread * part, part); });
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      best = std::max(best, static_cast<double>(part * info_.n_threads) / seconds.count());
    }
    return best + static_cast<double>(sum.load()) * 0.0;
  }

 private:
  Isa isa_;
  device::DeviceInfo info_;
};

}  // namespace

std::unique_ptr<device::Device> open_cpu_device(uint32_t n_threads) {
  return std::make_unique<CpuDevice>(n_threads);
}

}  // namespace orcd::cpu
