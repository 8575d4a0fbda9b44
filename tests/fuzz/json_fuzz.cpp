// libFuzzer target: any body of a request is answered, or refused with one INVALID_REQUEST whose reply is
// JSON and small. The first character picks the path.
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/chat.h"
#include "server/chat_request.h"
#include "server/error_reply.h"
#include "server/execute_request.h"
#include "server/receipt.h"
#include "server/text_completion_request.h"
#include "server/text_requests.h"
#include "unit/server/small_tokenizer.h"
#include "unit/tokenizer/vocabularies.h"

namespace {

using namespace orcd;

constexpr size_t kMaxRefusalBytes = 64 * 1024;
constexpr const char* kTemplate =
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}{{ c | tojson "
    "}}{% endfor %}"
    "{% endfor %}{{ tools | tojson if tools }}{% if add_generation_prompt %}<|assistant|>{% endif %}";

void check_request(const engine::Request& r, const tokenizer::Tokenizer& tokenizer) {
  if (r.max_tokens < 1 || r.max_tokens > 2048 || r.stop.size() > 4) std::abort();
  const auto& s = r.sampling;
  if (!(s.temperature >= 0 && s.temperature <= 2 && s.top_p >= 0 && s.top_p <= 1 && s.min_p >= 0 &&
        s.min_p <= 1 && s.repetition_penalty >= 0 && s.repetition_penalty <= 2 &&
        s.top_k <= static_cast<uint32_t>(tokenizer.vocab_size()))) {
    std::abort();
  }
}

void check_execute(const std::string& body, const tokenizer::Tokenizer& tokenizer) {
  const server::ExecuteRequest request = server::parse_execute(body, tokenizer, {.max_tokens_out = 2048});
  if (request.request.id.empty()) std::abort();
  check_request(request.request, tokenizer);
}

void check_completion(const server::CompletionRequest& request, const server::CompletionContext& context) {
  const size_t n_choices = request.choices.size();
  if (n_choices == 0 || n_choices > server::kMaxChoices || n_choices % request.n != 0) std::abort();
  for (const engine::Request& choice : request.choices) {
    check_request(choice, context.tokenizer);
    if (choice.prompt_tokens.size() + 1 > context.n_ctx || choice.sampling.choice >= request.n) std::abort();
  }
}

// A receipt is read as it was written.
void check_receipt(const std::string& text, const tokenizer::Tokenizer& tokenizer) {
  const server::WrittenReceipt read = server::parse_receipt(text, tokenizer);
  engine::EndEvent end{};
  end.receipt = read.receipt;
  end.prompt_tokens = read.prompt_tokens;
  engine::Request request;
  request.sampling = read.receipt.sampling;
  check_request(request, tokenizer);
  const server::WrittenReceipt again = server::parse_receipt(server::receipt_json(end).dump(), tokenizer);
  if (again.receipt.sampling != read.receipt.sampling || again.prompt_tokens != read.prompt_tokens ||
      again.receipt.logits_digest != read.receipt.logits_digest ||
      again.receipt.model_digest != read.receipt.model_digest ||
      again.receipt.logits_rows != read.receipt.logits_rows) {
    std::abort();
  }
}

void check_refusal(const Error& error) {
  const bool other_model = error.code() == ErrorCode::kNotFound;
  if (error.code() != ErrorCode::kInvalidRequest && !other_model) std::abort();
  for (const server::Reply& reply : {server::error_reply(error), server::openai_error_reply(error)}) {
    if (reply.status != (other_model ? 404 : 400) || reply.body.size() > kMaxRefusalBytes) std::abort();
    const nlohmann::json told = nlohmann::json::parse(reply.body)["error"];
    if (!told["message"].is_string() || !told["type"].is_string() || !told["code"].is_string()) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const test::ByteTokenizer tokenizer;
  static const auto file =
      test::parse_owned(test::small_bpe("gpt-2").add("tokenizer.chat_template", kTemplate));
  static const engine::Chat chat(*file, tokenizer);
  if (size == 0) return 0;
  const std::string body(reinterpret_cast<const char*>(data + 1), size - 1);
  const server::CompletionContext context{tokenizer, "tiny", 4096, {.max_tokens_out = 2048}};
  try {
    std::string answer = "{}";
    switch (data[0]) {
      case 'r':
        check_receipt(body, tokenizer);
        break;
      case 'c':
        server::parse_cancel(body);
        break;
      case 't':
        answer = server::tokenize_json(body, tokenizer);
        break;
      case 'd':
        answer = server::detokenize_json(body, tokenizer);
        break;
      case 'a':
        answer = server::apply_template_json(body, chat);
        break;
      case 'o':
        check_completion(server::parse_chat(body, chat, context), context);
        break;
      case 'p':
        check_completion(server::parse_text_completion(body, context), context);
        break;
      default:
        check_execute(body, tokenizer);
    }
    if (!nlohmann::json::accept(answer)) std::abort();
  } catch (const Error& error) {
    check_refusal(error);
  }
  return 0;
}
