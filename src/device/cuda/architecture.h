// Which devices this build has code for, and why one is refused. Plain C++, so that it is tested everywhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace orcd::cuda {

// Machine code of sm_Mm runs on compute capability M.n with n >= m; that of sm_Mma (architecture-specific
// features) on M.m alone (CUDA C++ programming guide, "Binary Compatibility").
// compiled: "80,90a,120"; the last digit of a number is the minor.
inline bool has_code_for(std::string_view compiled, int major, int minor) {
  while (!compiled.empty()) {
    const size_t end = compiled.find(',');
    std::string_view one = compiled.substr(0, end);
    compiled = end == compiled.npos ? std::string_view() : compiled.substr(end + 1);
    const bool specific = one.ends_with('a');
    if (specific) one.remove_suffix(1);
    int number = 0;
    for (const char digit : one) number = number * 10 + (digit - '0');
    if (number / 10 == major && (specific ? number % 10 == minor : number % 10 <= minor)) return true;
  }
  return false;
}

struct Refusal {
  std::string message, hint;
};

// Bytes of shared memory that a block of our kernels may take.
inline constexpr uint32_t kMostShared = 227 * 1024;

// shared_bytes: what the device gives a block at most.
inline std::optional<Refusal> refusal(bool integrated, int major, int minor, std::string_view compiled,
                                      uint64_t shared_bytes) {
  if (integrated)
    return Refusal{"an integrated GPU shares the host's memory, so nothing could be resident in VRAM",
                   "use a discrete GPU, or --device cpu"};
  const std::string capability = std::to_string(major) + "." + std::to_string(minor);
  if (major < 8)
    return Refusal{"compute capability " + capability + " is too old",
                   "a GPU of compute capability 8.0 or newer is needed"};
  if (!has_code_for(compiled, major, minor))
    return Refusal{
        "this build has no code for compute capability " + capability + ", only for " + std::string(compiled),
        "configure with -DORCD_CUDA_ARCHITECTURES=" + std::to_string(major) + std::to_string(minor)};
  if (shared_bytes < kMostShared)
    return Refusal{
        "a block has " + std::to_string(shared_bytes) + " bytes of shared memory, and the kernels need " +
            std::to_string(kMostShared),
        "use a GPU that gives a block 227 KiB (Hopper, Blackwell for data centres), or --device cpu"};
  return std::nullopt;
}

}  // namespace orcd::cuda
