#include "engine/chat.h"

namespace orcd::engine {
namespace {

std::string text_of(const tokenizer::Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? std::string() : std::string(tokenizer.token_text(id));
}

}  // namespace

Chat::Form::Form(const tokenizer::Tokenizer& tokenizer, const std::optional<std::string_view>& source) {
  if (!source) {
    why_off = Error(ErrorCode::kModelLoadFailed, "the model carries no chat template");
    return;
  }
  try {
    text.emplace(*source);
    guard.emplace(tokenizer, *source);
    source_text = *source;
  } catch (const Error& error) {
    why_off = error;
  }
}

Chat::Chat(const gguf::File& file, const tokenizer::Tokenizer& tokenizer)
    : bos_token_(text_of(tokenizer, tokenizer.bos_id())),
      eos_token_(text_of(tokenizer, tokenizer.eos_id())),
      plain_(tokenizer, file.get_string("tokenizer.chat_template")) {
  if (const auto source = file.get_string("tokenizer.chat_template.tool_use"))
    with_tools_.emplace(tokenizer, source);
}

GuardedPrompt Chat::prompt(jinja::Dict variables) const {
  const jinja::Value* tools = variables.find("tools");
  const Form& form = with_tools_ && tools && tools->is_true() ? *with_tools_ : plain_;
  if (form.why_off) {
    throw Error(ErrorCode::kInvalidRequest, "this model does not chat: " + form.why_off->message(),
                form.why_off->values(), "send a ready-made prompt instead");
  }
  const std::optional<std::string> mark = form.guard->mark(&variables);
  variables.set("bos_token", bos_token_);
  variables.set("eos_token", eos_token_);
  return PromptGuard::unmark(form.text->render(variables), mark);
}

}  // namespace orcd::engine
