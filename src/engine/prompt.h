// Text of a ready-made prompt to the ids that a request starts with.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace orcd::engine {

// Special tokens written in the text (chat markers) become their ids but for those around `guards`, and BOS
// is prepended if the vocabulary says so; one that the text begins with already is not doubled.
inline std::vector<int32_t> encode_prompt(const tokenizer::Tokenizer& tokenizer, std::string_view text,
                                          std::span<const size_t> guards = {}) {
  std::vector<int32_t> ids =
      tokenizer.encode(text, {.add_bos = true, .parse_special = true, .guards = guards});
  if (ids.size() >= 2 && tokenizer.adds_bos() && ids[0] == tokenizer.bos_id() && ids[1] == ids[0])
    ids.erase(ids.begin());
  return ids;
}

}  // namespace orcd::engine
