// The matrix kernel for Q5_K weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(Q5_K)
}  // namespace orcd::cuda
