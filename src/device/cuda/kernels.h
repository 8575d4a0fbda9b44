// Which kernels a process uses where there are several for the same work.
#pragma once

#include <cstdint>

namespace orcd::cuda {

enum class Kernels : uint8_t {
  kDefault,
  kPortable,  // those of every architecture, where there are better ones too
  kLaunches,  // the default's, but a kernel for each op where one could take all layers (persistent.h)
  kStreamed,  // the default's, and the kernel of all layers through which weights stream
};

// Of ORCD_CUDA_KERNELS: unset, `portable`, `launches` or `streamed`. Throws Error(kInvalidRequest) on
// anything else.
Kernels wanted_kernels();

}  // namespace orcd::cuda
