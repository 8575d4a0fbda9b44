// The pages of one sequence, in order of position. Holds a reference to each; gives them back when it dies.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kv/pages.h"

namespace orcd::kv {

class BlockTable {
 public:
  // The pool must outlive the table.
  explicit BlockTable(PagePool& pool) : pool_(&pool) {}
  BlockTable(BlockTable&& other) noexcept;
  BlockTable& operator=(BlockTable&& other) noexcept;
  ~BlockTable() { clear(); }

  // Takes the longest cached prefix of `tokens`, whole pages only, and never all of the tokens: the last one
  // must be computed for its logits. Returns the positions covered. REQUIRES an empty table.
  uint32_t adopt_prefix(std::span<const int32_t> tokens);
  // Takes pages until positions 0 .. n_positions - 1 are covered. All or nothing: false changes nothing.
  bool grow(uint64_t n_positions);
  // Lets others find the full pages among the first tokens.size() positions. `tokens`: those of this
  // sequence from position 0, all written to the cache.
  void publish(std::span<const int32_t> tokens);
  // Gives every page back, the last position first, so that a prefix outlives what follows it.
  void clear();

  std::span<const PageId> pages() const { return pages_; }
  uint64_t capacity() const { return uint64_t{kPagePositions} * pages_.size(); }  // positions

 private:
  PagePool* pool_;
  std::vector<PageId> pages_;
  uint32_t n_keyed_ = 0;  // pages whose key is part of last_key_
  PageKey last_key_;
};

}  // namespace orcd::kv
