#include "server/execute_request.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/sha256.h"
#include "engine/prompt.h"
#include "engine/request_limits.h"
#include "server/error_reply.h"
#include "server/json_fields.h"
#include "server/json_input.h"
#include "server/sampling_fields.h"

namespace orcd::server {
namespace {

using nlohmann::json;

std::string job_id(Fields& fields) {
  const std::string* id = fields.text("job_id");
  if (!id) return {};
  if (id->empty()) fields.problem("job_id", "must not be empty");
  if (id->size() > kMaxJobIdBytes) {
    fields.problem("job_id", "must be at most " + std::to_string(kMaxJobIdBytes) + " bytes, got " +
                                 std::to_string(id->size()));
  }
  return *id;
}

const std::string* prompt_text(Fields& fields) {
  const std::string* prompt = fields.text("prompt");
  if (!prompt) return nullptr;
  const size_t characters = count_characters(*prompt);
  if (characters >= 1 && characters <= kMaxPromptCharacters) return prompt;
  fields.problem("prompt", "must have 1 to " + std::to_string(kMaxPromptCharacters) + " characters, got " +
                               std::to_string(characters));
  return nullptr;
}

std::vector<std::string> stop_strings(Fields& fields, const tokenizer::Tokenizer& tokenizer) {
  const json* value = fields.take("stop");
  if (!value) return {};
  if (!value->is_array())
    return fields.problem("stop", "must be an array of strings, not " + Fields::kind(*value)),
           std::vector<std::string>{};
  if (std::string problem = engine::stop_count_problem(value->size()); !problem.empty())
    return fields.problem("stop", std::move(problem)), std::vector<std::string>{};
  std::vector<std::string> stops;
  for (size_t i = 0; i < value->size(); ++i) {
    const json& item = (*value)[i];
    const std::string name = "stop[" + std::to_string(i) + "]";
    if (!item.is_string()) {
      fields.problem(name, "must be a string, not " + Fields::kind(item));
      continue;
    }
    const auto& text = item.get_ref<const std::string&>();
    if (std::string problem = engine::stop_problem(tokenizer, text); !problem.empty()) {
      fields.problem(name, std::move(problem));
      continue;
    }
    stops.push_back(text);
  }
  return stops;
}

}  // namespace

size_t count_characters(std::string_view utf8) {
  return static_cast<size_t>(std::ranges::count_if(utf8, [](char c) { return (c & 0xC0) != 0x80; }));
}

ExecuteRequest parse_execute(std::string_view body, const tokenizer::Tokenizer& tokenizer,
                             const ExecuteLimits& limits) {
  const json document = parse_json(body);
  Fields fields(document);
  ExecuteRequest out;
  engine::Request& request = out.request;
  request.id = job_id(fields);
  const std::string* prompt = prompt_text(fields);
  request.max_tokens =
      static_cast<uint32_t>(fields.integer("max_tokens", 1, limits.max_tokens_out, limits.max_tokens_out));
  request.sampling = take_sampling(fields, tokenizer, NoTopK::kZero);
  request.stop = stop_strings(fields, tokenizer);
  const bool seed_given = document.contains("seed");
  request.sampling.seed = fields.integer("seed", 0, std::numeric_limits<uint64_t>::max(), 0);
  fields.finish();

  if (!seed_given) request.sampling.seed = limits.seed_of_unseeded();
  request.prompt_tokens = engine::encode_prompt(tokenizer, *prompt);
  if (limits.max_tokens_in && request.prompt_tokens.size() > limits.max_tokens_in) {
    throw Error(ErrorCode::kInvalidRequest, "the prompt is longer than this worker takes",
                {{"param", std::string("prompt")},
                 {"n_prompt_tokens", uint64_t{request.prompt_tokens.size()}},
                 {"max_tokens_in", uint64_t{limits.max_tokens_in}}},
                "shorten the prompt, or start the worker with a larger --max-tokens-in");
  }
  out.prompt_bytes = prompt->size();
  out.prompt_characters = count_characters(*prompt);
  out.prompt_sha256 = sha256_hex(*prompt);
  return out;
}

std::string parse_cancel(std::string_view body) {
  const json document = parse_json(body);
  Fields fields(document);
  std::string id = job_id(fields);
  fields.finish();
  return id;
}

}  // namespace orcd::server
