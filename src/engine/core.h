// The engine without its thread: takes jobs, runs one step at a turn, publishes. Single-threaded but for what
// a Job shares with its reader; the clock is given, so that tests run it under a simulated one.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "engine/channel.h"
#include "engine/harmony.h"
#include "engine/pacer.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/stop_matcher.h"
#include "tokenizer/tokenizer.h"

namespace orcd::engine {

using Time = std::chrono::steady_clock::time_point;

// What the submitting thread and the engine share about a request.
struct Job {
  Request request;
  std::shared_ptr<Channel> channel;
  Time arrived;
  std::atomic<bool> cancelled = false;
};

// Written by the engine thread, read by any.
struct Counters {
  std::atomic<uint32_t> running = 0, waiting = 0, set_aside = 0;
  std::atomic<uint32_t> failed_steps = 0;  // in a row, up to now
  std::atomic<uint64_t> kv_pages_used = 0, tokens_generated = 0, prompt_tokens = 0;
  std::atomic<uint64_t> prefix_queries = 0, prefix_hits = 0, n_preemptions = 0;
  std::atomic<uint64_t> requests_ok = 0, requests_error = 0, requests_cancelled = 0;
  std::atomic<uint64_t> busy_nanoseconds = 0;
  std::atomic<bool> healthy = true;
};

struct CoreOptions {
  std::string model_digest;
  double target_step_seconds = 0.05;
  std::function<Time()> clock = std::chrono::steady_clock::now;
  // Called once for each job, just before its terminal event: a reader that saw it may use the id again.
  std::function<void(const Job&)> ended;
  // Called once, when the device is found to be lost: before any job ends with it.
  std::function<void(const Error&)> lost;
};

// After so many failed steps in a row the device counts as failing, though it is not lost.
inline constexpr uint32_t kFailingSteps = 3;

class Core {
 public:
  Core(device::Executor& executor, const tokenizer::Tokenizer& tokenizer, CoreOptions options,
       Counters* counters);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // The limit on prompt and output together: the context, or what all KV pages hold.
  uint32_t max_length() const { return max_length_; }
  // Throws INVALID_REQUEST or VRAM_OOM for a request that could never run. Thread-safe.
  void check(const Request& request) const;

  // A job that passed check().
  void add(std::shared_ptr<Job> job);
  // Ends what was cancelled, abandoned or is late; then at most pipeline_depth submits and one collect.
  // false: there was nothing to run; call again when something has changed or at next_deadline().
  bool turn();
  // Collects what is in flight, then asks the executor. What that throws is thrown on; if the device is lost,
  // every job ends with it. A check that works puts a failing device on probation: the next failed step
  // counts as the kFailingSteps-th again.
  std::vector<device::Executor::Residency> check_residency();
  // Ends every job with this error.
  void end_all(const Error& error);
  // The same where there is no memory: ends every job with out_of_memory() and forgets the steps in flight.
  void abandon_all() noexcept;

  Time next_deadline() const;
  bool idle() const { return active_.empty(); }
  const std::optional<Error>& broken() const { return broken_; }  // the error that made the engine unhealthy
  const kv::PagePool& pool() const { return pool_; }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  struct Active;

  void sweep();
  bool submit_one();
  void collect_one();
  void accept(Active& active, const device::SequenceResult& result);
  void finish(Active& active, StopReason reason);
  void end(Active& active, Event event);
  void fail(Active& active, const Error& error);
  void release(Active& active);
  void fail_batch(const Batch& batch, const Error& error);
  void device_failed(const Error& error);
  void drain();
  Active& find(const Sequence* sequence);
  void bury();  // drops the jobs that have ended
  void publish_counters();

  device::Executor& executor_;
  const tokenizer::Tokenizer& tokenizer_;
  const std::optional<HarmonyTokens> harmony_;
  CoreOptions options_;
  Counters* counters_;
  uint32_t max_length_;
  kv::PagePool pool_;
  Scheduler scheduler_;
  StepPacer pacer_;
  std::optional<Error> broken_;
  Time step_started_{};
  std::vector<std::unique_ptr<Active>> active_;  // in order of arrival
};

// The Error now being handled: itself, or INTERNAL with what() of another exception.
Error current_error();

}  // namespace orcd::engine
