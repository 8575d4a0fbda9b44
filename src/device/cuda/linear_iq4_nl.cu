// The matrix kernel for IQ4_NL weights.
#include "device/cuda/linear_blocks.cuh"

namespace orcd::cuda {
ORCD_LINEAR_FORMAT(IQ4_NL)
}  // namespace orcd::cuda
