// The matrix kernel for Q8_0 weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(Q8_0)
}  // namespace orcd::cuda
