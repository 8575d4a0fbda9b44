#include "tokenizer/bpe_merger.h"

#include <algorithm>
#include <limits>
#include <queue>

namespace orcd::tokenizer {
namespace {

constexpr uint64_t kNoPair = std::numeric_limits<uint64_t>::max();
constexpr size_t kShortWord = 24;
using Merge = MergeTable::Merge;

size_t merge_short(const MergeTable& table, std::span<int32_t> symbols) {
  size_t n = symbols.size();
  Merge merges[kShortWord];  // merges[i] is that of symbols i and i + 1
  for (size_t i = 0; i + 1 < n; ++i) merges[i] = table.find(symbols[i], symbols[i + 1]);
  while (n > 1) {
    size_t best = n;
    for (size_t i = 0; i + 1 < n; ++i) {
      if (merges[i].id >= 0 && (best == n || merges[i].rank < merges[best].rank)) best = i;
    }
    if (best == n) break;
    symbols[best] = merges[best].id;
    for (size_t i = best + 1; i + 1 < n; ++i) {
      symbols[i] = symbols[i + 1];
      merges[i] = merges[i + 1];
    }
    --n;
    if (best > 0) merges[best - 1] = table.find(symbols[best - 1], symbols[best]);
    if (best + 1 < n) merges[best] = table.find(symbols[best], symbols[best + 1]);
  }
  return n;
}

struct Candidate {
  uint64_t key;  // rank << 32 | position of the left symbol
  int32_t left;
  int32_t right;
  int32_t merged;
  bool operator>(const Candidate& other) const { return key > other.key; }
};

size_t merge_long(const MergeTable& table, std::span<int32_t> symbols) {
  constexpr uint32_t kEnd = std::numeric_limits<uint32_t>::max();
  const uint32_t n = static_cast<uint32_t>(symbols.size());
  // A linked list over positions: a merged symbol stays at its left part's place.
  std::vector<uint32_t> next(n);
  std::vector<uint32_t> previous(n);
  for (uint32_t i = 0; i < n; ++i) {
    next[i] = i + 1 < n ? i + 1 : kEnd;
    previous[i] = i > 0 ? i - 1 : kEnd;
  }
  const auto candidate = [&](uint32_t at, Candidate& out) {
    const Merge merge = table.find(symbols[at], symbols[next[at]]);
    if (merge.id < 0) return false;
    out = {(uint64_t{merge.rank} << 32) | at, symbols[at], symbols[next[at]], merge.id};
    return true;
  };
  std::vector<Candidate> initial;
  Candidate item;
  for (uint32_t i = 0; i + 1 < n; ++i) {
    if (candidate(i, item)) initial.push_back(item);
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(),
                                                                               std::move(initial));
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const uint32_t at = static_cast<uint32_t>(top.key);
    // Overtaken by another merge: the left symbol changed or is gone (-1), or its neighbour did.
    if (symbols[at] != top.left || next[at] == kEnd || symbols[next[at]] != top.right) continue;
    const uint32_t gone = next[at];
    symbols[at] = top.merged;
    symbols[gone] = -1;
    next[at] = next[gone];
    if (next[at] != kEnd) {
      previous[next[at]] = at;
      if (candidate(at, item)) queue.push(item);
    }
    if (previous[at] != kEnd && candidate(previous[at], item)) queue.push(item);
  }
  size_t kept = 0;
  for (uint32_t at = 0; at != kEnd; at = next[at]) symbols[kept++] = symbols[at];
  return kept;
}

}  // namespace

MergeTable::MergeTable(size_t n_merges) {
  size_t capacity = 16;
  while (capacity < n_merges * 2) capacity *= 2;
  slots_.assign(capacity, {kNoPair, {0, -1}});
}

size_t MergeTable::slot_of(uint64_t pair) const {
  uint64_t hash = pair * 0x9E3779B97F4A7C15u;
  hash ^= hash >> 32;
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at].pair != kNoPair && slots_[at].pair != pair) at = (at + 1) & (slots_.size() - 1);
  return at;
}

void MergeTable::add(int32_t left, int32_t right, Merge merge) {
  const uint64_t pair = pair_of(left, right);
  slots_[slot_of(pair)] = {pair, merge};
}

MergeTable::Merge MergeTable::find(int32_t left, int32_t right) const {
  return slots_[slot_of(pair_of(left, right))].merge;
}

size_t merge_symbols(const MergeTable& table, std::span<int32_t> symbols) {
  if (symbols.size() < 2) return symbols.size();
  return symbols.size() <= kShortWord ? merge_short(table, symbols) : merge_long(table, symbols);
}

}  // namespace orcd::tokenizer
