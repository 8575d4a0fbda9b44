// How much memory the system has, and how much of it this process may still take.
#pragma once

#include <cstdint>
#include <string>

namespace orcd::cpu {

struct HostMemory {
  uint64_t total_bytes, free_bytes;
};

// What the kernel says is available, and no more than what each control group (v2) that the process is in
// leaves. Of a group's use the page cache that is easily given back does not count: reading a model file
// fills it. root: before /proc and /sys, for tests. Throws Error(kInternal) if the kernel does not say.
HostMemory host_memory(const std::string& root = "");

}  // namespace orcd::cpu
