#include "device/fault/fault_device.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"

namespace orcd::fault {
namespace {

constexpr std::array<std::string_view, kCallCount> kCalls = {"load", "begin", "submit", "collect",
                                                             "residency"};
constexpr std::array<std::string_view, 4> kHows = {"once", "always", "lost", "flipped"};

template <size_t n>
size_t find(const std::array<std::string_view, n>& names, std::string_view name) {
  size_t i = 0;
  while (i < n && names[i] != name) ++i;
  return i;
}

class FaultExecutor final : public device::Executor {
 public:
  FaultExecutor(std::unique_ptr<device::Executor> inner, std::shared_ptr<Faults> faults,
                std::shared_ptr<const model::Program> program)
      : inner_(std::move(inner)), faults_(std::move(faults)), program_(std::move(program)) {}

  void begin_sequence(uint32_t slot, const sampling::SamplingParams& params,
                      std::span<const int32_t> seen) override {
    faults_->strike(Call::kBegin);
    inner_->begin_sequence(slot, params, seen);
  }
  void submit(std::span<const device::SequenceStep> steps) override {
    faults_->strike(Call::kSubmit);
    inner_->submit(steps);
  }
  // The step is taken from the inner device whatever becomes of it, as a failed wait takes it.
  std::span<const device::SequenceResult> collect() override {
    const auto results = inner_->collect();
    faults_->strike(Call::kCollect);
    return results;
  }
  uint32_t pipeline_depth() const override { return inner_->pipeline_depth(); }
  bool lost() const override { return faults_->lost() || inner_->lost(); }
  const memory::Plan& plan() const override { return inner_->plan(); }
  const memory::Ledger& ledger() const override { return inner_->ledger(); }
  const device::ResolvedLimits& limits() const override { return inner_->limits(); }

  std::vector<Residency> check_residency() override {
    faults_->strike(Call::kResidency);
    std::vector<Residency> all = inner_->check_residency();
    if (faults_->flipped() && !all.empty()) {
      all.front().digest.a ^= 1;
      all.front().first_mismatch = program_ ? program_->weights.front().name : "a weight";
    }
    return all;
  }

 private:
  std::unique_ptr<device::Executor> inner_;
  std::shared_ptr<Faults> faults_;
  std::shared_ptr<const model::Program> program_;
};

class FaultDevice final : public device::Device {
 public:
  FaultDevice(std::unique_ptr<device::Device> inner, std::shared_ptr<Faults> faults)
      : inner_(std::move(inner)), faults_(std::move(faults)) {}

  const device::DeviceInfo& info() const override { return inner_->info(); }
  uint64_t free_bytes() const override { return inner_->free_bytes(); }
  std::optional<device::DriverMemory> driver_memory() const override { return inner_->driver_memory(); }
  device::ResolvedLimits resolve(const model::Program& program, const device::Limits& limits) const override {
    return inner_->resolve(program, limits);
  }
  memory::Plan plan(const model::Program& program, const device::ResolvedLimits& limits) const override {
    return inner_->plan(program, limits);
  }
  std::unique_ptr<device::Executor> load(std::shared_ptr<const model::Program> program,
                                         const device::ResolvedLimits& limits,
                                         const device::Progress& progress) override {
    faults_->strike(Call::kLoad);
    return make_executor(inner_->load(program, limits, progress), faults_, program);
  }
  double measure_read_bandwidth(uint64_t bytes) override { return inner_->measure_read_bandwidth(bytes); }

 private:
  std::unique_ptr<device::Device> inner_;
  std::shared_ptr<Faults> faults_;
};

}  // namespace

void Faults::set(const Plan& plan) {
  std::lock_guard lock(mutex_);
  plan_ = plan;
  for (uint64_t& count : counts_) count = 0;
  lost_ = false;
}

void Faults::strike(Call call) {
  std::lock_guard lock(mutex_);
  const uint64_t number = ++counts_[static_cast<int>(call)];
  const bool aimed = plan_.first != 0 && call == plan_.call && plan_.how != How::kFlipped;
  const bool hit = aimed && (plan_.how == How::kAlways ? number >= plan_.first : number == plan_.first);
  if (hit && plan_.how == How::kLost) lost_ = true;
  if (!hit && !lost_) return;
  throw Error(ErrorCode::kCudaError, "a failure made on purpose",
              {{"call", std::string(kCalls[static_cast<size_t>(call)])},
               {"number", number},
               {"context", std::string(lost_ ? "lost" : "usable")}});
}

bool Faults::flipped() const {
  std::lock_guard lock(mutex_);
  return plan_.how == How::kFlipped && plan_.first != 0 &&
         counts_[static_cast<int>(Call::kResidency)] >= plan_.first;
}

bool Faults::lost() const {
  std::lock_guard lock(mutex_);
  return lost_;
}

uint64_t Faults::count(Call call) const {
  std::lock_guard lock(mutex_);
  return counts_[static_cast<int>(call)];
}

std::unique_ptr<device::Device> make_device(std::unique_ptr<device::Device> inner,
                                            std::shared_ptr<Faults> faults) {
  return std::make_unique<FaultDevice>(std::move(inner), std::move(faults));
}

std::unique_ptr<device::Executor> make_executor(std::unique_ptr<device::Executor> inner,
                                                std::shared_ptr<Faults> faults,
                                                std::shared_ptr<const model::Program> program) {
  return std::make_unique<FaultExecutor>(std::move(inner), std::move(faults), std::move(program));
}

Name parse_name(std::string_view name) {
  std::string_view rest = name.substr(std::min(name.size(), kNamePrefix.size()));
  const auto next = [&] {
    const size_t end = rest.find(':');
    const std::string_view part = rest.substr(0, end);
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
    return part;
  };
  const size_t call = find(kCalls, next());
  const std::string_view number = next();
  const size_t how = find(kHows, next());
  Name out;
  const auto [end, status] = std::from_chars(number.data(), number.data() + number.size(), out.plan.first);
  const bool counted = status == std::errc() && end == number.data() + number.size() && out.plan.first != 0;
  if (call == kCalls.size() || how == kHows.size() || !counted || rest.empty()) {
    throw Error(ErrorCode::kInvalidRequest, "not the name of a device that fails on purpose",
                {{"device", std::string(name)}},
                "fault:load|begin|submit|collect|residency:N:once|always|lost|flipped:DEVICE");
  }
  out.plan.call = static_cast<Call>(call);
  out.plan.how = static_cast<How>(how);
  out.device = rest;
  return out;
}

}  // namespace orcd::fault
