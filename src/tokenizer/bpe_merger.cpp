#include "tokenizer/bpe_merger.h"

#include <algorithm>
#include <limits>

#include "tokenizer/candidate_queue.h"

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

// A symbol in a linked list over positions: a merged one stays at its left part's place.
struct Node {
  int32_t id;  // -1: merged into another
  uint32_t previous;
  uint32_t next;
};

size_t merge_long(const MergeTable& table, std::span<int32_t> symbols) {
  constexpr uint32_t kEnd = std::numeric_limits<uint32_t>::max();
  const uint32_t n = static_cast<uint32_t>(symbols.size());
  std::vector<Node> nodes(n);
  for (uint32_t i = 0; i < n; ++i) nodes[i] = {symbols[i], i > 0 ? i - 1 : kEnd, i + 1 < n ? i + 1 : kEnd};
  Candidate item;
  const auto candidate = [&](uint32_t at) {
    const int32_t left = nodes[at].id;
    const int32_t right = nodes[nodes[at].next].id;
    const Merge merge = table.find(left, right);
    if (merge.id < 0) return false;
    item = {(uint64_t{merge.rank} << 32) | at, left, right, merge.id};
    return true;
  };
  std::vector<Candidate> initial;
  initial.reserve(n);
  for (uint32_t i = 0; i + 1 < n; ++i) {
    if (candidate(i)) initial.push_back(item);
  }
  CandidateQueue<Candidate> queue(std::move(initial));
  Candidate top;
  while (queue.pop(top)) {
    const uint32_t at = static_cast<uint32_t>(top.key);
    Node& node = nodes[at];
    // Overtaken by another merge: the left symbol changed or is gone, or its neighbour did.
    if (node.id != top.left || node.next == kEnd || nodes[node.next].id != top.right) continue;
    Node& gone = nodes[node.next];
    node.id = top.merged;
    node.next = gone.next;
    gone.id = -1;
    if (node.next != kEnd) {
      nodes[node.next].previous = at;
      if (candidate(at)) queue.push(item);
    }
    if (node.previous != kEnd && candidate(node.previous)) queue.push(item);
  }
  size_t kept = 0;
  for (uint32_t at = 0; at != kEnd; at = nodes[at].next) symbols[kept++] = nodes[at].id;
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
