// The CUDA executor: two steps in flight, decode steps as graphs.
#pragma once

#include <memory>

#include "device/cuda/state.h"

namespace orcd::cuda {

// Allocates the plan, loads and repacks the weights, records the graphs. Throws on any failure with
// everything freed.
std::unique_ptr<device::Executor> make_executor(std::shared_ptr<Context> context,
                                                std::shared_ptr<const model::Program> program,
                                                const device::ResolvedLimits& limits,
                                                const device::Progress& progress);

}  // namespace orcd::cuda
