// Conversations to prompts by the template that the model's file carries.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/prompt_guard.h"
#include "gguf/file.h"
#include "jinja/template.h"
#include "tokenizer/tokenizer.h"

namespace orcd::engine {

// Immutable, so safe to share between threads.
class Chat {
 public:
  // Reads tokenizer.chat_template, and tokenizer.chat_template.tool_use, which some files carry for requests
  // with tools. A file without a template, or with one that cannot be read, gives a chat that is off: no
  // obstacle to other work.
  Chat(const gguf::File& file, const tokenizer::Tokenizer& tokenizer);

  // Why chat (without tools) is off; empty when it is on.
  const std::optional<Error>& why_off() const { return plain_.why_off; }
  // The prompt for `messages`, `tools` and what else the template reads; bos_token and eos_token are added.
  // Special tokens stand in it as text; those that the variables spell are guarded (prompt_guard.h). Throws
  // INVALID_REQUEST when chat is off or the template refuses.
  GuardedPrompt prompt(jinja::Dict variables) const;
  // Whether a template's source has this text: it knows the role "developer", or a mark of a format.
  bool mentions(std::string_view text) const {
    const auto has = [&](const Form& form) { return form.source_text.find(text) != std::string::npos; };
    return has(plain_) || (with_tools_ && has(*with_tools_));
  }

 private:
  struct Form {
    Form(const tokenizer::Tokenizer& tokenizer, const std::optional<std::string_view>& source);

    std::optional<jinja::Template> text;
    std::optional<PromptGuard> guard;
    std::optional<Error> why_off;
    std::string source_text;
  };

  std::string bos_token_, eos_token_;
  Form plain_;
  std::optional<Form> with_tools_;  // where the file has one
};

}  // namespace orcd::engine
