#include "engine/request_limits.h"

namespace orcd::engine {

std::string stop_problem(const tokenizer::Tokenizer& tokenizer, std::string_view text) {
  if (text.empty()) return "must not be empty";
  const size_t tokens = tokenizer.encode(text, {.add_bos = false, .parse_special = true}).size();
  if (tokens <= kMaxStopTokens) return {};
  return "must have at most " + std::to_string(kMaxStopTokens) + " tokens, got " + std::to_string(tokens);
}

std::string stop_count_problem(size_t n) {
  if (n <= kMaxStopStrings) return {};
  return "must have at most " + std::to_string(kMaxStopStrings) + " strings, got " + std::to_string(n);
}

}  // namespace orcd::engine
