// SIGTERM and SIGINT as something to ask for, instead of something that happens.
#pragma once

#include <chrono>
#include <csignal>

namespace orcd::cli {

// Blocks both in this thread and all that it starts from now on: to be made before the first of them.
class StopSignals {
 public:
  StopSignals();
  // Waits up to `limit`; true once one came, and again for each further one.
  bool came(std::chrono::milliseconds limit) const;

 private:
  sigset_t set_;
};

}  // namespace orcd::cli
