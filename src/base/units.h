// Byte units and times as text; checked integer arithmetic for sizes that come from outside.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace orcd {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

// a * b, a + b; nullopt when the result does not fit in 64 bits.
inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t out;
  return __builtin_mul_overflow(a, b, &out) ? std::nullopt : std::optional<uint64_t>(out);
}
inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t out;
  return __builtin_add_overflow(a, b, &out) ? std::nullopt : std::optional<uint64_t>(out);
}

constexpr uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }
// REQUIRES alignment is a power of two.
constexpr uint64_t align_up(uint64_t n, uint64_t alignment) { return (n + alignment - 1) & ~(alignment - 1); }

// "98.4 MB (98362432)": decimal units as the field prints model sizes, with the exact count.
std::string format_bytes(uint64_t bytes);

// "2026-11-25T22:41:07.042Z"
std::string utc_text(std::chrono::system_clock::time_point at);

}  // namespace orcd
