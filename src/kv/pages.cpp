#include "kv/pages.h"

#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/sha256.h"

namespace orcd::kv {
namespace {

[[noreturn]] void misuse(const char* what, PageId page) {
  throw Error(ErrorCode::kInternal, what, {{"page", uint64_t{page}}});
}

}  // namespace

PageKey next_key(const PageKey& parent, std::span<const int32_t> tokens) {
  if (tokens.size() != kPagePositions) {
    throw Error(ErrorCode::kInternal, "a page key needs a full page of tokens",
                {{"tokens", uint64_t{tokens.size()}}});
  }
  uint8_t bytes[kPagePositions * 4];
  for (size_t i = 0; i < tokens.size(); ++i) {
    const uint32_t id = static_cast<uint32_t>(tokens[i]);
    for (int b = 0; b < 4; ++b) bytes[4 * i + static_cast<size_t>(b)] = static_cast<uint8_t>(id >> (8 * b));
  }
  Sha256 hash;
  hash.update(parent.digest);
  hash.update(bytes);
  return {hash.finish()};
}

size_t PagePool::KeyHash::operator()(const PageKey& key) const {
  size_t word;
  std::memcpy(&word, key.digest.data(), sizeof word);
  return word;
}

PagePool::PagePool(uint32_t n_pages) : pages_(n_pages) {
  by_key_.reserve(n_pages);
  for (PageId page = n_pages; page-- > 0;) push_free(page);  // page 0 is handed out first
}

const PagePool::Page& PagePool::at(PageId page) const {
  if (page >= pages_.size()) misuse("no such KV page", page);
  return pages_[page];
}

void PagePool::push_free(PageId page) {
  pages_[page].next = free_head_;
  free_head_ = page;
  ++n_free_;
}

void PagePool::unlink_cached(PageId page) {
  Page& p = pages_[page];
  (p.previous == kNone ? oldest_ : pages_[p.previous].next) = p.next;
  (p.next == kNone ? newest_ : pages_[p.next].previous) = p.previous;
  p.previous = p.next = kNone;
  --n_cached_;
}

std::optional<PageId> PagePool::allocate() {
  PageId page = free_head_;
  if (page != kNone) {
    free_head_ = pages_[page].next;
    pages_[page].next = kNone;
    --n_free_;
  } else if (oldest_ != kNone) {
    page = oldest_;
    unlink_cached(page);
    by_key_.erase(pages_[page].key);
    pages_[page].published = false;
  } else {
    return std::nullopt;
  }
  pages_[page].references = 1;
  return page;
}

void PagePool::retain(PageId page) {
  Page& p = at(page);
  if (p.references == 0) misuse("retaining a KV page that nobody holds", page);
  ++p.references;
}

void PagePool::release(PageId page) {
  Page& p = at(page);
  if (p.references == 0) misuse("releasing a KV page that nobody holds", page);
  if (--p.references > 0) return;
  if (!p.published) {
    push_free(page);
    return;
  }
  p.previous = newest_;
  (newest_ == kNone ? oldest_ : pages_[newest_].next) = page;
  newest_ = page;
  ++n_cached_;
}

bool PagePool::publish(PageId page, const PageKey& key) {
  Page& p = at(page);
  if (p.references == 0) misuse("publishing a KV page that nobody holds", page);
  if (p.published || !by_key_.emplace(key, page).second) return false;
  p.published = true;
  p.key = key;
  return true;
}

std::optional<PageId> PagePool::find(const PageKey& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  const PageId page = found->second;
  if (pages_[page].references++ == 0) unlink_cached(page);
  return page;
}

void PagePool::forget_all() {
  by_key_.clear();
  for (Page& p : pages_) p.published = false;
  while (oldest_ != kNone) {
    const PageId page = oldest_;
    unlink_cached(page);
    push_free(page);
  }
}

}  // namespace orcd::kv
