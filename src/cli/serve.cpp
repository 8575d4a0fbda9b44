#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <random>
#include <system_error>
#include <thread>

#include "base/log.h"
#include "base/sha256.h"
#include "cli/commands.h"
#include "cli/log_setup.h"
#include "cli/session.h"
#include "cli/stop_signals.h"
#include "cli/version.h"
#include "server/callback.h"
#include "server/http_server.h"
#include "server/service.h"

namespace orcd::cli {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kTick{20};
constexpr milliseconds kFlushLimit{3'000};  // for the last bytes of answers after the engine is idle

std::string random_uuid() {
  std::random_device random;
  unsigned char b[16];
  for (auto& byte : b) byte = static_cast<unsigned char>(random());
  b[6] = static_cast<unsigned char>((b[6] & 0x0f) | 0x40);
  b[8] = static_cast<unsigned char>((b[8] & 0x3f) | 0x80);
  const std::string hex = to_hex(b);
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" + hex.substr(16, 4) + "-" +
         hex.substr(20);
}

// One key a line; blanks around it and empty lines do not count.
std::vector<std::string> read_keys(const std::string& path) {
  if (path.empty()) return {};
  std::ifstream file(path);
  std::vector<std::string> keys;
  for (std::string line; std::getline(file, line);) {
    const size_t begin = line.find_first_not_of(" \t\r"), end = line.find_last_not_of(" \t\r");
    if (begin != line.npos) keys.push_back(line.substr(begin, end - begin + 1));
  }
  if (keys.empty()) {
    throw Error(ErrorCode::kInvalidRequest, "no API key can be read from the file", {{"api_key_file", path}},
                "write one key a line");
  }
  return keys;
}

server::ServiceOptions service_options(const Options& o) {
  return {.execute = {.max_tokens_in = o.max_tokens_in, .max_tokens_out = o.max_tokens_out, .seed = o.seed},
          .inference_timeout = std::chrono::seconds(o.inference_timeout_sec)};
}

// What is known before the model is loaded.
server::WorkerFacts known_facts(const Options& options, const std::string& worker_id) {
  server::WorkerFacts facts;
  facts.worker_id = worker_id;
  facts.model = model_name(options.model);
  facts.device = options.device;
  return facts;
}

class Serving {
 public:
  Serving(const Options& options, const std::string& worker_id)
      : options_(options),
        service_(known_facts(options, worker_id), service_options(options)),
        worker_id_(worker_id) {
    if (!options.callback_url.empty()) server::check_callback_url(options.callback_url);
    auto router = std::make_shared<server::Router>(
        server::AccessRules{.loopback_only = server::is_loopback_address(options.host),
                            .api_keys = read_keys(options.api_key_file),
                            .cors_origin = options.cors_origin});
    service_.add_routes(router.get());
    http_ = std::make_unique<server::HttpServer>(
        server::HttpOptions{.host = options.host, .port = options.port}, router);
  }

  int run() {
    log_event(LogLevel::kInfo, "startup",
              {{"version", std::string(kVersion)},
               {"host", options_.host},
               {"port", uint64_t{http_->port()}},
               {"pid", int64_t{getpid()}},
               {"api_key", std::string(options_.api_key_file.empty() ? "none" : "required")}});
    http_->start();
    if (!load_model()) return finish("stopped while loading");
    const std::string why = serve_until_stopped();
    if (!unhealthy_.empty()) return fail();
    drain();
    return finish(why);
  }

 private:
  // False when a signal came first.
  bool load_model() {
    std::atomic<bool> stop = false;
    auto loading = std::async(
        std::launch::async, [&] { return load(options_, limits_of(options_), [&] { return stop.load(); }); });
    while (loading.wait_for(milliseconds(0)) != std::future_status::ready)
      if (signals().came(kTick) || service_.shutdown_requested())
        stop = true, signals_came_ = true, service_.start_draining();
    try {
      session_ = loading.get();
    } catch (const Error& error) {
      if (signals_came_ && error.code() == ErrorCode::kCancelled) return false;
      throw;
    }
    if (signals_came_) return false;
    engine_ = start_engine(&session_);
    const device::DeviceInfo& info = session_.device->info();
    server::WorkerFacts facts = known_facts(options_, worker_id_);
    facts.quant_kind = quant_kind(*session_.model.file);
    facts.isa = info.isa;
    facts.cuda_runtime_version = info.cuda_runtime_version;
    facts.context_length = engine_->limits().context;
    service_.set_ready(std::move(facts), engine_.get(), session_.model.tokenizer, session_.model.chat);
    log_event(LogLevel::kInfo, "ready",
              {{"host", options_.host},
               {"port", uint64_t{http_->port()}},
               {"vram_bytes", engine_->ledger().total_bytes()},
               {"planned_bytes", engine_->plan().total_bytes()},
               {"context", uint64_t{engine_->limits().context}},
               {"slots", uint64_t{engine_->limits().slots}}});
    if (!options_.callback_url.empty()) tell_callback();
    return true;
  }

  // On its own thread: a callback that does not answer holds nothing up.
  void tell_callback() {
    const std::string host =
        options_.host.find(':') == std::string::npos ? options_.host : "[" + options_.host + "]";
    server::ReadyNotice notice{.worker_id = worker_id_,
                               .model = model_name(options_.model),
                               .vram_bytes = engine_->ledger().total_bytes(),
                               .uri = "http://" + host + ":" + std::to_string(http_->port())};
    callback_ = std::jthread([url = options_.callback_url, notice](const std::stop_token& stop) {
      server::post_ready(url, notice, stop);
    });
  }

  std::string serve_until_stopped() {
    const auto period = std::chrono::seconds(options_.residency_check_sec);
    auto next_check = Clock::now() + period;
    std::future<void> check;
    std::string why;
    while (why.empty()) {
      if (signals().came(kTick)) why = "signal";
      if (service_.shutdown_requested()) why = "shutdown request";
      const engine::EngineStats stats = engine_->stats();
      if (!stats.healthy)
        unhealthy_ = why = stats.unhealthy_reason.empty() ? "the engine failed" : stats.unhealthy_reason;
      if (options_.residency_check_sec == 0 || Clock::now() < next_check) continue;
      next_check = Clock::now() + period;
      if (check.valid() && check.wait_for(milliseconds(0)) != std::future_status::ready) continue;
      try {
        check = std::async(std::launch::async, [this] { check_residency(); });
      } catch (const std::system_error& error) {  // no thread now: the next period tries again
        log_event(LogLevel::kWarn, "error",
                  {{"message", std::string("the residency check could not start")},
                   {"reason", std::string(error.what())}});
      }
    }
    asked_by_request_ = service_.shutdown_requested();
    return why;
  }

  void check_residency() {
    try {
      service_.check_residency();
    } catch (const Error& error) {
      log_event(LogLevel::kError, "error",
                {{"code", std::string(error_code_name(error.code()))}, {"message", error.line()}});
    } catch (const std::bad_alloc&) {  // says nothing about the weights
      log_event(LogLevel::kWarn, "error", {{"message", out_of_memory().line()}});
    }
  }

  // After a signal active requests have --drain-sec; after POST /shutdown they finish. A signal (another one)
  // ends the wait.
  void drain() {
    service_.start_draining();
    log_event(LogLevel::kInfo, "shutdown",
              {{"phase", std::string("draining")},
               {"active", uint64_t{service_.n_active_jobs()}},
               {"drain_sec", uint64_t{options_.drain_sec}}});
    auto until = asked_by_request_ ? Clock::time_point::max()
                                   : Clock::now() + std::chrono::seconds(options_.drain_sec);
    while ((service_.n_active_jobs() > 0 || http_->in_flight() > 0) && Clock::now() < until) {
      if (!signals().came(kTick)) continue;
      if (!asked_by_request_) break;
      asked_by_request_ = false;
      until = Clock::now() + std::chrono::seconds(options_.drain_sec);
    }
    service_.cancel_all();
  }

  int finish(const std::string& why) {
    http_->wait_idle(kFlushLimit);
    close();
    log_event(LogLevel::kInfo, "shutdown", {{"phase", std::string("done")}, {"reason", why}});
    return 0;
  }

  int fail() {
    log_event(LogLevel::kError, "error", {{"code", std::string("CUDA_ERROR")}, {"message", unhealthy_}});
    service_.start_draining();
    http_->wait_idle(kFlushLimit);
    close();
    throw Error(ErrorCode::kInternal, "the worker can no longer serve", {{"reason", unhealthy_}},
                "start it again");
  }

  void close() {
    http_->stop();
    http_.reset();
    engine_.reset();
  }

  static const StopSignals& signals() {
    static const StopSignals instance;
    return instance;
  }
  friend int serve_with(const Options& options);

  const Options& options_;
  server::Service service_;
  std::string worker_id_;
  Session session_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<server::HttpServer> http_;
  std::jthread callback_;
  std::string unhealthy_;
  bool signals_came_ = false, asked_by_request_ = false;
};

int serve_with(const Options& options) {
  Serving::signals();  // blocks them before the first thread starts
  const std::string worker_id = options.worker_id.empty() ? random_uuid() : options.worker_id;
  install_log(options.log_format, {worker_id, model_name(options.model), options.device});
  try {
    return Serving(options, worker_id).run();
  } catch (const Error& error) {
    ErrorValues fields = {{"code", std::string(error_code_name(error.code()))},
                          {"message", error.message()},
                          {"hint", error.hint()}};
    fields.insert(fields.end(), error.values().begin(), error.values().end());
    log_event(LogLevel::kError, "error", fields);
    throw;
  }
}

}  // namespace

int serve(const Options& options) { return serve_with(options); }

}  // namespace orcd::cli
