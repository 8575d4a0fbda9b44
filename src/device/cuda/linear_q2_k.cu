// The matrix kernel for Q2_K weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(Q2_K)
}  // namespace orcd::cuda
