// Errors that only the C ABI knows: what is wrong with the call itself, not with what it asks for.
#pragma once

#include <string>

#include "base/error.h"
#include "orcd/orcd.h"

namespace orcd::capi {

// Its code is INVALID_REQUEST; `status` says more.
class CallError : public Error {
 public:
  CallError(orcd_status status, std::string message, ErrorValues values = {}, std::string hint = {});
  orcd_status status() const { return status_; }

 private:
  orcd_status status_;
};

orcd_status status_of(ErrorCode code);

// Throws INVALID_ARGUMENT, naming the parameter, if it is NULL.
void need(const void* pointer, const char* name);

}  // namespace orcd::capi
