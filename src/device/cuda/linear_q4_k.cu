// The matrix kernel for Q4_K weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(Q4_K)
}  // namespace orcd::cuda
