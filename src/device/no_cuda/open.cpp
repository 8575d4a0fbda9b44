// Stands in for cuda/ in a build without nvcc: there are no CUDA devices, and opening one says why.
#include <string>

#include "base/error.h"
#include "device/cuda_device.h"

namespace orcd::device {

std::unique_ptr<Device> open_cuda_device(uint32_t index) {
  throw Error(ErrorCode::kCudaError, "this worker was built without CUDA",
              {{"device", "cuda:" + std::to_string(index)}},
              "configure with -DORCD_CUDA=ON on a machine with nvcc, or use --device cpu");
}

CudaDevices count_cuda_devices() { return {0, "this worker was built without CUDA"}; }

}  // namespace orcd::device
