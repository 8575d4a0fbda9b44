// The matrix kernel for Q6_K weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(Q6_K)
}  // namespace orcd::cuda
