#include "base/error.h"

#include <array>
#include <cstdio>

namespace orcd {
namespace {

struct CodeRow {
  ErrorCode code;
  std::string_view name;
  int http_status;
  bool retriable;
};

constexpr std::array<CodeRow, kErrorCodeCount> kCodes = {{
    {ErrorCode::kInvalidRequest, "INVALID_REQUEST", 400, false},
    {ErrorCode::kModelLoadFailed, "MODEL_LOAD_FAILED", 500, false},
    {ErrorCode::kInsufficientVram, "INSUFFICIENT_VRAM", 503, false},
    {ErrorCode::kVramOom, "VRAM_OOM", 500, false},
    {ErrorCode::kCudaError, "CUDA_ERROR", 500, true},
    {ErrorCode::kInferenceTimeout, "INFERENCE_TIMEOUT", 504, true},
    {ErrorCode::kCancelled, "CANCELLED", 499, false},
    {ErrorCode::kInternal, "INTERNAL", 500, false},
    {ErrorCode::kUnauthorized, "UNAUTHORIZED", 401, false},
    {ErrorCode::kNotFound, "NOT_FOUND", 404, false},
    {ErrorCode::kMethodNotAllowed, "METHOD_NOT_ALLOWED", 405, false},
    {ErrorCode::kPayloadTooLarge, "PAYLOAD_TOO_LARGE", 413, false},
    {ErrorCode::kOverloaded, "OVERLOADED", 429, true},
    {ErrorCode::kShuttingDown, "SHUTTING_DOWN", 503, true},
}};

const CodeRow& row(ErrorCode code) { return kCodes[static_cast<size_t>(code)]; }

}  // namespace

std::string_view error_code_name(ErrorCode code) { return row(code).name; }
int error_http_status(ErrorCode code) { return row(code).http_status; }
bool error_retriable(ErrorCode code) { return row(code).retriable; }

std::string error_value_text(const ErrorValue& value) {
  if (const auto* i = std::get_if<int64_t>(&value)) return std::to_string(*i);
  if (const auto* u = std::get_if<uint64_t>(&value)) return std::to_string(*u);
  if (const auto* d = std::get_if<double>(&value)) {
    char text[40];
    std::snprintf(text, sizeof text, "%.9g", *d);
    return text;
  }
  return std::get<std::string>(value);
}

const Error& out_of_memory() {
  static const Error error(ErrorCode::kInternal, "the worker ran out of host memory", {},
                           "give it more memory, or start it with a smaller --ctx or fewer --slots");
  return error;
}

namespace {
[[maybe_unused]] const Error& kMadeAtStart = out_of_memory();
}  // namespace

Error::Error(ErrorCode code, std::string message, ErrorValues values, std::string hint)
    : code_(code), message_(std::move(message)), values_(std::move(values)), hint_(std::move(hint)) {
  line_ = std::string(error_code_name(code_)) + ": " + message_;
  if (!values_.empty()) {
    line_ += " (";
    for (size_t i = 0; i < values_.size(); ++i) {
      if (i) line_ += ", ";
      line_ += values_[i].first + "=" + error_value_text(values_[i].second);
    }
    line_ += ")";
  }
  if (!hint_.empty()) line_ += "; " + hint_;
}

}  // namespace orcd
