// The matrix kernel for Q3_K weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(Q3_K)
}  // namespace orcd::cuda
