#include "memory/ledger.h"

#include <string>

#include "base/error.h"

namespace orcd::memory {

namespace {

void take_back(std::atomic<uint64_t>& counter, uint64_t bytes, std::string_view what) {
  uint64_t held = counter.load();
  do {
    if (held < bytes) {
      throw Error(ErrorCode::kInternal, "more bytes freed than were allocated",
                  {{"category", std::string(what)}, {"freed", bytes}, {"held", held}});
    }
  } while (!counter.compare_exchange_weak(held, held - bytes));
}

}  // namespace

void Ledger::allocated(Category category, uint64_t bytes) {
  bytes_[static_cast<int>(category)] += bytes;
  ++n_allocations_;
}

void Ledger::freed(Category category, uint64_t bytes) {
  take_back(bytes_[static_cast<int>(category)], bytes, category_name(category));
}

void Ledger::host_allocated(uint64_t bytes) {
  host_bytes_ += bytes;
  ++n_allocations_;
}

void Ledger::host_freed(uint64_t bytes) { take_back(host_bytes_, bytes, "pinned host memory"); }

uint64_t Ledger::total_bytes() const {
  uint64_t total = 0;
  for (const auto& bytes : bytes_) total += bytes.load();
  return total;
}

}  // namespace orcd::memory
