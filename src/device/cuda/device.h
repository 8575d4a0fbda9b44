// The CUDA device on a context that may be shared: what open_cuda_device() gives, and what tests that count
// and fail calls make themselves.
#pragma once

#include <memory>

#include "device/cuda/state.h"

namespace orcd::cuda {

std::unique_ptr<device::Device> make_device(std::shared_ptr<Context> context);

}  // namespace orcd::cuda
