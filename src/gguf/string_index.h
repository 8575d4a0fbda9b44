// Text -> number, built once and then read: finds duplicates and answers find() in O(1).
// The hash is keyed per process, so a hostile file cannot be made of keys that collide.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace orcd::gguf {

class StringIndex {
 public:
  // Room for n_expected texts; grows past it. The texts must outlive the index.
  explicit StringIndex(size_t n_expected = 0);

  // Adds text -> index. When an equal text is there already, keeps it and returns its index.
  std::optional<uint32_t> insert(std::string_view text, uint32_t index);
  std::optional<uint32_t> find(std::string_view text) const;
  size_t size() const { return n_used_; }

 private:
  struct Slot {
    const char* data = nullptr;  // nullptr: free
    uint64_t size = 0;
    uint32_t hash = 0;
    uint32_t index = 0;
  };
  size_t probe(std::string_view text, uint32_t hash) const;
  void grow();

  std::vector<Slot> slots_;  // a power of two, at most half used
  size_t n_used_ = 0;
};

}  // namespace orcd::gguf
