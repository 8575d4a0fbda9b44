// Finds tokens that are matched in the text itself, before any other step: leftmost first, of those the
// longest.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace orcd::tokenizer {

// A trie of bytes. Immutable once filled, so safe to share between threads.
class SpecialMatcher {
 public:
  struct Match {
    size_t offset = 0;
    size_t n_bytes = 0;  // 0: no match
    int32_t id = -1;
  };

  // What an added token of a tokenizer.json asks of its surroundings.
  struct Rules {
    bool single_word = false;  // matched only where no word character stands before or behind it
    bool takes_left = false, takes_right = false;  // the white space beside it belongs to the match
    bool any() const { return single_word || takes_left || takes_right; }
  };

  SpecialMatcher();
  // An empty text is ignored; of equal texts the first counts.
  void add(std::string_view text, int32_t id) { add(text, id, Rules()); }
  void add(std::string_view text, int32_t id, const Rules& rules);
  // The leftmost longest match at or after `from`.
  Match find(std::string_view text, size_t from) const;
  bool empty() const { return nodes_.size() == 1; }
  // Whether some added text begins with `text` and is longer. REQUIRES !text.empty().
  bool is_beginning(std::string_view text) const;
  size_t max_bytes() const { return max_bytes_; }  // of the longest text added

 private:
  struct Node {
    int32_t id = -1;  // of the token that ends here
    uint32_t first_child = 0;
    uint32_t next_sibling = 0;
    uint8_t byte = 0;
  };
  Match find_plain(std::string_view text, size_t from) const;
  uint32_t child(uint32_t node, uint8_t byte) const;  // 0 if there is none

  std::vector<Node> nodes_;            // nodes_[0] is the root
  std::array<uint32_t, 256> roots_{};  // the root's children by byte
  size_t max_bytes_ = 0;
  std::unordered_map<int32_t, Rules> rules_;  // of the tokens that have any
};

}  // namespace orcd::tokenizer
