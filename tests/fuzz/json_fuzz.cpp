// libFuzzer target: any body of a request is answered, or refused with one INVALID_REQUEST whose reply is
// JSON and small. The first character picks the path.
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/chat.h"
#include "server/error_reply.h"
#include "server/execute_request.h"
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

void check_execute(const std::string& body, const tokenizer::Tokenizer& tokenizer) {
  const server::ExecuteRequest request = server::parse_execute(body, tokenizer, {.max_tokens_out = 2048});
  const engine::Request& r = request.request;
  if (r.id.empty() || r.max_tokens < 1 || r.max_tokens > 2048 || r.stop.size() > 4) std::abort();
  const auto& s = r.sampling;
  if (!(s.temperature >= 0 && s.temperature <= 2 && s.top_p >= 0 && s.top_p <= 1 && s.min_p >= 0 &&
        s.min_p <= 1 && s.repetition_penalty >= 0 && s.repetition_penalty <= 2 &&
        s.top_k <= static_cast<uint32_t>(tokenizer.vocab_size()))) {
    std::abort();
  }
}

void check_refusal(const Error& error) {
  if (error.code() != ErrorCode::kInvalidRequest) std::abort();
  const server::Reply reply = server::error_reply(error);
  if (reply.status != 400 || reply.body.size() > kMaxRefusalBytes) std::abort();
  if (!nlohmann::json::accept(reply.body)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const test::ByteTokenizer tokenizer;
  static const auto file =
      test::parse_owned(test::small_bpe("gpt-2").add("tokenizer.chat_template", kTemplate));
  static const engine::Chat chat(*file, tokenizer);
  if (size == 0) return 0;
  const std::string body(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    std::string answer = "{}";
    switch (data[0]) {
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
      default:
        check_execute(body, tokenizer);
    }
    if (!nlohmann::json::accept(answer)) std::abort();
  } catch (const Error& error) {
    check_refusal(error);
  }
  return 0;
}
