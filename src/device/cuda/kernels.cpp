#include "device/cuda/kernels.h"

#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"

namespace orcd::cuda {

Kernels wanted_kernels() {
  const char* value = std::getenv("ORCD_CUDA_KERNELS");
  const std::string_view wanted = value ? value : "";
  if (wanted.empty()) return Kernels::kDefault;
  if (wanted == "portable") return Kernels::kPortable;
  if (wanted == "launches") return Kernels::kLaunches;
  if (wanted == "streamed") return Kernels::kStreamed;
  throw Error(ErrorCode::kInvalidRequest, "ORCD_CUDA_KERNELS names no kernels",
              {{"ORCD_CUDA_KERNELS", std::string(wanted)}},
              "use portable, launches or streamed, or unset it");
}

}  // namespace orcd::cuda
