// What the worker counts, and its text for Prometheus. Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "engine/engine.h"

namespace orcd::server {

// How a request ended, as the `outcome` label says it.
enum class Outcome { kOk, kError, kCancelled, kTimeout, kRejected };
const char* outcome_name(Outcome outcome);
Outcome outcome_of(const Error& error);

class Metrics {
 public:
  Metrics();
  ~Metrics();

  void request_ended(Outcome outcome);
  void first_token(double seconds);                            // since the request arrived
  void inter_token(double seconds);                            // between two tokens, as the reader got them
  void finished(const engine::EndEvent& end, double seconds);  // the whole request
  // Current values are read from `engine` (null while loading).
  std::string text(const engine::Engine* engine, double uptime_seconds, bool healthy);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orcd::server
