#include "server/sampling_fields.h"

#include <nlohmann/json.hpp>

#include "engine/request_limits.h"

namespace orcd::server {
namespace {

uint32_t take_top_k(Fields& fields, const tokenizer::Tokenizer& tokenizer, NoTopK no_top_k) {
  const nlohmann::json* value = fields.take("top_k");
  if (value && *value == -1 && no_top_k == NoTopK::kZeroOrMinusOne) return 0;
  return static_cast<uint32_t>(fields.integer("top_k", 0, static_cast<uint64_t>(tokenizer.vocab_size()), 0));
}

}  // namespace

sampling::SamplingParams take_sampling(Fields& fields, const tokenizer::Tokenizer& tokenizer,
                                       NoTopK no_top_k) {
  sampling::SamplingParams out;
  out.temperature = fields.number("temperature", engine::kTemperatureRange, out.temperature);
  out.top_p = fields.number("top_p", engine::kTopPRange, out.top_p);
  out.top_k = take_top_k(fields, tokenizer, no_top_k);
  out.min_p = fields.number("min_p", engine::kMinPRange, out.min_p);
  out.repetition_penalty = fields.number("repetition_penalty", engine::kPenaltyRange, out.repetition_penalty);
  return out;
}

}  // namespace orcd::server
