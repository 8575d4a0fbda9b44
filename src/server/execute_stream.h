// The events of one generation as server-sent events: started, token..., metrics, then one end or error.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/sha256.h"
#include "engine/engine.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/ready_signal.h"
#include "server/stream_summary.h"

namespace orcd::server {

// "event: NAME\ndata: JSON\n\n". REQUIRES json in one line.
std::string sse_event(std::string_view name, std::string_view json);

class ExecuteStream : public StreamSource {
 public:
  struct Options {
    std::string job_id, model;
    uint64_t seed = 0;
    std::chrono::steady_clock::time_point arrived;
  };
  // `done` is called once: after the terminal event was handed out, or when the stream is dropped before it.
  ExecuteStream(Options options, std::unique_ptr<engine::Generation> generation,
                std::shared_ptr<ReadySignal> signal, Metrics* metrics,
                std::function<void(const StreamSummary&)> done);
  ~ExecuteStream() override;

  bool next(std::string* out, size_t max_bytes) override;
  void on_ready(std::function<void()> notify) override;

 private:
  void add(const engine::StartedEvent& event, std::string* out);
  void add(const engine::TokenEvent& event, std::string* out);
  void add(const engine::EndEvent& event, std::string* out);
  void add(const engine::ErrorEvent& event, std::string* out);
  void add_token(std::string_view text, uint64_t index, std::string* out);
  void add_held(std::string_view tail, std::string* out);
  void finish();
  double seconds_since_arrival() const;

  Options options_;
  std::unique_ptr<engine::Generation> generation_;
  std::shared_ptr<ReadySignal> signal_;
  Metrics* metrics_;
  std::function<void(const StreamSummary&)> done_;
  StreamSummary summary_;
  Sha256 output_digest_;
  bool started_ = false, ended_ = false;
  // A token that holds text back, or has none, waits for the next event: if text is released at the end, it
  // goes out with this token.
  struct Held {
    std::string text;
    uint64_t index;
  };
  std::optional<Held> held_;
  double last_token_at_ = 0;
};

}  // namespace orcd::server
