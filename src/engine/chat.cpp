#include "engine/chat.h"

namespace orcd::engine {
namespace {

std::string text_of(const tokenizer::Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? std::string() : std::string(tokenizer.token_text(id));
}

}  // namespace

Chat::Chat(const gguf::File& file, const tokenizer::Tokenizer& tokenizer)
    : bos_token_(text_of(tokenizer, tokenizer.bos_id())), eos_token_(text_of(tokenizer, tokenizer.eos_id())) {
  const auto source = file.get_string("tokenizer.chat_template");
  if (!source) {
    why_off_ = Error(ErrorCode::kModelLoadFailed, "the model carries no chat template");
    return;
  }
  try {
    template_.emplace(*source);
    guard_.emplace(tokenizer, *source);
  } catch (const Error& error) {
    why_off_ = error;
  }
}

GuardedPrompt Chat::prompt(jinja::Dict variables) const {
  if (why_off_) {
    throw Error(ErrorCode::kInvalidRequest, "this model does not chat: " + why_off_->message(),
                why_off_->values(), "send a ready-made prompt instead");
  }
  const std::optional<std::string> mark = guard_->mark(&variables);
  variables.set("bos_token", bos_token_);
  variables.set("eos_token", eos_token_);
  return PromptGuard::unmark(template_->render(variables), mark);
}

}  // namespace orcd::engine
