#include "base/log.h"

#include <mutex>
#include <utility>

namespace orcd {
namespace {

struct SinkSlot {
  std::mutex mutex;
  LogSink sink;
};

SinkSlot& slot() {
  static SinkSlot instance;
  return instance;
}

}  // namespace

LogSink set_log_sink(LogSink sink) {
  std::lock_guard lock(slot().mutex);
  return std::exchange(slot().sink, std::move(sink));
}

void log_event(LogLevel level, std::string_view event, const ErrorValues& fields) {
  std::lock_guard lock(slot().mutex);
  if (slot().sink) slot().sink(LogEvent{level, event, fields});
}

}  // namespace orcd
