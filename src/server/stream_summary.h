// How a request that generated ended.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/request.h"
#include "server/metrics.h"

namespace orcd::server {

// For the log and the registry of active jobs.
struct StreamSummary {
  std::string job_id;
  Outcome outcome = Outcome::kCancelled;
  std::optional<Error> error;  // absent for ok, and for a reader that left
  std::optional<engine::EndEvent> end;
  uint64_t tokens_out = 0, output_bytes = 0;
  std::array<uint8_t, 32> output_digest{};  // SHA-256
  double total_ms = 0;
};

}  // namespace orcd::server
