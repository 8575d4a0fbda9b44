// The matrix kernel for MXFP4 weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(MXFP4)
}  // namespace orcd::cuda
