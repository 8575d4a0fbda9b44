#include "memory/ledger.h"

#include <string>

#include "base/error.h"

namespace orcd::memory {

namespace {

std::atomic<uint64_t> process_total = 0, process_host_total = 0;

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
  process_total += bytes;
  ++n_allocations_;
}

void Ledger::freed(Category category, uint64_t bytes) {
  take_back(bytes_[static_cast<int>(category)], bytes, category_name(category));
  process_total -= bytes;
}

void Ledger::host_allocated(uint64_t bytes) {
  host_bytes_ += bytes;
  process_host_total += bytes;
  ++n_allocations_;
}

void Ledger::host_freed(uint64_t bytes) {
  take_back(host_bytes_, bytes, "pinned host memory");
  process_host_total -= bytes;
}

uint64_t Ledger::process_bytes() { return process_total; }
uint64_t Ledger::process_host_bytes() { return process_host_total; }

uint64_t Ledger::total_bytes() const {
  uint64_t total = 0;
  for (const auto& bytes : bytes_) total += bytes.load();
  return total;
}

}  // namespace orcd::memory
