// The pages of the KV cache: which are free, who holds them, and which still hold a known prefix.
// One pool serves all layers: a page id names the same page in each. Not thread-safe: the engine thread's.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kv/layout.h"

namespace orcd::kv {

using PageId = uint32_t;

// Names the contents of a full page: the chained SHA-256 of every token id from position 0 to the page's end.
// Cryptographic, so that no prompt can be made to hit another one's pages.
struct PageKey {
  std::array<uint8_t, 32> digest{};  // all zeros: the empty prefix
  bool operator==(const PageKey&) const = default;
};

// The key of the page that follows `parent` and holds these tokens. REQUIRES tokens.size() == kPagePositions.
PageKey next_key(const PageKey& parent, std::span<const int32_t> tokens);

// A page is in use (references > 0), cached (none, but found by its key), or free. Nothing is allocated after
// construction. Misuse (a bad id, releasing what nobody holds) throws Error(kInternal).
class PagePool {
 public:
  explicit PagePool(uint32_t n_pages);

  // A page with one reference: a free one, else the least recently used cached one, whose contents are
  // forgotten. nullopt when every page is in use.
  std::optional<PageId> allocate();
  void retain(PageId page);
  // Drops a reference. The last one makes the page cached if it was published, else free.
  void release(PageId page);

  // Lets others find a page whose last position has been written. false when another page already has this
  // key (the caller's stays private) or the page has one. REQUIRES a reference.
  bool publish(PageId page, const PageKey& key);
  // The page that holds this prefix, with one more reference.
  std::optional<PageId> find(const PageKey& key);
  // Forgets every cached page, and the keys of those in use.
  void forget_all();

  uint32_t n_pages() const { return static_cast<uint32_t>(pages_.size()); }
  uint32_t n_available() const { return n_free_ + n_cached_; }  // allocate() succeeds this many times
  uint32_t n_free() const { return n_free_; }
  uint32_t n_cached() const { return n_cached_; }
  uint32_t n_in_use() const { return n_pages() - n_available(); }
  uint32_t references(PageId page) const { return at(page).references; }

 private:
  static constexpr PageId kNone = ~PageId{0};
  struct Page {
    uint32_t references = 0;
    bool published = false;
    PageId previous = kNone, next = kNone;  // in the free list (next only) or the cached list
    PageKey key;
  };
  struct KeyHash {
    size_t operator()(const PageKey& key) const;
  };

  const Page& at(PageId page) const;
  Page& at(PageId page) { return const_cast<Page&>(std::as_const(*this).at(page)); }
  void unlink_cached(PageId page);
  void push_free(PageId page);

  std::vector<Page> pages_;
  std::unordered_map<PageKey, PageId, KeyHash> by_key_;
  PageId free_head_ = kNone;
  PageId oldest_ = kNone, newest_ = kNone;  // of the cached pages, by the time of their last release
  uint32_t n_free_ = 0, n_cached_ = 0;
};

}  // namespace orcd::kv
