// The CPU as a device that a user names: same plan, ledger, budget and bits as any other.
#pragma once

#include <memory>

#include "device/device.h"

namespace orcd::cpu {

// n_threads 0 = one per core of the process's affinity mask. Throws Error(kInvalidRequest) for more than 256
// threads, or an ORCD_ISA that this machine cannot run.
std::unique_ptr<device::Device> open_cpu_device(uint32_t n_threads);

}  // namespace orcd::cpu
