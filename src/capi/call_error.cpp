#include "capi/call_error.h"

#include <utility>

namespace orcd::capi {

CallError::CallError(orcd_status status, std::string message, ErrorValues values, std::string hint)
    : Error(ErrorCode::kInvalidRequest, std::move(message), std::move(values), std::move(hint)),
      status_(status) {}

// The public codes stand in the header in the order of the enumeration.
orcd_status status_of(ErrorCode code) { return static_cast<orcd_status>(code) + 1; }
static_assert(static_cast<int>(ErrorCode::kInvalidRequest) + 1 == ORCD_STATUS_INVALID_REQUEST);
static_assert(static_cast<int>(ErrorCode::kInternal) + 1 == ORCD_STATUS_INTERNAL);
static_assert(static_cast<int>(ErrorCode::kShuttingDown) + 1 == ORCD_STATUS_SHUTTING_DOWN);
static_assert(kErrorCodeCount == ORCD_STATUS_SHUTTING_DOWN);

void need(const void* pointer, const char* name) {
  if (pointer) return;
  throw CallError(ORCD_STATUS_INVALID_ARGUMENT, std::string(name) + " must not be NULL", {},
                  "pass the address that the header asks for");
}

}  // namespace orcd::capi
