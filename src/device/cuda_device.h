// The CUDA device as the rest of the program sees it. Implemented by cuda/, or by no_cuda/ in a build without
// nvcc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "device/device.h"

namespace orcd::device {

// The CUDA device with this number, never another. Throws Error(kCudaError) with the reason if it cannot be
// used.
std::unique_ptr<Device> open_cuda_device(uint32_t index);

struct CudaDevices {
  uint32_t n = 0;
  std::string why_none;  // "" if there are some
};

// Counts them and touches none.
CudaDevices count_cuda_devices();

}  // namespace orcd::device
