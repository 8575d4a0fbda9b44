#include "engine/prepare.h"

#include <cstdio>

#include "base/error.h"

namespace orcd::engine {
namespace {

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

void check_range(std::vector<Problem>* out, const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return;  // false for NaN
  out->push_back({name, "must be between " + number_text(low) + " and " + number_text(high) + ", got " +
                            number_text(value)});
}

}  // namespace

std::vector<Problem> validate(const sampling::SamplingParams& params, uint32_t max_tokens,
                              uint32_t max_tokens_limit, const std::vector<std::string>& stop,
                              uint32_t n_vocab) {
  std::vector<Problem> out;
  check_range(&out, "max_tokens", max_tokens, 1, max_tokens_limit);
  check_range(&out, "temperature", static_cast<double>(params.temperature), 0, 2);
  check_range(&out, "top_p", static_cast<double>(params.top_p), 0, 1);
  check_range(&out, "top_k", params.top_k, 0, n_vocab);
  check_range(&out, "min_p", static_cast<double>(params.min_p), 0, 1);
  check_range(&out, "repetition_penalty", static_cast<double>(params.repetition_penalty), 0, 2);
  if (stop.size() > kMaxStopStrings) {
    out.push_back({"stop", "must have at most " + std::to_string(kMaxStopStrings) + " strings, got " +
                               std::to_string(stop.size())});
  }
  for (size_t i = 0; i < stop.size(); ++i) {
    if (stop[i].empty()) out.push_back({"stop[" + std::to_string(i) + "]", "must not be empty"});
  }
  return out;
}

void throw_problems(const std::vector<Problem>& problems) {
  if (problems.empty()) return;
  std::string message;
  for (const Problem& problem : problems) {
    if (!message.empty()) message += "; ";
    message += problem.param + " " + problem.message;
  }
  throw Error(ErrorCode::kInvalidRequest, message, {{"param", problems.front().param}});
}

}  // namespace orcd::engine
