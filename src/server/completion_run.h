// The generations behind one completion: read side by side, and told to whoever writes the answer.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "server/completion_choice.h"
#include "server/completion_json.h"
#include "server/metrics.h"
#include "server/ready_signal.h"
#include "server/stream_summary.h"

namespace orcd::server {

// What the answer is made of, in the order of a choice's events. Of different choices they come as they come.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  virtual void started(size_t choice) = 0;
  // Where log-probabilities are asked for: a token, before the parts that it completes.
  virtual void token(size_t choice, TokenText token) = 0;
  virtual void part(size_t choice, const engine::TurnPart& part) = 0;
  virtual void ended(size_t choice, const char* finish_reason, const engine::EndEvent& end) = 0;
  // Exactly one of them, last.
  virtual void completed(const CompletionUsage& usage) = 0;
  virtual void failed(const Error& error) = 0;
};

class CompletionRun {
 public:
  struct Setup {
    CompletionRequest request;  // its choices have been submitted, in this order
    std::vector<std::unique_ptr<engine::Generation>> generations;
    std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
    std::shared_ptr<ReadySignal> signal;
    std::string job_id;
    std::chrono::steady_clock::time_point arrived;
    Metrics* metrics;
    // Called once: when the last event was told, or when the run is dropped before it.
    std::function<void(const StreamSummary&)> done;
  };
  explicit CompletionRun(Setup setup);
  ~CompletionRun();
  CompletionRun(const CompletionRun&) = delete;
  CompletionRun& operator=(const CompletionRun&) = delete;

  // Tells the events that are there, while `goes_on` says so. False when nothing will follow.
  bool read(CompletionSink* sink, const std::function<bool()>& goes_on);
  void on_ready(std::function<void()> notify) { setup_.signal->listen(std::move(notify)); }

 private:
  struct Reader {
    explicit Reader(const CompletionRequest& request) : choice(request) {}
    CompletionChoice choice;
    bool has_started = false;
    double last_token_at = 0;
  };
  void take(size_t index, const engine::Event& event, CompletionSink* sink);
  void start(size_t index, CompletionSink* sink);
  void tell(size_t index, std::vector<engine::TurnPart> parts, CompletionSink* sink);
  void end(size_t index, const engine::EndEvent& event, CompletionSink* sink);
  void fail(const Error& error, CompletionSink* sink);
  void finish();
  CompletionUsage usage() const;
  double seconds_since_arrival() const;

  Setup setup_;
  std::vector<Reader> readers_;
  StreamSummary summary_;
  size_t n_ended_ = 0;
  bool over_ = false;
};

}  // namespace orcd::server
