#include "tokenizer/special_matcher.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace orcd::tokenizer {
namespace {

bool begins_with_word(std::string_view text) {
  if (text.empty()) return false;
  const Utf8Char c = decode_utf8(text);
  return c.status == Utf8Status::kValid && is_word(c.code_point);
}

// The offset of the last character. REQUIRES !text.empty().
size_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && text.size() - at < 4 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

bool ends_in_word(std::string_view text) {
  return !text.empty() && begins_with_word(text.substr(last_character(text)));
}

bool begins_with_blank(std::string_view text) {
  const Utf8Char c = decode_utf8(text);
  return c.status == Utf8Status::kValid && is_white_space(c.code_point);
}

// Bytes of white space at the front, and at the end.
size_t blanks_at(std::string_view text) {
  size_t n = 0;
  while (n < text.size() && begins_with_blank(text.substr(n))) n += decode_utf8(text.substr(n)).n_bytes;
  return n;
}
size_t blanks_before(std::string_view text) {
  const size_t n_bytes = text.size();
  while (!text.empty() && begins_with_blank(text.substr(last_character(text))))
    text.remove_suffix(text.size() - last_character(text));
  return n_bytes - text.size();
}

}  // namespace

SpecialMatcher::SpecialMatcher() : nodes_(1) {}

uint32_t SpecialMatcher::child(uint32_t node, uint8_t byte) const {
  if (node == 0) return roots_[byte];
  uint32_t at = nodes_[node].first_child;
  while (at != 0 && nodes_[at].byte != byte) at = nodes_[at].next_sibling;
  return at;
}

void SpecialMatcher::add(std::string_view text, int32_t id, const Rules& rules) {
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
  if (nodes_[node].id >= 0) return;
  nodes_[node].id = id;
  if (rules.any()) rules_[id] = rules;
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
  Match match = find_plain(text, from);
  if (rules_.empty()) return match;
  for (; match.n_bytes != 0; match = find_plain(text, match.offset + match.n_bytes)) {
    const auto rules = rules_.find(match.id);
    if (rules == rules_.end()) break;
    const size_t end = match.offset + match.n_bytes;
    if (rules->second.single_word &&
        (ends_in_word(text.substr(0, match.offset)) || begins_with_word(text.substr(end))))
      continue;
    const size_t left = rules->second.takes_left ? blanks_before(text.substr(from, match.offset - from)) : 0;
    const size_t right = rules->second.takes_right ? blanks_at(text.substr(end)) : 0;
    return {match.offset - left, left + match.n_bytes + right, match.id};
  }
  return match;
}

SpecialMatcher::Match SpecialMatcher::find_plain(std::string_view text, size_t from) const {
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
