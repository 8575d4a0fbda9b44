// The CUDA device as the rest of the program sees it. Implemented by cuda/, or by no_cuda/ in a build without
// nvcc.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "device/device.h"

namespace orcd::device {

// The CUDA device with this number, never another. Throws Error(kCudaError) with the reason if it cannot be
// used.
std::unique_ptr<Device> open_cuda_device(uint32_t index);

// Every CUDA device, with the reason where one cannot be used; empty without a driver or CUDA in this build.
std::vector<DeviceInfo> list_cuda_devices();

}  // namespace orcd::device
