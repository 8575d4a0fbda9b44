// Log events to stderr: one line each, as text or JSON; a bar for load progress on a terminal.
#pragma once

#include <string>

#include "base/log.h"
#include "cli/options.h"

namespace orcd::cli {

struct LogContext {
  std::string worker_id, model_ref, device;  // in every line
};

// Installs the process-wide sink. Events below `least` are dropped; progress is drawn as a bar where stderr
// is a terminal and the format is text.
void install_log(LogFormat format, LogContext context, LogLevel least = LogLevel::kInfo);

}  // namespace orcd::cli
