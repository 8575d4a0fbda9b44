// Structured log events. The leaf that owns main() installs the sink; the library writes nothing by itself.
// Never a prompt, an output or a key goes into a field: length and SHA-256 only.
#pragma once

#include <functional>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace orcd {

enum class LogLevel { kDebug, kInfo, kWarn, kError };

struct LogEvent {
  LogLevel level;
  std::string_view event;  // startup, model_load_start, ..., as the wire contract names them
  const ErrorValues& fields;
};

using LogSink = std::function<void(const LogEvent&)>;

// Installs the process-wide sink; an empty one silences. Thread-safe; returns the previous sink.
LogSink set_log_sink(LogSink sink);

// Passes one event to the sink. Thread-safe; the sink is called under a lock, so lines never interleave.
void log_event(LogLevel level, std::string_view event, const ErrorValues& fields = {});

}  // namespace orcd
