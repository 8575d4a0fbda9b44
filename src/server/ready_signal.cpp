#include "server/ready_signal.h"

#include <utility>

namespace orcd::server {

void ReadySignal::fire() {
  std::lock_guard lock(mutex_);
  fired_ = true;
  if (notify_) notify_();
}

void ReadySignal::listen(std::function<void()> notify) {
  std::lock_guard lock(mutex_);
  notify_ = std::move(notify);
  if (fired_ && notify_) notify_();
}

}  // namespace orcd::server
