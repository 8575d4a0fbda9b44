// What a model would take on a device, whether it fits or not; nothing is allocated.
#pragma once

#include <cstdint>
#include <optional>

#include "device/device.h"

namespace orcd::engine {

struct PlanReport {
  device::DeviceInfo device;
  device::ResolvedLimits limits{};
  memory::Plan plan;  // also where it does not fit: as if memory had no end
  std::optional<device::DriverMemory> driver;
  uint64_t available = 0;    // bytes that the plan may take: the budget, or what is free
  uint32_t max_context = 0;  // the largest of one sequence that fits; 0 if none does
  bool fits = true;
};

// Throws what Device::resolve throws, but for INSUFFICIENT_VRAM: that is the answer `fits == false`.
PlanReport make_plan_report(const model::Program& program, const device::Device& device,
                            const device::Limits& limits);

}  // namespace orcd::engine
