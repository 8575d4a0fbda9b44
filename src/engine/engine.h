// The engine: owns the device on its own thread; takes requests, schedules steps, samples, publishes events.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "device/device.h"
#include "engine/channel.h"
#include "engine/request.h"
#include "tokenizer/tokenizer.h"

namespace orcd::engine {

struct EngineOptions {
  uint32_t max_queue = 256;           // waiting requests; one more is OVERLOADED
  size_t channel_capacity = 256;      // events that a reader may be behind before its sequence pauses, and
                                      // others may have its slot
  double target_step_seconds = 0.05;  // prompts are cut into chunks so that a step takes no longer
};

// A snapshot for /health, /metrics and the tests; cheap, never waits for the engine thread.
struct EngineStats {
  bool healthy = true;  // false: the device is lost, and nothing is taken any more
  std::string unhealthy_reason;
  bool failing = false;  // the last steps failed, three or more in a row, and nothing has worked since
  uint32_t running = 0, waiting = 0;
  uint64_t kv_pages_total = 0, kv_pages_used = 0;
  uint64_t tokens_generated = 0, prompt_tokens = 0;
  uint64_t prefix_queries = 0, prefix_hits = 0;  // tokens
  uint64_t n_preemptions = 0;                    // sequences that gave up their pages, to be computed again
  uint64_t requests_ok = 0, requests_error = 0, requests_cancelled = 0;
  double busy_seconds = 0;
};

// The reader's end of a request. Destroying it cancels the request if it has not ended.
class Generation {
 public:
  Generation(std::shared_ptr<Channel> channel, std::function<void()> cancel);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;
  Channel& channel() { return *channel_; }
  void cancel() {
    cancel_();
  }  // idempotent; the request ends in ErrorEvent CANCELLED. May outlive the engine

 private:
  std::shared_ptr<Channel> channel_;
  std::function<void()> cancel_;
};

class Engine {
 public:
  // Takes over the executor; starts the engine thread.
  Engine(std::unique_ptr<device::Executor> executor, std::shared_ptr<const model::Program> program,
         std::shared_ptr<const tokenizer::Tokenizer> tokenizer, EngineOptions options = {});
  ~Engine();  // cancels what is active, joins the thread

  // Thread-safe. Throws: INVALID_REQUEST (empty prompt, token out of range, prompt longer than the context
  // with n_prompt_tokens and n_ctx, id already active), VRAM_OOM (can never fit), OVERLOADED, SHUTTING_DOWN.
  // `notify` is called on the engine thread whenever an event is ready (see Channel::on_event); may be empty.
  std::unique_ptr<Generation> submit(Request request, std::function<void()> notify = {});

  bool cancel(std::string_view request_id);           // false if not active; thread-safe
  void stop_accepting();                              // new work is SHUTTING_DOWN; active work goes on
  bool wait_idle(std::chrono::milliseconds timeout);  // true when nothing runs or waits

  EngineStats stats() const;
  const device::ResolvedLimits& limits() const;
  const memory::Plan& plan() const;
  const memory::Ledger& ledger() const;
  const std::string& model_digest() const;  // hex
  // Runs the executor's residency check between two steps and waits for it. Thread-safe.
  std::vector<device::Executor::Residency> check_residency();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orcd::engine
