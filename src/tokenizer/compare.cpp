#include "tokenizer/compare.h"

#include <algorithm>

#include "tokenizer/conformance.h"

namespace orcd::tokenizer {

std::optional<Difference> first_difference(const Tokenizer& first, const Tokenizer& second) {
  constexpr EncodeOptions kOptions{.add_bos = false, .parse_special = false};
  for (const ConformanceVector& vector : conformance_vectors("gpt-2")) {
    const std::vector<int32_t> a = first.encode(vector.text, kOptions);
    const std::vector<int32_t> b = second.encode(vector.text, kOptions);
    const auto [in_a, in_b] = std::ranges::mismatch(a, b);
    if (in_a == a.end() && in_b == b.end()) continue;
    return Difference{std::string(vector.text), static_cast<size_t>(in_a - a.begin()),
                      in_a == a.end() ? -1 : *in_a, in_b == b.end() ? -1 : *in_b};
  }
  return std::nullopt;
}

}  // namespace orcd::tokenizer
