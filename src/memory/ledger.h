// The ledger: what the device allocator has handed out, by category. plan == ledger == allocated at ready,
// always.
#pragma once

#include <atomic>
#include <cstdint>

#include "memory/plan.h"

namespace orcd::memory {

// Thread-safe counters; written by whoever calls the device's allocate and free, read by /health and the
// tests.
class Ledger {
 public:
  void allocated(Category category, uint64_t bytes);
  void freed(Category category, uint64_t bytes);
  uint64_t bytes(Category category) const { return bytes_[static_cast<int>(category)].load(); }
  uint64_t total_bytes() const;  // on the device
  // Pinned host memory beside it (Plan::host_items).
  void host_allocated(uint64_t bytes);
  void host_freed(uint64_t bytes);
  uint64_t host_bytes() const { return host_bytes_.load(); }
  uint64_t n_allocations() const { return n_allocations_.load(); }  // ever made; constant after ready
  // Of all ledgers of this process together, those that are gone too: what was allocated and never freed.
  static uint64_t process_bytes();
  static uint64_t process_host_bytes();

 private:
  std::atomic<uint64_t> bytes_[kCategoryCount] = {};
  std::atomic<uint64_t> host_bytes_ = 0;
  std::atomic<uint64_t> n_allocations_ = 0;
};

}  // namespace orcd::memory
