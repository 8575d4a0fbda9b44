// "An event is ready", from the engine thread to whoever writes the answer.
#pragma once

#include <functional>
#include <mutex>

namespace orcd::server {

// Remembers a firing that nobody listened to yet. Thread-safe.
class ReadySignal {
 public:
  void fire();
  void listen(std::function<void()> notify);

 private:
  std::mutex mutex_;
  bool fired_ = false;
  std::function<void()> notify_;
};

}  // namespace orcd::server
