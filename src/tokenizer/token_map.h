// Token text -> id: an open-addressed table over texts that live elsewhere; built once, then read by many
// threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace orcd::tokenizer {

class TokenMap {
 public:
  TokenMap() = default;
  // Of equal texts the first id counts. texts must outlive the map.
  explicit TokenMap(std::span<const std::string_view> texts) : texts_(texts) {
    size_t capacity = 16;
    while (capacity < texts.size() * 2) capacity *= 2;
    slots_.assign(capacity, Slot{});
    for (size_t id = 0; id < texts.size(); ++id) {
      const uint32_t hash = hash_of(texts[id]);
      size_t at = hash & (capacity - 1);
      while (slots_[at].id >= 0 && !(slots_[at].hash == hash && texts_[slots_[at].id] == texts[id])) {
        at = (at + 1) & (capacity - 1);
      }
      if (slots_[at].id < 0) slots_[at] = {hash, static_cast<int32_t>(id)};
    }
  }

  // -1 if no token has that text.
  int32_t find(std::string_view text) const {
    if (slots_.empty()) return -1;
    const uint32_t hash = hash_of(text);
    for (size_t at = hash & (slots_.size() - 1); slots_[at].id >= 0; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].hash == hash && texts_[slots_[at].id] == text) return slots_[at].id;
    }
    return -1;
  }

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };
  static uint32_t hash_of(std::string_view text) {
    const uint64_t hash = std::hash<std::string_view>{}(text);
    return static_cast<uint32_t>(hash ^ (hash >> 32));
  }
  std::span<const std::string_view> texts_;
  std::vector<Slot> slots_;  // size is a power of two, at most half full
};

}  // namespace orcd::tokenizer
