#include "cli/stop_signals.h"

namespace orcd::cli {

StopSignals::StopSignals() {
  sigemptyset(&set_);
  sigaddset(&set_, SIGTERM);
  sigaddset(&set_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
}

bool StopSignals::came(std::chrono::milliseconds limit) const {
  const timespec time{limit.count() / 1000, limit.count() % 1000 * 1'000'000};
  return sigtimedwait(&set_, nullptr, &time) > 0;
}

}  // namespace orcd::cli
