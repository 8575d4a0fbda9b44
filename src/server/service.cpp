#include "server/service.h"

#include <utility>

#include "base/log.h"
#include "base/sha256.h"
#include "server/error_reply.h"
#include "server/openai_fields.h"
#include "server/service_json.h"
#include "server/text_requests.h"

namespace orcd::server {
namespace {

Error draining_error() {
  return Error(ErrorCode::kShuttingDown, "the worker is shutting down and takes no new work", {},
               "send the request to another worker");
}

Reply json_reply(int status, std::string body) {
  Reply reply;
  reply.status = status;
  reply.body = std::move(body);
  return reply;
}

Error mismatch(const device::Executor::Residency& arena) {
  ErrorValues values = {{"arena", arena.arena}, {"pointer_type", arena.pointer_type}};
  if (!arena.first_mismatch.empty()) values.emplace_back("tensor", arena.first_mismatch);
  return Error(ErrorCode::kInternal,
               arena.in_place ? "the weights on the device differ from those loaded"
                              : "memory of the model is not where it must be",
               std::move(values), "start the worker again; if it repeats, the device's memory is faulty");
}

ErrorValues start_fields(const ExecuteRequest& prepared) {
  const engine::Request& request = prepared.request;
  return {{"job_id", request.id},
          {"prompt_characters", uint64_t{prepared.prompt_characters}},
          {"prompt_bytes", uint64_t{prepared.prompt_bytes}},
          {"prompt_sha256", prepared.prompt_sha256},
          {"prompt_tokens", uint64_t{request.prompt_tokens.size()}},
          {"max_tokens", uint64_t{request.max_tokens}},
          {"seed", request.sampling.seed}};
}

void log_end(const StreamSummary& summary) {
  ErrorValues fields = {{"job_id", summary.job_id},
                        {"outcome", std::string(outcome_name(summary.outcome))},
                        {"tokens_out", summary.tokens_out},
                        {"output_bytes", summary.output_bytes},
                        {"output_sha256", to_hex(summary.output_digest)},
                        {"total_ms", summary.total_ms}};
  if (summary.end) {
    fields.emplace_back("stop_reason", std::string(engine::stop_reason_name(summary.end->reason)));
    fields.emplace_back("queue_ms", summary.end->queue_ms);
    fields.emplace_back("prefill_ms", summary.end->prefill_ms);
    fields.emplace_back("decode_time_ms", summary.end->decode_ms);
  } else {
    fields.emplace_back(
        "code", std::string(error_code_name(summary.error ? summary.error->code() : ErrorCode::kCancelled)));
    fields.emplace_back("reason", summary.error ? summary.error->message() : std::string("the reader left"));
  }
  const bool expected = summary.outcome == Outcome::kOk || summary.outcome == Outcome::kCancelled;
  log_event(expected ? LogLevel::kInfo : LogLevel::kWarn, "execute_end", fields);
}

}  // namespace

std::string choice_id(const std::string& job_id, size_t choice) {
  return choice == 0 ? job_id : job_id + "-" + std::to_string(choice);
}

Reply stream_reply(std::unique_ptr<StreamSource> stream) {
  Reply reply;
  reply.content_type = "text/event-stream";
  reply.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  reply.stream = std::move(stream);
  return reply;
}

Service::Service(WorkerFacts facts, ServiceOptions options) : options_(options) {
  state_.facts = std::move(facts);
}

Service::~Service() = default;

void Service::add_routes(Router* router) {
  const auto on = [this](Reply (Service::*handler)()) {
    return [this, handler](const HttpRequest&) { return (this->*handler)(); };
  };
  router->add({"POST", "/execute", [this](const HttpRequest& r) { return execute(r); }, RunOn::kPrepare});
  router->add({"POST", "/cancel", [this](const HttpRequest& r) { return cancel(r); }, RunOn::kIo});
  router->add({"POST", "/shutdown", on(&Service::shutdown), RunOn::kIo});
  router->add({"GET", "/health", [this](const HttpRequest&) { return health(); }, RunOn::kIo, true});
  router->add({"GET", "/livez", [](const HttpRequest&) { return json_reply(200, R"({"status":"ok"})"); },
               RunOn::kIo, true});
  router->add({"GET", "/readyz", [this](const HttpRequest&) { return readiness(); }, RunOn::kIo, true});
  router->add({"GET", "/v1/residency", on(&Service::residency), RunOn::kSlow});
  add_text_routes(router);
  add_completion_routes(router);
  router->add({"GET", "/metrics",
               [this](const HttpRequest&) {
                 Reply reply = json_reply(200, metrics_.text(state().engine, uptime_seconds(), healthy()));
                 reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
                 return reply;
               },
               RunOn::kIo});
}

void Service::add_text_routes(Router* router) {
  const auto add = [&](const char* path, auto answer) {
    router->add(
        {"POST", path,
         [this, answer](const HttpRequest& r) { return json_reply(200, answer(r.body, ready_state())); },
         RunOn::kPrepare});
  };
  add("/tokenize",
      [](const std::string& body, const State& now) { return tokenize_json(body, *now.tokenizer); });
  add("/detokenize",
      [](const std::string& body, const State& now) { return detokenize_json(body, *now.tokenizer); });
  add("/apply-template",
      [](const std::string& body, const State& now) { return apply_template_json(body, *now.chat); });
  router->add({"GET", "/v1/models",
               [this](const HttpRequest&) {
                 const State now = ready_state();
                 return json_reply(200, models_json(now.facts, now.ready_at));
               },
               RunOn::kIo});
  Route model{"GET", "/v1/models/",
              [this](const HttpRequest& request) {
                const State now = ready_state();
                const std::string id = request.path.substr(std::string_view("/v1/models/").size());
                if (id != now.facts.model && percent_decoded(id) != now.facts.model)
                  return openai_error_reply(unknown_model(id, now.facts.model));
                return json_reply(200, model_json(now.facts, now.ready_at));
              },
              RunOn::kIo};
  model.has_rest = true;
  router->add(std::move(model));
}

void Service::set_ready(WorkerFacts facts, engine::Engine* engine,
                        std::shared_ptr<const tokenizer::Tokenizer> tokenizer,
                        std::shared_ptr<const engine::Chat> chat) {
  std::lock_guard lock(mutex_);
  resident_ = true;
  state_.facts = std::move(facts);
  state_.engine = engine;
  state_.tokenizer = std::move(tokenizer);
  state_.chat = std::move(chat);
  state_.ready_at = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  if (state_.draining) engine->stop_accepting();
}

void Service::start_draining() {
  std::lock_guard lock(mutex_);
  state_.draining = true;
  if (state_.engine) state_.engine->stop_accepting();
}

void Service::cancel_all() {
  std::lock_guard lock(mutex_);
  for (auto& [id, job] : jobs_) cancel_locked(id, &job);
}

void Service::cancel_locked(const std::string& id, Job* job) {
  job->cancelled = true;
  if (!state_.engine) return;
  for (size_t choice = 0; choice < job->n_choices; ++choice) state_.engine->cancel(choice_id(id, choice));
}

size_t Service::n_active_jobs() const {
  std::lock_guard lock(mutex_);
  return jobs_.size();
}

Service::State Service::state() const {
  std::lock_guard lock(mutex_);
  return state_;
}

Service::State Service::ready_state() const {
  State now = state();
  if (now.draining) throw draining_error();
  if (!now.engine) throw StillLoading();
  if (!now.takes_work()) {
    throw Error(ErrorCode::kInternal, "the worker is unhealthy and takes no new work",
                {{"reason", now.reason({})}},
                "send the request to another worker; start this one again if it stays so");
  }
  return now;
}

double Service::uptime_seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started_at_).count();
}

bool Service::begin_job(const std::string& id, size_t n_choices) {
  std::lock_guard lock(mutex_);
  return jobs_.emplace(id, Job{n_choices}).second;
}

void Service::drop_job(const std::string& id) {
  std::lock_guard lock(mutex_);
  jobs_.erase(id);
}

bool Service::job_cancelled(const std::string& id) {
  std::lock_guard lock(mutex_);
  return jobs_[id].cancelled;
}

void Service::end_job(const StreamSummary& summary) {
  drop_job(summary.job_id);
  log_end(summary);
}

Reply Service::execute(const HttpRequest& http) {
  const auto arrived = std::chrono::steady_clock::now();
  try {
    const State now = ready_state();
    ExecuteRequest prepared = parse_execute(http.body, *now.tokenizer, options_.execute);
    if (!begin_job(prepared.request.id)) {
      throw InvalidRequest("job_id", "a job of this id is active");
    }
    const std::string id = prepared.request.id;
    try {
      return submit(std::move(prepared), now, arrived);
    } catch (...) {
      drop_job(id);
      throw;
    }
  } catch (const Error& error) {
    metrics_.request_ended(outcome_of(error));
    return error_reply(error);
  }
}

Reply Service::submit(ExecuteRequest prepared, const State& now,
                      std::chrono::steady_clock::time_point arrived) {
  ExecuteStream::Options options{prepared.request.id, now.facts.model, prepared.request.sampling.seed,
                                 arrived};
  prepared.request.deadline = arrived + options_.inference_timeout;
  auto signal = std::make_shared<ReadySignal>();
  const ErrorValues described = start_fields(prepared);
  auto generation = now.engine->submit(std::move(prepared.request), [signal] { signal->fire(); });
  log_event(LogLevel::kInfo, "execute_start", described);
  if (job_cancelled(options.job_id)) generation->cancel();
  return stream_reply(
      std::make_unique<ExecuteStream>(std::move(options), std::move(generation), std::move(signal), &metrics_,
                                      [this](const StreamSummary& summary) { end_job(summary); }));
}

Reply Service::cancel(const HttpRequest& request) {
  const std::string id = parse_cancel(request.body);
  std::lock_guard lock(mutex_);
  const auto job = jobs_.find(id);
  const bool active = job != jobs_.end();
  if (active) cancel_locked(id, &job->second);
  return json_reply(202, cancel_json(id, active));
}

Reply Service::shutdown() {
  start_draining();
  shutdown_requested_ = true;
  return json_reply(202, R"({"status":"shutting_down"})");
}

std::string Service::State::reason(const engine::EngineStats& stats) const {
  if (!stats.healthy) return stats.unhealthy_reason;
  if (!unhealthy_reason.empty()) return unhealthy_reason;
  if (!check_failure.empty()) return check_failure;
  if (stats.failing) return "every one of the last steps failed on the device";
  return draining ? "shutting down" : "";
}

Reply Service::health() const {
  const State now = state();
  HealthReport report;
  report.facts = &now.facts;
  report.uptime_seconds = uptime_seconds();
  report.resident = resident_;
  if (!now.engine) {
    report.status = "loading";
  } else {
    const engine::EngineStats stats = now.engine->stats();
    report.vram_bytes_used = now.engine->ledger().total_bytes();
    report.tokenizer_kind = now.tokenizer->kind();
    report.tokenizer_pre = now.tokenizer->pre();
    report.conformance = now.tokenizer->conformance();
    report.vocab_size = now.tokenizer->vocab_size();
    report.running = stats.running;
    report.waiting = stats.waiting;
    report.reason = now.reason(stats);
    report.status = stats.healthy && report.reason.empty() ? "healthy" : "unhealthy";
  }
  return json_reply(report.status == "healthy" ? 200 : 503, health_json(report));
}

bool Service::healthy() const {
  const State now = state();
  if (!now.engine) return false;
  const engine::EngineStats stats = now.engine->stats();
  return stats.healthy && now.reason(stats).empty();
}

Reply Service::readiness() const {
  const bool ready = healthy();
  return json_reply(ready ? 200 : 503, ready ? R"({"status":"ready"})" : R"({"status":"not ready"})");
}

std::vector<device::Executor::Residency> Service::check_residency() {
  const State now = state();
  if (!now.engine) throw StillLoading();
  std::lock_guard lock(residency_mutex_);
  std::vector<device::Executor::Residency> arenas;
  try {
    arenas = now.engine->check_residency();
  } catch (const Error& error) {
    std::lock_guard state_lock(mutex_);
    if (error.code() != ErrorCode::kShuttingDown)
      state_.check_failure = "the residency check failed: " + error.message();
    throw;
  }
  {
    std::lock_guard state_lock(mutex_);
    state_.check_failure.clear();
  }
  for (const auto& arena : arenas) {
    if (arena.holds()) continue;
    resident_ = false;
    const Error error = mismatch(arena);
    {
      std::lock_guard state_lock(mutex_);
      if (state_.unhealthy_reason.empty()) state_.unhealthy_reason = error.line();
    }
    ErrorValues fields = {{"code", std::string(error_code_name(error.code()))}, {"message", error.message()}};
    fields.insert(fields.end(), error.values().begin(), error.values().end());
    log_event(LogLevel::kError, "error", fields);
  }
  return arenas;
}

Reply Service::residency() {
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<device::Executor::Residency> arenas = check_residency();
  const double ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  return json_reply(resident_ ? 200 : 503, residency_json(state().facts, arenas, resident_, ms));
}

}  // namespace orcd::server
