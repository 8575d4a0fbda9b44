// The matrix kernel for IQ4_XS weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(IQ4_XS)
}  // namespace orcd::cuda
