// Two tokenizers that should be the same: where they are not.
#pragma once

#include <optional>
#include <string>

#include "tokenizer/tokenizer.h"

namespace orcd::tokenizer {

struct Difference {
  std::string text;       // a probe text (conformance.h)
  size_t position;        // of the first id that differs
  int32_t first, second;  // the ids there, -1 behind the end
};
// The first probe text that the two make different ids of.
std::optional<Difference> first_difference(const Tokenizer& first, const Tokenizer& second);

}  // namespace orcd::tokenizer
