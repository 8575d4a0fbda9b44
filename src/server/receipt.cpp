#include "server/receipt.h"

#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

#include "server/json_fields.h"
#include "server/json_input.h"
#include "server/sampling_fields.h"

namespace orcd::server {
namespace {

using nlohmann::json;
using Json = nlohmann::ordered_json;

// 0.7f as 0.7, not as 0.699999988079071.
double shortest(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double out = 0;
  std::from_chars(text, end, out);
  return out;
}

std::string digest_field(Fields& fields, const char* name) {
  const std::string* digest = fields.text(name);
  if (!digest) return {};
  if (digest->size() != 32 || digest->find_first_not_of("0123456789abcdef") != digest->npos)
    fields.problem(name, "must be 32 hexadecimal digits");
  return *digest;
}

uint64_t needed_integer(Fields& fields, const json& object, const char* name, uint64_t low, uint64_t high) {
  if (!object.contains(name)) fields.problem(name, "is required", kMissing);
  return fields.integer(name, low, high, low);
}

sampling::SamplingParams sampling_of(const json& object, const tokenizer::Tokenizer& tokenizer) {
  Fields fields(object);
  sampling::SamplingParams out = take_sampling(fields, tokenizer, NoTopK::kZero);
  out.choice =
      static_cast<uint32_t>(fields.integer("choice", 0, std::numeric_limits<uint32_t>::max(), out.choice));
  fields.finish();
  return out;
}

std::optional<std::vector<int32_t>> ids_field(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return std::nullopt;
  std::vector<int32_t> ids;
  constexpr uint64_t kMaxId = std::numeric_limits<int32_t>::max();
  if (!found->is_array())
    throw InvalidRequest(name, "must be an array of token ids, not " + Fields::kind(*found));
  ids.reserve(found->size());
  for (const json& id : *found) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > kMaxId)
      throw InvalidRequest(name, "must be an array of token ids");
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace

Json receipt_json(const engine::EndEvent& end) {
  const sampling::SamplingParams& sampling = end.receipt.sampling;
  return {{"seed", sampling.seed},
          {"model_digest", end.receipt.model_digest},
          {"logits_digest", end.receipt.logits_digest},
          {"logits_rows", end.receipt.logits_rows},
          {"numerics_version", end.receipt.numerics_version},
          {"prompt_tokens", end.prompt_tokens},
          {"sampling",
           {{"temperature", shortest(sampling.temperature)},
            {"top_p", shortest(sampling.top_p)},
            {"top_k", sampling.top_k},
            {"min_p", shortest(sampling.min_p)},
            {"repetition_penalty", shortest(sampling.repetition_penalty)},
            {"choice", sampling.choice}}}};
}

WrittenReceipt parse_receipt(std::string_view text, const tokenizer::Tokenizer& tokenizer) {
  constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
  const json document = parse_json(text);
  if (!document.is_object()) throw InvalidRequest("", "a receipt is a JSON object");
  const auto inner = document.find("receipt");
  const json& object = inner == document.end() ? document : *inner;
  if (!object.is_object()) throw InvalidRequest("receipt", "must be an object, not " + Fields::kind(object));

  Fields fields(object);
  WrittenReceipt out;
  const json* sampling = fields.take("sampling");
  if (!sampling || !sampling->is_object()) {
    fields.problem("sampling", sampling ? "must be an object, not " + Fields::kind(*sampling) : "is required",
                   sampling ? kInvalidType : kMissing);
  } else {
    out.receipt.sampling = sampling_of(*sampling, tokenizer);
  }
  out.receipt.sampling.seed = needed_integer(fields, object, "seed", 0, std::numeric_limits<uint64_t>::max());
  out.receipt.model_digest = digest_field(fields, "model_digest");
  out.receipt.logits_digest = digest_field(fields, "logits_digest");
  out.receipt.logits_rows = static_cast<uint32_t>(needed_integer(fields, object, "logits_rows", 1, kMost));
  out.receipt.numerics_version =
      static_cast<uint32_t>(needed_integer(fields, object, "numerics_version", 1, kMost));
  out.prompt_tokens = static_cast<uint32_t>(needed_integer(fields, object, "prompt_tokens", 1, kMost));
  fields.finish();
  if (inner != document.end()) {
    out.prompt_ids = ids_field(document, "prompt_token_ids");
    out.answer_ids = ids_field(document, "token_ids");
  }
  return out;
}

}  // namespace orcd::server
