// The memory plan: every byte a model will take on its device, known before anything is loaded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace orcd::memory {

enum class Category { kWeights, kKv, kActivations, kSampling, kStaging, kGraphs };
inline constexpr int kCategoryCount = 6;
std::string_view category_name(Category category);  // "weights", "kv", ...

inline constexpr uint64_t kItemAlignment = 256;

struct PlanItem {
  std::string name;  // "blk.0.attn_q.weight", "kv.layer.0", ...
  Category category;
  uint64_t bytes;   // what the item needs
  uint64_t offset;  // in its category's arena; a multiple of kItemAlignment
};

// Pinned host memory that a device's copies need: no part of the arenas and their sum, but taken and counted
// like them.
struct HostItem {
  std::string name;
  uint64_t bytes;
  bool until_ready;  // freed when the weights are loaded
};

// One arena per category; an arena's size is the end of its last item rounded up to kItemAlignment.
class Plan {
 public:
  // Appends an item to its category's arena; returns its index. Throws Error(kInsufficientVram) on overflow
  // of 64 bits.
  uint32_t add(std::string name, Category category, uint64_t bytes);

  const std::vector<PlanItem>& items() const { return items_; }
  uint64_t arena_bytes(Category category) const { return arena_bytes_[static_cast<int>(category)]; }
  uint64_t total_bytes() const;  // of all arenas: exactly what the device allocator is asked for

  void add_host(std::string name, uint64_t bytes, bool until_ready = false);
  const std::vector<HostItem>& host_items() const { return host_items_; }
  uint64_t host_bytes() const;       // at ready
  uint64_t host_peak_bytes() const;  // while loading

 private:
  std::vector<PlanItem> items_;
  std::vector<HostItem> host_items_;
  uint64_t arena_bytes_[kCategoryCount] = {};
};

}  // namespace orcd::memory
