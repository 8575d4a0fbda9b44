#include "device/cpu/host_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

#include "base/error.h"

namespace orcd::cpu {
namespace {

// The number behind a word of a file that consists of words and numbers.
std::optional<uint64_t> number_behind(const std::string& path, const std::string& word) {
  std::ifstream file(path);
  uint64_t value = 0;
  for (std::string read; file >> read;)
    if (read == word && file >> value) return value;
  return std::nullopt;
}

std::optional<uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

uint64_t of_meminfo(const std::string& path, const std::string& key) {
  errno = 0;
  if (const auto kilobytes = number_behind(path, key)) return *kilobytes * 1024;
  throw Error(ErrorCode::kInternal, "the system does not say how much memory there is",
              {{"file", path},
               {"key", key},
               {"system", std::string(errno ? std::strerror(errno) : "the key is not there")}},
              "mount /proc, and see the limits of this process (ulimit -a)");
}

// What the group at `folder` leaves; no number if it has no limit.
std::optional<uint64_t> free_in_group(const std::string& folder) {
  const auto limit = number_in(folder + "/memory.max");
  if (!limit) return std::nullopt;
  const uint64_t used = number_in(folder + "/memory.current").value_or(0);
  const uint64_t cache = number_behind(folder + "/memory.stat", "inactive_file").value_or(0);
  return *limit - std::min(*limit, used - std::min(used, cache));
}

// "/a/b" of the line "0::/a/b"; "" for the root.
std::string group_of_process(const std::string& path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("0::/")) return line.size() > 4 ? line.substr(3) : "";
  return "";
}

}  // namespace

HostMemory host_memory(const std::string& root) {
  const std::string meminfo = root + "/proc/meminfo";
  HostMemory memory{of_meminfo(meminfo, "MemTotal:"), of_meminfo(meminfo, "MemAvailable:")};
  const std::string groups = root + "/sys/fs/cgroup";
  std::string folder = groups + group_of_process(root + "/proc/self/cgroup");
  while (true) {
    if (const auto left = free_in_group(folder)) memory.free_bytes = std::min(memory.free_bytes, *left);
    if (folder.size() <= groups.size()) return memory;
    folder.resize(folder.rfind('/'));
  }
}

}  // namespace orcd::cpu
