#include "server/execute_request.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/sha256.h"
#include "engine/prompt.h"
#include "engine/request_limits.h"
#include "server/error_reply.h"
#include "server/json_input.h"

namespace orcd::server {
namespace {

using nlohmann::json;

size_t count_characters(std::string_view utf8) {
  return static_cast<size_t>(std::ranges::count_if(utf8, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

// Takes fields out of an object by name and collects what is wrong with them.
class Fields {
 public:
  explicit Fields(const json& body) : body_(body) {
    if (!body.is_object()) throw InvalidRequest("", "the body must be a JSON object");
  }

  const std::string* text(const char* name) {
    const json* value = take(name);
    if (!value) return problem(name, "is required"), nullptr;
    if (!value->is_string()) return problem(name, "must be a string, not " + kind(*value)), nullptr;
    return &value->get_ref<const std::string&>();
  }

  uint64_t integer(const char* name, uint64_t low, uint64_t high, uint64_t otherwise) {
    const json* value = take(name);
    if (!value) return otherwise;
    if (!value->is_number_integer()) {
      problem(name, "must be an integer, not " + kind(*value));
    } else if (!value->is_number_unsigned() || value->get<uint64_t>() < low ||
               value->get<uint64_t>() > high) {
      problem(name, "must be between " + std::to_string(low) + " and " + std::to_string(high) + ", got " +
                        value->dump());
    } else {
      return value->get<uint64_t>();
    }
    return otherwise;
  }

  float number(const char* name, engine::Range range, double otherwise) {
    const json* value = take(name);
    if (!value) return static_cast<float>(otherwise);
    if (!value->is_number()) {
      problem(name, "must be a number, not " + kind(*value));
    } else if (const double number = value->get<double>(); !(number >= range.low && number <= range.high)) {
      problem(name, "must be between " + number_text(range.low) + " and " + number_text(range.high) +
                        ", got " + number_text(number));
    } else {
      return static_cast<float>(number);
    }
    return static_cast<float>(otherwise);
  }

  const json* take(const char* name) {
    known_.emplace_back(name);
    const auto found = body_.find(name);
    return found == body_.end() ? nullptr : &*found;
  }

  void problem(std::string name, std::string message) {
    problems_.push_back({std::move(name), std::move(message)});
  }

  // Refuses fields that nobody took; throws if there was any problem.
  void finish() {
    for (const auto& [name, value] : body_.items())
      if (std::ranges::find(known_, name) == known_.end()) problem(name, "is not a field of this request");
    if (!problems_.empty()) throw InvalidRequest(std::move(problems_));
  }

  static std::string kind(const json& value) {
    if (value.is_null()) return "null (leave the field out for its default)";
    if (value.is_number_float()) return "a number with a fraction or exponent";
    return value.is_array()    ? "an array"
           : value.is_object() ? "an object"
                               : std::string("a ") + value.type_name();
  }

 private:
  const json& body_;
  std::vector<std::string> known_;
  std::vector<Problem> problems_;
};

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
  sampling::SamplingParams& sampling = request.sampling;
  sampling.temperature = fields.number("temperature", engine::kTemperatureRange, 1);
  sampling.top_p = fields.number("top_p", engine::kTopPRange, 1);
  sampling.top_k =
      static_cast<uint32_t>(fields.integer("top_k", 0, static_cast<uint64_t>(tokenizer.vocab_size()), 0));
  sampling.min_p = fields.number("min_p", engine::kMinPRange, 0);
  sampling.repetition_penalty = fields.number("repetition_penalty", engine::kPenaltyRange, 1);
  request.stop = stop_strings(fields, tokenizer);
  const bool seed_given = document.contains("seed");
  sampling.seed = fields.integer("seed", 0, std::numeric_limits<uint64_t>::max(), 0);
  fields.finish();

  if (!seed_given) sampling.seed = engine::new_seed();
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
