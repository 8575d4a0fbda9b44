#include "memory/plan.h"

#include "base/error.h"
#include "base/units.h"

namespace orcd::memory {

std::string_view category_name(Category category) {
  static constexpr std::string_view kNames[kCategoryCount] = {"weights",  "kv",      "activations",
                                                              "sampling", "staging", "graphs"};
  return kNames[static_cast<int>(category)];
}

uint32_t Plan::add(std::string name, Category category, uint64_t bytes) {
  uint64_t& arena = arena_bytes_[static_cast<int>(category)];
  const uint64_t offset = arena;  // always a multiple of the alignment
  const auto end = checked_add(offset, bytes);
  const auto padded = end ? checked_add(*end, kItemAlignment - 1) : std::nullopt;
  // The total is checked here too, so that total_bytes() never wraps.
  if (!padded || !checked_add(total_bytes() - arena, align_up(*end, kItemAlignment))) {
    throw Error(ErrorCode::kInsufficientVram, "the memory plan does not fit in 64 bits",
                {{"item", name}, {"bytes", bytes}, {"category", std::string(category_name(category))}});
  }
  arena = align_up(*end, kItemAlignment);
  items_.push_back({std::move(name), category, bytes, offset});
  return static_cast<uint32_t>(items_.size() - 1);
}

uint64_t Plan::total_bytes() const {
  uint64_t total = 0;
  for (const uint64_t bytes : arena_bytes_) total += bytes;
  return total;
}

void Plan::add_host(std::string name, uint64_t bytes, bool until_ready) {
  host_items_.push_back({std::move(name), bytes, until_ready});
}

uint64_t Plan::host_bytes() const {
  uint64_t total = 0;
  for (const HostItem& item : host_items_) total += item.until_ready ? 0 : item.bytes;
  return total;
}

uint64_t Plan::host_peak_bytes() const {
  uint64_t total = 0;
  for (const HostItem& item : host_items_) total += item.bytes;
  return total;
}

}  // namespace orcd::memory
