#include "engine/request.h"

#include <random>

namespace orcd::engine {

const char* stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::kEnd:
      return "eos";
    case StopReason::kMaxTokens:
      return "max_tokens";
    case StopReason::kStopString:
      return "stop";
    case StopReason::kContext:
      return "context";
  }
  return "";
}

uint64_t new_seed() {
  std::random_device device;
  return ((uint64_t{device()} << 32) | device()) >> 11;
}

std::string hex_digest(const numerics::Digest& digest) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const uint64_t word : {digest.a, digest.b}) {
    for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(word >> shift) & 15];
  }
  return text;
}

}  // namespace orcd::engine
