// The worker behind the HTTP routes: its identity, its phase (loading, ready, draining) and its engine.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "engine/chat.h"
#include "engine/engine.h"
#include "server/execute_request.h"
#include "server/execute_stream.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/openai_fields.h"
#include "server/router.h"

namespace orcd::server {

// What /health says that does not change. Filled at ready; the first three are known before.
struct WorkerFacts {
  std::string worker_id, model, device;
  std::string quant_kind;        // "Q4_K_M"
  std::string isa;               // "avx2", "sm_90"
  int cuda_runtime_version = 0;  // 0 on the cpu
  uint32_t context_length = 0;   // positions a sequence may use here
};

struct ServiceOptions {
  ExecuteLimits execute;
  std::chrono::milliseconds inference_timeout{300'000};
};

// The engine's id for a choice of a job.
std::string choice_id(const std::string& job_id, size_t choice);
// 200 with server-sent events that no proxy holds back.
Reply stream_reply(std::unique_ptr<StreamSource> stream);

// Thread-safe.
class Service {
 public:
  Service(WorkerFacts facts, ServiceOptions options);
  ~Service();

  // Adds POST /execute, /cancel, /shutdown, /v1/chat/completions, /v1/completions, /tokenize, /detokenize,
  // /apply-template, GET /v1/models, /v1/models/ID, /health, /livez, /readyz, /metrics, /v1/residency. The
  // service must outlive the router's use.
  void add_routes(Router* router);

  // From now on requests are served. The engine is not owned and stays until after the last request.
  void set_ready(WorkerFacts facts, engine::Engine* engine,
                 std::shared_ptr<const tokenizer::Tokenizer> tokenizer,
                 std::shared_ptr<const engine::Chat> chat);
  // New work is refused with SHUTTING_DOWN; active work goes on.
  void start_draining();
  void cancel_all();
  bool shutdown_requested() const { return shutdown_requested_; }  // POST /shutdown was taken
  // Compares the digests of the weights with what was loaded. A difference makes the worker unhealthy for
  // good, a check that throws until one works. Waits for the engine: not for the io thread. Throws what the
  // check throws; SHUTTING_DOWN, OVERLOADED while there is no engine.
  std::vector<device::Executor::Residency> check_residency();
  size_t n_active_jobs() const;

 private:
  struct State {
    WorkerFacts facts;
    engine::Engine* engine = nullptr;  // null while loading
    std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
    std::shared_ptr<const engine::Chat> chat;
    int64_t ready_at = 0;          // seconds since 1970
    std::string unhealthy_reason;  // a difference
    std::string check_failure;     // of the last check
    bool draining = false;

    bool takes_work() const { return unhealthy_reason.empty() && check_failure.empty(); }
    // Why it is not healthy; "" if it is, or still loading.
    std::string reason(const engine::EngineStats& stats) const;
  };
  State state() const;
  State ready_state() const;  // throws while loading, draining and unhealthy
  Reply execute(const HttpRequest& request);
  Reply submit(ExecuteRequest prepared, const State& now, std::chrono::steady_clock::time_point arrived);
  void add_completion_routes(Router* router);
  Reply complete(const HttpRequest& request, bool is_chat);
  Reply submit(const std::string& id, CompletionRequest prepared, const State& now,
               std::chrono::steady_clock::time_point arrived);
  Reply cancel(const HttpRequest& request);
  Reply shutdown();
  Reply health() const;
  Reply readiness() const;
  bool healthy() const;
  Reply residency();
  void add_text_routes(Router* router);
  double uptime_seconds() const;
  bool begin_job(const std::string& id, size_t n_choices = 1);
  void drop_job(const std::string& id);
  bool job_cancelled(const std::string& id);
  void end_job(const StreamSummary& summary);

  ServiceOptions options_;
  Metrics metrics_;
  const std::chrono::steady_clock::time_point started_at_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  State state_;
  // From acceptance to the last event.
  struct Job {
    size_t n_choices = 1;
    bool cancelled = false;  // also before the engine had it
  };
  void cancel_locked(const std::string& id, Job* job);
  std::map<std::string, Job, std::less<>> jobs_;
  std::mutex residency_mutex_;
  std::atomic<bool> resident_ = false, shutdown_requested_ = false;
};

}  // namespace orcd::server
