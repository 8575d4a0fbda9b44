// The CPU executor: walks the program, every op split over the pinned threads.
#pragma once

#include <memory>

#include "device/cpu/kernels.h"
#include "device/device.h"

namespace orcd::cpu {

// Allocates the plan, loads and packs the weights. Throws on any failure with everything freed.
std::unique_ptr<device::Executor> make_executor(std::shared_ptr<const model::Program> program,
                                                const device::ResolvedLimits& limits, uint32_t n_threads,
                                                const Kernels& kernels, const device::Progress& progress);

}  // namespace orcd::cpu
