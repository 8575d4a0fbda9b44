#include "tokenizer/special_matcher.h"

#include <algorithm>

namespace orcd::tokenizer {

SpecialMatcher::SpecialMatcher() : nodes_(1) {}

uint32_t SpecialMatcher::child(uint32_t node, uint8_t byte) const {
  if (node == 0) return roots_[byte];
  uint32_t at = nodes_[node].first_child;
  while (at != 0 && nodes_[at].byte != byte) at = nodes_[at].next_sibling;
  return at;
}

void SpecialMatcher::add(std::string_view text, int32_t id) {
  if (text.empty()) return;
  uint32_t node = 0;
  for (const char c : text) {
    const uint8_t byte = static_cast<uint8_t>(c);
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_.push_back({-1, 0, node == 0 ? 0 : nodes_[node].first_child, byte});
      if (node == 0) {
        roots_[byte] = next;
      } else {
        nodes_[node].first_child = next;
      }
    }
    node = next;
  }
  if (nodes_[node].id < 0) nodes_[node].id = id;
  max_bytes_ = std::max(max_bytes_, text.size());
}

bool SpecialMatcher::is_beginning(std::string_view text) const {
  uint32_t node = 0;
  for (const char c : text) {
    node = child(node, static_cast<uint8_t>(c));
    if (node == 0) return false;
  }
  return nodes_[node].first_child != 0;
}

SpecialMatcher::Match SpecialMatcher::find(std::string_view text, size_t from) const {
  if (empty()) return {};
  for (size_t start = from; start < text.size(); ++start) {
    uint32_t node = roots_[static_cast<uint8_t>(text[start])];
    if (node == 0) continue;
    Match best;
    for (size_t at = start + 1;; ++at) {
      if (nodes_[node].id >= 0) best = {start, at - start, nodes_[node].id};
      if (at == text.size()) break;
      node = child(node, static_cast<uint8_t>(text[at]));
      if (node == 0) break;
    }
    if (best.n_bytes != 0) return best;
  }
  return {};
}

}  // namespace orcd::tokenizer
