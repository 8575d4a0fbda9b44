// The edge of the C ABI: every entry runs in call(), which lets nothing out but a status, and keeps what went
// wrong for orcd_last_error().
#pragma once

#include <cstdint>

#include "orcd/orcd.h"

namespace orcd::capi {

// The context that the call under way on this thread concerns: kept with the error if it fails.
void concerns_context(uint64_t context_id) noexcept;

// Begins a call on this thread: it concerns no context yet.
void begin_call() noexcept;
// The status of the exception being handled; message and hint are kept for this thread. Allocates nothing
// that could fail.
orcd_status fail_call() noexcept;

// body: () -> orcd_status. ORCD_STATUS_END and ORCD_STATUS_NOT_READY are returned; whatever else is not OK is
// thrown.
template <typename Body>
orcd_status call(Body&& body) noexcept {
  begin_call();
  try {
    return body();
  } catch (...) {
    return fail_call();
  }
}

// What orcd_last_error() answers for `context` (NULL: any). The texts belong to the calling thread.
struct LastError {
  orcd_status status;
  const char *message, *hint;
  bool retriable;
};
LastError last_error(const orcd_context* context) noexcept;

}  // namespace orcd::capi
