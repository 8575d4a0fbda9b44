// Status names, the last error, the version.
#include <string>

#include "capi/call_error.h"
#include "capi/entry.h"
#include "capi/structs.h"
#include "engine/request.h"

namespace orcd::capi {
namespace {

const char* name_of(orcd_status status) {
  switch (status) {
    case ORCD_STATUS_OK:
      return "ORCD_STATUS_OK";
    case ORCD_STATUS_INVALID_REQUEST:
      return "ORCD_STATUS_INVALID_REQUEST";
    case ORCD_STATUS_MODEL_LOAD_FAILED:
      return "ORCD_STATUS_MODEL_LOAD_FAILED";
    case ORCD_STATUS_INSUFFICIENT_VRAM:
      return "ORCD_STATUS_INSUFFICIENT_VRAM";
    case ORCD_STATUS_VRAM_OOM:
      return "ORCD_STATUS_VRAM_OOM";
    case ORCD_STATUS_CUDA_ERROR:
      return "ORCD_STATUS_CUDA_ERROR";
    case ORCD_STATUS_INFERENCE_TIMEOUT:
      return "ORCD_STATUS_INFERENCE_TIMEOUT";
    case ORCD_STATUS_CANCELLED:
      return "ORCD_STATUS_CANCELLED";
    case ORCD_STATUS_INTERNAL:
      return "ORCD_STATUS_INTERNAL";
    case ORCD_STATUS_UNAUTHORIZED:
      return "ORCD_STATUS_UNAUTHORIZED";
    case ORCD_STATUS_NOT_FOUND:
      return "ORCD_STATUS_NOT_FOUND";
    case ORCD_STATUS_METHOD_NOT_ALLOWED:
      return "ORCD_STATUS_METHOD_NOT_ALLOWED";
    case ORCD_STATUS_PAYLOAD_TOO_LARGE:
      return "ORCD_STATUS_PAYLOAD_TOO_LARGE";
    case ORCD_STATUS_OVERLOADED:
      return "ORCD_STATUS_OVERLOADED";
    case ORCD_STATUS_SHUTTING_DOWN:
      return "ORCD_STATUS_SHUTTING_DOWN";
    case ORCD_STATUS_INVALID_ARGUMENT:
      return "ORCD_STATUS_INVALID_ARGUMENT";
    case ORCD_STATUS_INVALID_HANDLE:
      return "ORCD_STATUS_INVALID_HANDLE";
    case ORCD_STATUS_WRONG_STATE:
      return "ORCD_STATUS_WRONG_STATE";
    case ORCD_STATUS_BUFFER_TOO_SMALL:
      return "ORCD_STATUS_BUFFER_TOO_SMALL";
    case ORCD_STATUS_NOT_READY:
      return "ORCD_STATUS_NOT_READY";
    case ORCD_STATUS_END:
      return "ORCD_STATUS_END";
    case ORCD_STATUS_OUT_OF_MEMORY:
      return "ORCD_STATUS_OUT_OF_MEMORY";
    default:
      return nullptr;
  }
}

}  // namespace
}  // namespace orcd::capi

using namespace orcd::capi;

orcd_status orcd_status_name(orcd_status status, const char** out_name) noexcept {
  return call([&] {
    need(out_name, "out_name");
    const char* name = name_of(status);
    *out_name = name ? name : "ORCD_STATUS_UNKNOWN";
    if (!name)
      throw CallError(ORCD_STATUS_INVALID_ARGUMENT, "no status has this number",
                      {{"status", int64_t{status}}}, "a later version of the library may know it");
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_last_error(const orcd_context* context, orcd_error* out_error) noexcept {
  return call([&] {
    need_result(out_error, "out_error");
    const LastError last = last_error(context);
    orcd_error result{};
    result.status = last.status;
    result.message = last.message;
    result.hint = last.hint;
    result.retriable = last.retriable;
    write_result(result, out_error);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_get_version(orcd_version* out_version) noexcept {
  return call([&] {
    need_result(out_version, "out_version");
    orcd_version result{};
    result.major = ORCD_VERSION_MAJOR;
    result.minor = ORCD_VERSION_MINOR;
    result.patch = ORCD_VERSION_PATCH;
    result.numerics_version = orcd::engine::Receipt{}.numerics_version;
    result.text = ORCD_VERSION;
    write_result(result, out_version);
    return ORCD_STATUS_OK;
  });
}
