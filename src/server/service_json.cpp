#include "server/service_json.h"

#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "server/json_text.h"

namespace orcd::server {
namespace {

using Json = nlohmann::ordered_json;

double rounded(double value) { return std::round(value * 1e3) / 1e3; }

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json model_object(const WorkerFacts& facts, int64_t created) {
  return {{"id", facts.model},
          {"object", "model"},
          {"created", created},
          {"owned_by", "worker-orcd"},
          {"max_model_len", facts.context_length}};
}

}  // namespace

std::string health_json(const HealthReport& report) {
  const WorkerFacts& facts = *report.facts;
  const bool cuda = facts.isa.starts_with("sm_");
  Json json;
  json["status"] = report.status;
  if (!report.reason.empty()) json["reason"] = report.reason;
  json["model"] = facts.model;
  json["resident"] = report.resident;
  json["quant_kind"] = text_or_null(facts.quant_kind);
  json["vram_bytes_used"] = report.vram_bytes_used.value_or(0);
  json["tokenizer_kind"] = text_or_null(report.tokenizer_kind);
  json["vocab_size"] = report.vocab_size ? Json(*report.vocab_size) : Json(nullptr);
  json["context_length"] = facts.context_length ? Json(facts.context_length) : Json(nullptr);
  json["uptime_seconds"] = rounded(report.uptime_seconds);
  json["sm"] = cuda ? Json(facts.isa) : Json(nullptr);
  json["cuda_runtime_version"] = cuda ? Json(facts.cuda_runtime_version) : Json(nullptr);
  json["worker_id"] = facts.worker_id;
  json["device"] = facts.device;
  json["numerics_version"] = engine::Receipt{}.numerics_version;
  json["isa"] = text_or_null(facts.isa);
  if (!report.tokenizer_kind.empty()) {
    json["tokenizer"] = {
        {"kind", report.tokenizer_kind},
        {"pre", text_or_null(report.tokenizer_pre)},
        {"conformance", {{"passed", report.conformance.passed}, {"total", report.conformance.total}}}};
  }
  json["running"] = report.running;
  json["waiting"] = report.waiting;
  return dump(json);
}

std::string models_json(const WorkerFacts& facts, int64_t created) {
  return dump(Json{{"object", "list"}, {"data", Json::array({model_object(facts, created)})}});
}

std::string model_json(const WorkerFacts& facts, int64_t created) {
  return dump(model_object(facts, created));
}

std::string cancel_json(const std::string& job_id, bool active) {
  return dump(Json{{"job_id", job_id}, {"status", active ? "cancelling" : "not_active"}});
}

std::string residency_json(const WorkerFacts& facts, const std::vector<device::Executor::Residency>& arenas,
                           bool resident, double ms) {
  Json list = Json::array();
  for (const auto& arena : arenas) {
    list.push_back({{"arena", arena.arena},
                    {"pointer_type", arena.pointer_type},
                    {"bytes", arena.bytes},
                    {"digest", engine::hex_digest(arena.digest)},
                    {"expected_digest", engine::hex_digest(arena.expected)},
                    {"matches", arena.digest == arena.expected},
                    {"first_mismatch", text_or_null(arena.first_mismatch)}});
  }
  const auto now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return dump(Json{{"resident", resident},
                   {"device", facts.device},
                   {"model", facts.model},
                   {"checked_at", rounded(now)},
                   {"time_ms", rounded(ms)},
                   {"arenas", std::move(list)}});
}

}  // namespace orcd::server
