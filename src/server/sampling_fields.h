// The fields of sampling, which every body that has them shares.
#pragma once

#include "sampling/params.h"
#include "server/json_fields.h"
#include "tokenizer/tokenizer.h"

namespace orcd::server {

// The value of top_k beside 0 that asks for no limit: vLLM and llama-server take -1 for it.
enum class NoTopK { kZero, kZeroOrMinusOne };

// temperature, top_p, top_k, min_p and repetition_penalty, with their defaults where they are not there. What
// is outside its range is told to `fields`. Seed and choice are left at theirs.
sampling::SamplingParams take_sampling(Fields& fields, const tokenizer::Tokenizer& tokenizer,
                                       NoTopK no_top_k);

}  // namespace orcd::server
