#include "server/report_failure.h"

#include <cstdio>

#include "base/log.h"

namespace orcd::server {

void report_failure(std::string_view part, const std::exception& error) noexcept {
  try {
    log_event(LogLevel::kError, "error",
              {{"code", std::string("INTERNAL")},
               {"message", "the server's " + std::string(part) + " failed"},
               {"reason", std::string(error.what())}});
  } catch (const std::exception&) {
    std::fputs("INTERNAL: the server failed, and there is no memory to log how\n", stderr);
  }
}

}  // namespace orcd::server
