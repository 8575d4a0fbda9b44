// What a request may ask for (docs/WIRE.md), for every face that takes requests.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "tokenizer/tokenizer.h"

namespace orcd::engine {

struct Range {
  double low, high;
};
inline constexpr Range kTemperatureRange{0, 2}, kTopPRange{0, 1}, kMinPRange{0, 1}, kPenaltyRange{0, 2};
inline constexpr size_t kMaxStopStrings = 4;
inline constexpr size_t kMaxStopTokens = 32;

// What is wrong with a stop string, as "must ..."; "" if nothing is.
std::string stop_problem(const tokenizer::Tokenizer& tokenizer, std::string_view text);
// The same of their number.
std::string stop_count_problem(size_t n);

struct FieldProblem {
  std::string field, problem;  // "top_k", "must be between 0 and 49152, got 50000"
};

// Everything that is wrong with what a request asks for, prompt aside: max_tokens, sampling, stop.
std::vector<FieldProblem> request_problems(const tokenizer::Tokenizer& tokenizer, const Request& request);

}  // namespace orcd::engine
