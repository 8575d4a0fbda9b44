#include "kv/block_table.h"

#include <utility>

#include "base/error.h"

namespace orcd::kv {

BlockTable::BlockTable(BlockTable&& other) noexcept
    : pool_(other.pool_),
      pages_(std::exchange(other.pages_, {})),
      n_keyed_(std::exchange(other.n_keyed_, 0)),
      last_key_(std::exchange(other.last_key_, {})) {}

BlockTable& BlockTable::operator=(BlockTable&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(pages_, other.pages_);
  std::swap(n_keyed_, other.n_keyed_);
  std::swap(last_key_, other.last_key_);
  return *this;
}

uint32_t BlockTable::adopt_prefix(std::span<const int32_t> tokens) {
  if (!pages_.empty()) throw Error(ErrorCode::kInternal, "a prefix is adopted by an empty block table only");
  while (capacity() + kPagePositions < tokens.size()) {
    const PageKey key = next_key(last_key_, tokens.subspan(capacity(), kPagePositions));
    const auto page = pool_->find(key);
    if (!page) break;
    pages_.push_back(*page);
    last_key_ = key;
    ++n_keyed_;
  }
  return static_cast<uint32_t>(capacity());
}

bool BlockTable::grow(uint64_t n_positions) {
  const uint64_t wanted = pages_for(n_positions);
  if (wanted <= pages_.size()) return true;
  if (wanted - pages_.size() > pool_->n_available()) return false;
  pages_.reserve(wanted);
  while (pages_.size() < wanted) pages_.push_back(*pool_->allocate());
  return true;
}

void BlockTable::publish(std::span<const int32_t> tokens) {
  const uint64_t n_full = tokens.size() / kPagePositions;
  if (n_full > pages_.size()) throw Error(ErrorCode::kInternal, "publishing positions that have no page");
  while (n_keyed_ < n_full) {
    const uint64_t begin = uint64_t{n_keyed_} * kPagePositions;
    last_key_ = next_key(last_key_, tokens.subspan(begin, kPagePositions));
    pool_->publish(pages_[n_keyed_], last_key_);
    ++n_keyed_;
  }
}

void BlockTable::clear() {
  while (!pages_.empty()) {
    pool_->release(pages_.back());
    pages_.pop_back();
  }
  n_keyed_ = 0;
  last_key_ = {};
}

}  // namespace orcd::kv
