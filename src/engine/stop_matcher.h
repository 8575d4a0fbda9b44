// Finds stop strings in streamed text and holds back only what may still become one.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace orcd::engine {

// The match that ends first wins; of those that end together, the one that starts first. So the result does
// not depend on how the text is cut into pieces.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // empty strings are ignored

  // Appends text; returns what can be released. After a match: the text before it, and matched() is set.
  std::string push(std::string_view piece);
  // What was held back, when generation ends without a match.
  std::string finish();
  bool holds_back() const { return !held_.empty(); }
  std::optional<size_t> matched() const { return matched_; }  // index into the list given
  const std::string& matched_text() const { return stops_[*matched_]; }

 private:
  size_t held_length() const;
  std::vector<std::string> stops_;
  std::string held_;
  std::optional<size_t> matched_;
};

}  // namespace orcd::engine
