#include "memory/ledger.h"

#include <string>

#include "base/error.h"

namespace orcd::memory {

void Ledger::allocated(Category category, uint64_t bytes) {
  bytes_[static_cast<int>(category)] += bytes;
  ++n_allocations_;
}

void Ledger::freed(Category category, uint64_t bytes) {
  std::atomic<uint64_t>& counter = bytes_[static_cast<int>(category)];
  uint64_t held = counter.load();
  do {
    if (held < bytes) {
      throw Error(ErrorCode::kInternal, "more bytes freed than were allocated",
                  {{"category", std::string(category_name(category))}, {"freed", bytes}, {"held", held}});
    }
  } while (!counter.compare_exchange_weak(held, held - bytes));
}

uint64_t Ledger::total_bytes() const {
  uint64_t total = 0;
  for (const auto& bytes : bytes_) total += bytes.load();
  return total;
}

}  // namespace orcd::memory
