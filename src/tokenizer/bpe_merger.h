// The merge loop of byte-pair encoding over ids: the pair of lowest rank first, of equal ones the leftmost.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace orcd::tokenizer {

// Pair of ids -> rank and merged id: an open-addressed table, built once, then read by many threads.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;
    int32_t id;  // -1: the pair does not merge
  };
  explicit MergeTable(size_t n_merges);
  void add(int32_t left, int32_t right,
           Merge merge);  // of equal pairs the last counts, as the reference has it
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t pair;
    Merge merge;
  };
  static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
  }
  size_t slot_of(uint64_t pair) const;  // where the pair is, or would be
  std::vector<Slot> slots_;             // size is a power of two, at most half full
};

// Merges `symbols` in place as far as the table allows and returns how many remain at its front.
// Short words by repeated search, long ones with a heap: O(n log n). Both give the same result.
size_t merge_symbols(const MergeTable& table, std::span<int32_t> symbols);

}  // namespace orcd::tokenizer
