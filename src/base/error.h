// The one error type of the project: a stable public code, a message, the values behind it, and what to try.
#pragma once

#include <cstdint>
#include <exception>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace orcd {

// Public codes; names and HTTP statuses are fixed by the wire contract (docs/WIRE.md).
enum class ErrorCode {
  kInvalidRequest,
  kModelLoadFailed,
  kInsufficientVram,
  kVramOom,
  kCudaError,
  kInferenceTimeout,
  kCancelled,
  kInternal,
  kUnauthorized,
  kNotFound,
  kMethodNotAllowed,
  kPayloadTooLarge,
  kOverloaded,
  kShuttingDown,
};

inline constexpr int kErrorCodeCount = 14;

std::string_view error_code_name(ErrorCode code);  // "INVALID_REQUEST", ...
int error_http_status(ErrorCode code);             // 400, ...
bool error_retriable(ErrorCode code);              // true only where trying again can help

using ErrorValue = std::variant<int64_t, uint64_t, double, std::string>;
using ErrorValues = std::vector<std::pair<std::string, ErrorValue>>;

std::string error_value_text(const ErrorValue& value);

// Thrown by value, caught at the four edges only: HTTP handler, C ABI entry, CLI main, the engine's
// per-request boundary.
class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message, ErrorValues values = {}, std::string hint = {});

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const ErrorValues& values() const { return values_; }
  const std::string& hint() const { return hint_; }
  // One line: "CODE: message (name=value, ...); hint". what() gives the same text.
  const std::string& line() const { return line_; }
  const char* what() const noexcept override { return line_.c_str(); }

 private:
  ErrorCode code_;
  std::string message_;
  ErrorValues values_;
  std::string hint_;
  std::string line_;
};

// INTERNAL for std::bad_alloc. Made when the program starts: referring to it needs no memory, copying it
// does.
const Error& out_of_memory();

}  // namespace orcd
