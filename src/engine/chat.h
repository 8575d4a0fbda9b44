// Conversations to prompts by the template that the model's file carries.
#pragma once

#include <optional>
#include <string>

#include "base/error.h"
#include "engine/prompt_guard.h"
#include "gguf/file.h"
#include "jinja/template.h"
#include "tokenizer/tokenizer.h"

namespace orcd::engine {

// Immutable, so safe to share between threads.
class Chat {
 public:
  // A file without a template, or with one that cannot be read, gives a chat that is off: no obstacle to
  // other work.
  Chat(const gguf::File& file, const tokenizer::Tokenizer& tokenizer);

  // Why chat is off; empty when it is on.
  const std::optional<Error>& why_off() const { return why_off_; }
  // The prompt for `messages`, `tools` and what else the template reads; bos_token and eos_token are added.
  // Special tokens stand in it as text; those that the variables spell are guarded (prompt_guard.h). Throws
  // INVALID_REQUEST when chat is off or the template refuses.
  GuardedPrompt prompt(jinja::Dict variables) const;

 private:
  std::optional<jinja::Template> template_;
  std::optional<PromptGuard> guard_;
  std::optional<Error> why_off_;
  std::string bos_token_, eos_token_;
};

}  // namespace orcd::engine
