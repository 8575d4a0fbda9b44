// Checks a request's parameters all at once, for the faces that do not come with a schema of their own
// (command line, C ABI). The limits are those of docs/WIRE.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sampling/params.h"

namespace orcd::engine {

struct Problem {
  std::string param;    // "top_p", "stop[1]"
  std::string message;  // "must be between 0 and 1, got 1.5"
};

inline constexpr size_t kMaxStopStrings = 4;

// Empty when all is well. n_vocab: the upper limit of top_k. max_tokens_limit: --max-tokens-out.
std::vector<Problem> validate(const sampling::SamplingParams& params, uint32_t max_tokens,
                              uint32_t max_tokens_limit, const std::vector<std::string>& stop,
                              uint32_t n_vocab);

// Throws INVALID_REQUEST that names every problem; nothing if there is none.
void throw_problems(const std::vector<Problem>& problems);

}  // namespace orcd::engine
