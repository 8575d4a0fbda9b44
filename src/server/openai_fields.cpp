#include "server/openai_fields.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/request_limits.h"
#include "server/sampling_fields.h"

namespace orcd::server {
namespace {

using nlohmann::json;

// They say who asks, where and why: nothing that an answer depends on.
constexpr const char* kIgnored[] = {"user",
                                    "safety_identifier",
                                    "metadata",
                                    "store",
                                    "service_tier",
                                    "prompt_cache_key",
                                    "prompt_cache_retention",
                                    "prompt_cache_options",
                                    "cache_prompt",
                                    "request_id",
                                    "priority"};

struct Neutral {
  const char* name;
  const char* values;  // a JSON array
};
// What would change the answer and is not there, with the values that ask for nothing.
constexpr Neutral kNeutral[] = {
    {"frequency_penalty", "[0]"},
    {"presence_penalty", "[0]"},
    {"logit_bias", "[{}]"},
    {"use_beam_search", "[false]"},
    {"length_penalty", "[1]"},
    {"early_stopping", "[false]"},
    {"min_tokens", "[0]"},
    {"stop_token_ids", "[[]]"},
    {"bad_words", "[[]]"},
    {"include_stop_str_in_output", "[false]"},
    {"skip_special_tokens", "[true]"},
    {"spaces_between_special_tokens", "[true,false]"},
    {"truncate_prompt_tokens", "[]"},
    {"prompt_logprobs", "[]"},
    {"return_token_ids", "[false]"},
    {"typical_p", "[1]"},
    {"mirostat", "[0]"},
    {"repeat_penalty", "[1]"},
};

std::vector<std::string> take_stops(Fields& fields, const tokenizer::Tokenizer& tokenizer) {
  const json* value = fields.take("stop");
  std::vector<std::string> stops;
  if (!value) return stops;
  const auto add = [&](const std::string& name, const json& item) {
    if (!item.is_string())
      return fields.problem(name, "must be a string, not " + Fields::kind(item), kInvalidType);
    const auto& text = item.get_ref<const std::string&>();
    if (std::string problem = engine::stop_problem(tokenizer, text); !problem.empty())
      return fields.problem(name, std::move(problem));
    stops.push_back(text);
  };
  if (value->is_string()) {
    add("stop", *value);
  } else if (!value->is_array()) {
    fields.problem("stop", "must be a string or an array of strings, not " + Fields::kind(*value),
                   kInvalidType);
  } else if (std::string problem = engine::stop_count_problem(value->size()); !problem.empty()) {
    fields.problem("stop", std::move(problem));
  } else {
    for (size_t i = 0; i < value->size(); ++i) add("stop[" + std::to_string(i) + "]", (*value)[i]);
  }
  return stops;
}

// Any integer of 64 bits, signed ones as their two's complement. -1 asks for a new one, as with vLLM and
// llama-server.
uint64_t take_seed(Fields& fields, const ExecuteLimits& limits) {
  const json* value = fields.take("seed");
  if (!value) return limits.seed_of_unseeded();
  if (!value->is_number_integer()) {
    fields.problem("seed", "must be an integer of 64 bits, not " + Fields::kind(*value), kInvalidType);
    return 0;
  }
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  const auto seed = value->get<int64_t>();
  return seed == -1 ? engine::new_seed() : static_cast<uint64_t>(seed);
}

void take_stream(Fields& fields, CompletionRequest* out) {
  out->stream = fields.flag("stream", false);
  const json* options = fields.take("stream_options");
  if (!options) return;
  if (!options->is_object())
    return fields.problem("stream_options", "must be an object, not " + Fields::kind(*options), kInvalidType);
  if (!out->stream) return fields.problem("stream_options", "is only for requests with stream: true");
  for (const auto& [name, value] : options->items()) {
    const std::string path = "stream_options." + clipped(name);
    if (name == "include_obfuscation" || (name == "continuous_usage_stats" && value == false)) continue;
    if (name != "include_usage") {
      fields.problem(path, "is not supported", kUnsupported);
    } else if (!value.is_boolean() && !value.is_null()) {
      fields.problem(path, "must be true or false, not " + Fields::kind(value), kInvalidType);
    } else {
      out->include_usage = value == true;
    }
  }
}

// max_completion_tokens is the newer name of max_tokens, and counts where both are given.
uint32_t take_max_tokens(Fields& fields, uint32_t most, uint32_t otherwise) {
  const auto older = fields.integer("max_tokens", 1, most, otherwise);
  return static_cast<uint32_t>(fields.integer("max_completion_tokens", 1, most, older));
}

}  // namespace

uint32_t take_top_logprobs(Fields& fields, const char* name) {
  return static_cast<uint32_t>(fields.integer(name, 0, engine::kMaxTopLogprobs, 0));
}

void take_neutral(Fields& fields, const char* name, std::string_view neutral_json) {
  const json* value = fields.take(name);
  if (!value) return;
  const json neutral = json::parse(neutral_json);
  if (std::ranges::find(neutral, *value) != neutral.end()) return;
  std::string message = "is not supported by this worker";
  if (!neutral.empty()) message += ": leave it out, or give " + neutral.front().dump();
  fields.problem(name, std::move(message), kUnsupported);
}

engine::Request take_common_fields(Fields& fields, const CompletionContext& context, uint32_t otherwise,
                                   CompletionRequest* out) {
  const uint32_t most = context.limits.max_tokens_out;
  engine::Request request;
  request.max_tokens = take_max_tokens(fields, most, std::min(otherwise, most));
  request.sampling = take_sampling(fields, context.tokenizer, NoTopK::kZeroOrMinusOne);
  request.sampling.seed = take_seed(fields, context.limits);
  request.stop = take_stops(fields, context.tokenizer);
  request.ignore_end = fields.flag("ignore_eos", false);
  out->n = static_cast<uint32_t>(fields.integer("n", 1, kMaxChoices, 1));
  take_stream(fields, out);
  for (const char* name : kIgnored) fields.take(name);
  for (const Neutral& field : kNeutral) take_neutral(fields, field.name, field.values);
  return request;
}

void add_prompt(CompletionRequest* out, const engine::Request& choice, std::vector<int32_t> ids,
                std::string_view text, const CompletionContext& context) {
  const uint32_t most = context.limits.max_tokens_in;
  const std::string param = out->is_chat ? "messages" : "prompt";
  if (ids.size() + 1 > context.n_ctx) {
    throw Error(
        ErrorCode::kInvalidRequest, "the prompt does not fit the context",
        {{"param", param}, {"n_prompt_tokens", uint64_t{ids.size()}}, {"n_ctx", uint64_t{context.n_ctx}}},
        "shorten the prompt, or start the worker with a larger --ctx");
  }
  if (most && ids.size() > most) {
    throw Error(ErrorCode::kInvalidRequest, "the prompt is longer than this worker takes",
                {{"param", param},
                 {"n_prompt_tokens", uint64_t{ids.size()}},
                 {"n_ctx", uint64_t{context.n_ctx}},
                 {"max_tokens_in", uint64_t{most}}},
                "shorten the prompt, or start the worker with a larger --max-tokens-in");
  }
  out->prompt_bytes += text.size();
  out->prompt_characters += count_characters(text);
  out->prompt_tokens += ids.size();
  for (uint32_t i = 0; i < out->n; ++i) {
    engine::Request& request = out->choices.emplace_back(choice);
    request.sampling.choice = i;
    request.prompt_tokens = ids;
  }
}

void finish_fields(Fields& fields, const CompletionContext& context) {
  const json* name = fields.take("model");
  if (name && !name->is_string())
    fields.problem("model", "must be a string, not " + Fields::kind(*name), kInvalidType);
  fields.finish();
  const std::string model = name ? name->get<std::string>() : std::string();
  if (model.empty() || model == context.model) return;
  throw unknown_model(model, context.model);
}

Error unknown_model(std::string_view asked, std::string_view served) {
  return Error(ErrorCode::kNotFound, "this worker does not serve the model asked for",
               {{"param", std::string("model")},
                {"model", clipped(std::string(asked))},
                {"served", std::string(served)}},
               "give the id that /v1/models shows, or leave the field out");
}

}  // namespace orcd::server
