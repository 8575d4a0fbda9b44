#include "engine/request_limits.h"

#include "base/error.h"

namespace orcd::engine {
namespace {

std::string range_problem(double value, const Range& range) {
  if (value >= range.low && value <= range.high) return {};  // false for a NaN
  return "must be between " + error_value_text(range.low) + " and " + error_value_text(range.high) +
         ", got " + error_value_text(value);
}

}  // namespace

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

std::vector<FieldProblem> request_problems(const tokenizer::Tokenizer& tokenizer, const Request& request) {
  std::vector<FieldProblem> problems;
  const auto add = [&](const char* field, std::string problem) {
    if (!problem.empty()) problems.push_back({field, std::move(problem)});
  };
  const sampling::SamplingParams& sampling = request.sampling;
  if (request.max_tokens == 0) add("max_tokens", "must be at least 1");
  add("temperature", range_problem(sampling.temperature, kTemperatureRange));
  add("top_p", range_problem(sampling.top_p, kTopPRange));
  add("top_k", range_problem(sampling.top_k, {0, static_cast<double>(tokenizer.vocab_size())}));
  add("min_p", range_problem(sampling.min_p, kMinPRange));
  add("repetition_penalty", range_problem(sampling.repetition_penalty, kPenaltyRange));
  add("stop", stop_count_problem(request.stop.size()));
  for (const std::string& stop : request.stop) add("stop", stop_problem(tokenizer, stop));
  return problems;
}

}  // namespace orcd::engine
