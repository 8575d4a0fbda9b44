#include "cli/answer.h"

#include <chrono>
#include <thread>
#include <utility>
#include <variant>

#include "cli/output.h"
#include "cli/stop_signals.h"
#include "engine/prompt.h"

namespace orcd::cli {
namespace {

constexpr std::chrono::milliseconds kTick{20};  // how soon a signal is noticed

Answer collect(engine::Generation& generation, bool stream) {
  Answer answer;
  const auto take = [&](const std::string& text, engine::TextKind kind) {
    if (kind == engine::TextKind::kReasoning) {
      answer.reasoning += text;
    } else if (kind == engine::TextKind::kCommentary) {
      answer.commentary += text;
    } else {
      answer.text += text;
      if (stream) print_now(text);
    }
  };
  while (auto event = generation.channel().pop()) {
    if (const auto* token = std::get_if<engine::TokenEvent>(&*event)) {
      answer.ids.push_back(token->id);
      take(token->text, token->kind);
    } else if (auto* end = std::get_if<engine::EndEvent>(&*event)) {
      take(end->tail, end->tail_kind);
      answer.end = std::move(*end);
    } else if (const auto* failed = std::get_if<engine::ErrorEvent>(&*event)) {
      throw failed->error;
    }
  }
  return answer;
}

// `said` by a user, as the model's chat template frames it.
engine::GuardedPrompt framed(const engine::Chat& chat, const std::string& said) {
  jinja::Dict message, variables;
  message.set("role", "user");
  message.set("content", said);
  variables.set("messages", jinja::Value::list({std::move(message)}));
  variables.set("add_generation_prompt", true);
  return chat.prompt(std::move(variables));
}

}  // namespace

std::vector<int32_t> prompt_ids(const Options& options, const Model& model) {
  const std::string said = read_text(options.prompt, options.file);
  const engine::GuardedPrompt text =
      options.chat ? framed(*model.chat, said) : engine::GuardedPrompt{said, {}};
  return engine::encode_prompt(*model.tokenizer, text.text, text.guards);
}

Answer generate(const Options& options, Model model, engine::Request request, bool stream) {
  const StopSignals signals;
  Session session = load(
      options, limits_of(options), [&] { return signals.came(std::chrono::milliseconds(0)); },
      std::move(model));
  const auto engine = start_engine(&session);
  const auto generation = engine->submit(std::move(request));
  const std::jthread watcher([&](const std::stop_token& over) {
    while (!over.stop_requested())
      if (signals.came(kTick)) generation->cancel();
  });
  return collect(*generation, stream);
}

}  // namespace orcd::cli
