// Keeps a step short, so that cancels and new tokens never wait long behind a prompt: the number of tokens
// in a step follows the measured time. Chunking does not change bits, so this is free of consequences.
#pragma once

#include <algorithm>
#include <cstdint>

namespace orcd::engine {

class StepPacer {
 public:
  // least: tokens that a step may always have (one per slot, so decoding is never held back).
  StepPacer(uint32_t least, uint32_t most, double target_seconds)
      : least_(std::min(least, most)), most_(most), target_seconds_(target_seconds) {
    budget_ = std::clamp(kFirst, least_, most_);
  }

  uint32_t budget() const { return budget_; }

  void measured(uint32_t n_tokens, double seconds) {
    if (seconds > target_seconds_) {
      set(static_cast<double>(n_tokens) * target_seconds_ / seconds);
    } else if (n_tokens >= budget_) {
      // At most doubled at a time: one quick step says little.
      const double room = target_seconds_ / std::max(seconds, 1e-9);
      set(static_cast<double>(budget_) * std::min(2.0, room));
    }
  }

 private:
  static constexpr uint32_t kFirst = 64;
  void set(double tokens) {
    const auto wanted = static_cast<uint32_t>(std::min(tokens, static_cast<double>(most_)));
    budget_ = std::clamp(wanted >= 16 ? wanted / 8 * 8 : wanted, least_, most_);
  }

  uint32_t least_, most_, budget_;
  double target_seconds_;
};

}  // namespace orcd::engine
