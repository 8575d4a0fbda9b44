// The JSON bodies of /health, /v1/models, /cancel and /v1/residency.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "server/service.h"

namespace orcd::server {

struct HealthReport {
  std::string status, reason;
  const WorkerFacts* facts = nullptr;
  bool resident = false;
  std::optional<uint64_t> vram_bytes_used;
  std::string tokenizer_kind, tokenizer_pre;
  tokenizer::Conformance conformance;
  std::optional<int32_t> vocab_size;
  uint32_t running = 0, waiting = 0;
  double uptime_seconds = 0;
};

std::string health_json(const HealthReport& report);
std::string models_json(const WorkerFacts& facts, int64_t created);  // GET /v1/models
std::string model_json(const WorkerFacts& facts, int64_t created);   // GET /v1/models/ID
std::string cancel_json(const std::string& job_id, bool active);
std::string residency_json(const WorkerFacts& facts, const std::vector<device::Executor::Residency>& arenas,
                           bool resident, double ms);

}  // namespace orcd::server
