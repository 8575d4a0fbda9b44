// The matrix kernel for Q4_0 weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(Q4_0)
}  // namespace orcd::cuda
