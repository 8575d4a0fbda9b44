#include "engine/plan_report.h"

#include <algorithm>

#include "device/limits.h"

namespace orcd::engine {
namespace {

uint64_t budget(uint64_t asked, const device::DeviceInfo& device) {
  const uint64_t most = device.free_bytes - std::min(device.free_bytes, device.reserved_bytes);
  return asked ? std::min(asked, most) : most;
}

// The largest context of one sequence that the device takes, by bisection over whole pages; 0 if none does.
uint32_t largest_context(const device::Device& device, const model::Program& program, device::Limits limits) {
  const auto fits = [&](uint32_t context) {
    limits.context = context;
    try {
      device.resolve(program, limits);
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  const uint32_t most = program.spec.context_length;
  if (fits(most)) return most;
  uint32_t low = 0, high = (most + 63) / 64;
  while (low + 1 < high) {
    const uint32_t middle = low + (high - low) / 2;
    (fits(middle * 64) ? low : high) = middle;
  }
  return low * 64;
}

}  // namespace

PlanReport make_plan_report(const model::Program& program, const device::Device& device,
                            const device::Limits& limits) {
  PlanReport report;
  report.device = device.info();
  report.device.free_bytes = device.free_bytes();
  report.driver = device.driver_memory();
  report.available = budget(limits.budget_bytes, report.device);
  try {
    report.limits = device.resolve(program, limits);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInsufficientVram) throw;
    report.fits = false;
    // What it would take all the same: planned as if memory had no end.
    report.limits = device::wanted_limits(program, limits);
  }
  report.plan = device.plan(program, report.limits);
  report.max_context = largest_context(device, program, limits);
  return report;
}

}  // namespace orcd::engine
