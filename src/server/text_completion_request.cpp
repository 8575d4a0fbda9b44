#include "server/text_completion_request.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/sha256.h"
#include "engine/prompt.h"
#include "server/json_input.h"

namespace orcd::server {
namespace {

using nlohmann::json;

constexpr uint32_t kDefaultMaxTokens = 16;  // OpenAI's, and vLLM's

struct Prompt {
  std::string text;
  std::vector<int32_t> ids;
};

bool is_id_list(const json& value) {
  return value.is_array() && !value.empty() &&
         std::ranges::all_of(value, [](const json& id) { return id.is_number(); });
}

class PromptReader {
 public:
  PromptReader(Fields& fields, const tokenizer::Tokenizer& tokenizer)
      : fields_(fields), tokenizer_(tokenizer) {}

  // A string, a list of strings, a list of ids, or a list of such lists.
  std::vector<Prompt> take() {
    const json* value = fields_.take("prompt");
    if (!value) {
      fields_.problem("prompt", "is required", kMissing);
    } else if (value->is_string() || is_id_list(*value)) {
      add("prompt", *value);
    } else if (!value->is_array() || value->empty() || value->size() > kMaxChoices) {
      fields_.problem("prompt", "must be a string, an array of 1 to " + std::to_string(kMaxChoices) +
                                    " strings, an array of token ids, or an array of such arrays");
    } else {
      for (size_t i = 0; i < value->size(); ++i) add("prompt[" + std::to_string(i) + "]", (*value)[i]);
    }
    return std::move(prompts_);
  }

 private:
  void add(const std::string& name, const json& value) {
    if (value.is_string()) {
      const auto& text = value.get_ref<const std::string&>();
      prompts_.push_back({text, {}});
    } else if (is_id_list(value)) {
      add_ids(name, value);
    } else {
      fields_.problem(name, "must be a string or an array of token ids, not " + Fields::kind(value),
                      kInvalidType);
    }
  }

  void add_ids(const std::string& name, const json& value) {
    const auto n_vocab = static_cast<uint64_t>(tokenizer_.vocab_size());
    Prompt prompt;
    for (size_t i = 0; i < value.size(); ++i) {
      if (value[i].is_number_unsigned() && value[i].get<uint64_t>() < n_vocab) {
        prompt.ids.push_back(value[i].get<int32_t>());
      } else {
        fields_.problem(name + "[" + std::to_string(i) + "]",
                        "must be a token id from 0 to " + std::to_string(n_vocab - 1));
      }
    }
    prompt.text = decode_bytes(tokenizer_, prompt.ids, /*special=*/true);
    prompts_.push_back(std::move(prompt));
  }

  Fields& fields_;
  const tokenizer::Tokenizer& tokenizer_;
  std::vector<Prompt> prompts_;
};

// best_of picks the best of more answers than are wanted; of just as many there is nothing to pick.
void take_best_of(Fields& fields, uint32_t n) {
  const json* best_of = fields.take("best_of");
  if (best_of && *best_of != n) {
    fields.problem("best_of", "is not supported by this worker: leave it out, or give n", kUnsupported);
  }
}

}  // namespace

CompletionRequest parse_text_completion(std::string_view body, const CompletionContext& context) {
  const json document = parse_json(body);
  Fields fields(document, /*null_is_absent=*/true);
  CompletionRequest out;
  std::vector<Prompt> prompts = PromptReader(fields, context.tokenizer).take();
  engine::Request request = take_common_fields(fields, context, kDefaultMaxTokens, &out);
  const bool echoes = fields.flag("echo", false);
  take_best_of(fields, out.n);
  take_neutral(fields, "suffix", R"([""])");
  if (fields.take("logprobs")) {
    request.top_logprobs = take_top_logprobs(fields, "logprobs");
    if (echoes)
      fields.problem("logprobs", "is not supported together with echo: prompts have none", kUnsupported);
  }
  take_neutral(fields, "response_format", R"([{"type":"text"}])");
  take_neutral(fields, "add_special_tokens", "[true]");
  if (prompts.size() * out.n > kMaxChoices) {
    fields.problem("n", "gives " + std::to_string(prompts.size() * out.n) +
                            " choices for these prompts, the limit is " + std::to_string(kMaxChoices));
  }
  finish_fields(fields, context);

  Sha256 digest;
  for (Prompt& prompt : prompts) {
    digest.update(prompt.text);
    if (prompt.ids.empty()) prompt.ids = engine::encode_prompt(context.tokenizer, prompt.text);
    add_prompt(&out, request, std::move(prompt.ids), prompt.text, context);
    out.echoes.push_back(echoes ? std::move(prompt.text) : std::string());
  }
  out.prompt_sha256 = to_hex(digest.finish());
  return out;
}

}  // namespace orcd::server
