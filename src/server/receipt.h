// What an answer ends with and `worker-orcd verify` reads: all but the prompt that it takes to draw the same
// tokens again, and the digests that then come out. The same on every face.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "tokenizer/tokenizer.h"

namespace orcd::server {

// {seed, model_digest, logits_digest, logits_rows, numerics_version, prompt_tokens, sampling: {...}}
nlohmann::ordered_json receipt_json(const engine::EndEvent& end);

struct WrittenReceipt {
  engine::Receipt receipt;
  uint32_t prompt_tokens = 0;
  std::optional<std::vector<int32_t>> prompt_ids,
      answer_ids;  // where they stand beside it, as in `run --json`
};

// A receipt, or an object that has one as "receipt": the `end` of a stream, a choice, what `run --json`
// prints. Throws InvalidRequest with everything that is wrong.
WrittenReceipt parse_receipt(std::string_view text, const tokenizer::Tokenizer& tokenizer);

}  // namespace orcd::server
