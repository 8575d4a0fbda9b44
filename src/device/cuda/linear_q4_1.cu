// The matrix kernel for Q4_1 weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(Q4_1)
}  // namespace orcd::cuda
