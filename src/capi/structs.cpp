#include "capi/structs.h"

#include <string>

namespace orcd::capi {

uint32_t usable_size(uint32_t struct_size, size_t known_size, const char* name) {
  if (struct_size == 0 || struct_size % 4 != 0 || struct_size > ORCD_MAX_STRUCT_SIZE) {
    throw CallError(ORCD_STATUS_INVALID_ARGUMENT,
                    std::string(name) + ".struct_size is not a size of this struct",
                    {{"struct_size", uint64_t{struct_size}}, {"known_size", uint64_t{known_size}}},
                    "set struct_size to sizeof(the struct) before the call");
  }
  return static_cast<uint32_t>(std::min<size_t>(struct_size / 8 * 8, known_size));
}

void need_zero(const unsigned char* tail, size_t n_bytes, const char* name) {
  if (std::all_of(tail, tail + n_bytes, [](unsigned char byte) { return byte == 0; })) return;
  throw CallError(ORCD_STATUS_INVALID_ARGUMENT,
                  std::string(name) + " asks for something that this version of the library does not know",
                  {{"unknown_bytes", uint64_t{n_bytes}}},
                  "use the library that belongs to the header, or a later one");
}

}  // namespace orcd::capi
