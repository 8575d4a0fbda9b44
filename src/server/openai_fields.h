// What the bodies of /v1/chat/completions and /v1/completions have in common: sampling, stops, streaming, and
// the many fields that OpenAI's clients send along.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "engine/turn_splitter.h"
#include "server/execute_request.h"
#include "server/json_fields.h"
#include "tokenizer/tokenizer.h"

namespace orcd::server {

inline constexpr uint32_t kMaxChoices = 128;  // of one request, all prompts together

// A body, validated and tokenised.
struct CompletionRequest {
  bool is_chat = false;
  bool stream = false, include_usage = false;
  uint32_t n = 1;  // choices of each prompt
  // Choice i of the reply answers prompt i / n. Ids and deadlines are the service's to set.
  std::vector<engine::Request> choices;
  std::vector<std::string> echoes;  // by prompt, what its choices begin with; empty: nothing

  bool offers_tools = false, parallel_tool_calls = true;
  bool is_harmony = false;             // else the turn is split by `turn`
  engine::TurnSplitter::Options turn;  // of a chat

  size_t prompt_characters = 0, prompt_bytes = 0, prompt_tokens = 0;  // all prompts together
  std::string prompt_sha256;                                          // of their texts, one after the other
};

// What the worker that is asked is.
struct CompletionContext {
  const tokenizer::Tokenizer& tokenizer;
  std::string_view model;  // the id that /v1/models shows
  uint32_t n_ctx;
  ExecuteLimits limits;
};

// The fields of both. `otherwise`: max_tokens where the body has none. Gives the request of a choice, without
// its prompt; seed_given tells whether the body names one.
engine::Request take_common_fields(Fields& fields, const CompletionContext& context, uint32_t otherwise,
                                   CompletionRequest* out);

// How many of the likeliest tokens each token is told with: 0 to engine::kMaxTopLogprobs.
uint32_t take_top_logprobs(Fields& fields, const char* name);

// A field that is taken with its neutral values alone, for what this worker cannot do.
void take_neutral(Fields& fields, const char* name, std::string_view neutral_json);

// Appends n choices of a prompt, and counts it. Throws INVALID_REQUEST for a prompt that does not fit the
// context, or is over --max-tokens-in.
void add_prompt(CompletionRequest* out, const engine::Request& choice, std::vector<int32_t> ids,
                std::string_view text, const CompletionContext& context);

// 404 model_not_found.
Error unknown_model(std::string_view asked, std::string_view served);

// Takes the model's name, the last field. Throws what is wrong with the fields; then, for a model that is not
// here, NOT_FOUND.
void finish_fields(Fields& fields, const CompletionContext& context);

}  // namespace orcd::server
