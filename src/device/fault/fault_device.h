// A device that fails on purpose: it wraps another one and lets chosen calls fail. The real worker takes it
// by name, "fault:CALL:N:HOW:DEVICE" (fault:collect:3:lost:cpu), so that what a failure does to streams,
// /health and the exit code is tested in the program itself.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "device/device.h"

namespace orcd::fault {

enum class Call { kLoad, kBegin, kSubmit, kCollect, kResidency };
inline constexpr int kCallCount = 5;

enum class How {
  kOnce,    // the n-th call throws CUDA_ERROR
  kAlways,  // the n-th and all later ones
  kLost,    // the n-th call throws, then every call of any kind: a lost context
  kFlipped  // residency only: from the n-th check on the digest differs, as after a bit flip in a weight
};

struct Plan {
  Call call = Call::kSubmit;
  uint64_t first = 0;  // 1-based, counted from when the plan was set; 0 = off
  How how = How::kOnce;
};

// The plan and the counts, shared by a device and its executors. Thread-safe.
class Faults {
 public:
  explicit Faults(const Plan& plan = {}) : plan_(plan) {}
  void set(const Plan& plan);  // a lost device is well again
  void strike(Call call);      // counts it; throws if the plan says so
  bool flipped() const;
  bool lost() const;
  uint64_t count(Call call) const;  // since the plan was set

 private:
  mutable std::mutex mutex_;
  Plan plan_;
  uint64_t counts_[kCallCount] = {};
  bool lost_ = false;
};

std::unique_ptr<device::Device> make_device(std::unique_ptr<device::Device> inner,
                                            std::shared_ptr<Faults> faults);
std::unique_ptr<device::Executor> make_executor(std::unique_ptr<device::Executor> inner,
                                                std::shared_ptr<Faults> faults,
                                                std::shared_ptr<const model::Program> program = nullptr);

inline constexpr std::string_view kNamePrefix = "fault:";
// name: all of "fault:CALL:N:HOW:DEVICE". Throws INVALID_REQUEST for anything else.
struct Name {
  Plan plan;
  std::string device;
};
Name parse_name(std::string_view name);

}  // namespace orcd::fault
