// Where the log's lines end. A supervisor that starts the worker with a pipe and then no longer reads it must
// not stop the worker: a write to a full pipe waits, with every thread that has something to log behind it.
#pragma once

#include <spdlog/sinks/base_sink.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace orcd::cli {

// Whether stderr takes up to PIPE_BUF bytes without waiting, now or within `limit`. A stderr that is broken
// or closed takes them, too: the write fails at once.
bool stderr_has_room(std::chrono::milliseconds limit);

// Waits a second for a reader that is behind. One that takes nothing in that time is taken for gone: lines
// are lost, without a wait, until there is room again, and then the first one tells how many.
class StderrSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  // lost_line: n lines lost -> the line that says so, with its end.
  explicit StderrSink(std::function<std::string(uint64_t)> lost_line) : lost_line_(std::move(lost_line)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override {}
  bool has_room();
  void put(std::string_view line);

  std::function<std::string(uint64_t)> lost_line_;
  uint64_t n_lost_ = 0;
  bool is_stalled_ = false;
  bool is_torn_ = false;  // the line before ended in the middle
};

}  // namespace orcd::cli
