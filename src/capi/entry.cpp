#include "capi/entry.h"

#include <exception>
#include <new>
#include <string_view>

#include "capi/call_error.h"
#include "capi/cut_text.h"

namespace orcd::capi {
namespace {

// Plain bytes: no constructor to run when a thread fails for the first time, and nothing to allocate.
struct Failure {
  orcd_status status;
  bool retriable;
  uint64_t context_id;  // 0: not known
  char message[2048];
  char hint[1024];
};
thread_local Failure failure;
thread_local uint64_t concerned_context;

// For errors that bring no hint of their own.
std::string_view general_hint(orcd_status status) noexcept {
  switch (status) {
    case ORCD_STATUS_MODEL_LOAD_FAILED:
      return "`worker-orcd check FILE` says what is wrong with a file";
    case ORCD_STATUS_CUDA_ERROR:
      return "`worker-orcd doctor` says what is wrong with a device";
    case ORCD_STATUS_CANCELLED:
      return "start it again if it was not meant to end";
    case ORCD_STATUS_OVERLOADED:
    case ORCD_STATUS_SHUTTING_DOWN:
      return "try again later";
    case ORCD_STATUS_INTERNAL:
      return "this is a fault of the library: please report it";
    default:
      return "correct what the message names";
  }
}

void keep(orcd_status status, bool retriable, std::string_view message, std::string_view hint) noexcept {
  failure.status = status;
  failure.retriable = retriable;
  failure.context_id = concerned_context;
  copy_cut(message, failure.message);
  copy_cut(hint.empty() ? general_hint(status) : hint, failure.hint);
}

// The line of the error without its code and hint: the message with the values.
std::string_view message_of(const Error& error) noexcept {
  std::string_view line = error.line();
  line.remove_prefix(error_code_name(error.code()).size() + 2);
  if (!error.hint().empty()) line.remove_suffix(error.hint().size() + 2);
  return line;
}

}  // namespace

void concerns_context(uint64_t context_id) noexcept { concerned_context = context_id; }

void begin_call() noexcept { concerned_context = 0; }

orcd_status fail_call() noexcept {
  try {
    throw;
  } catch (const CallError& error) {
    keep(error.status(), false, message_of(error), error.hint());
  } catch (const Error& error) {
    keep(status_of(error.code()), error_retriable(error.code()), message_of(error), error.hint());
  } catch (const std::bad_alloc&) {
    keep(ORCD_STATUS_OUT_OF_MEMORY, true, "the process has no memory for this call",
         "free memory, or ask for less");
  } catch (const std::exception& error) {
    keep(ORCD_STATUS_INTERNAL, false, error.what(), {});
  } catch (...) {
    keep(ORCD_STATUS_INTERNAL, false, "an exception of unknown type", {});
  }
  return failure.status;
}

LastError last_error(const orcd_context* context) noexcept {
  const auto id = reinterpret_cast<uint64_t>(context);
  const bool other = id != 0 && failure.context_id != 0 && failure.context_id != id;
  if (failure.status == ORCD_STATUS_OK || other) return {ORCD_STATUS_OK, "", "", false};
  return {failure.status, failure.message, failure.hint, failure.retriable};
}

}  // namespace orcd::capi
