#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/log_setup.h"
#include "cli/output.h"
#include "cli/session.h"
#include "cli/stop_signals.h"
#include "engine/prompt.h"
#include "engine/request_limits.h"

namespace orcd::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::chrono::milliseconds kTick{20};  // how soon a signal is noticed

struct Answer {
  std::string text, reasoning, commentary;
  std::vector<int32_t> ids;
  engine::EndEvent end;
};

// Reads the generation to its end; `stream` prints the answer as it comes.
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

Json answer_json(const Answer& answer, const std::vector<int32_t>& prompt_tokens) {
  const engine::EndEvent& end = answer.end;
  const double decode_rate =
      end.decode_ms > 0 && end.tokens_out > 1 ? (end.tokens_out - 1) * 1e3 / end.decode_ms : 0;
  const double prefill_rate = end.prefill_ms > 0 ? end.prompt_tokens * 1e3 / end.prefill_ms : 0;
  Json json = {{"text", answer.text},
               {"token_ids", answer.ids},
               {"prompt_token_ids", prompt_tokens},
               {"stop_reason", engine::stop_reason_name(end.reason)},
               {"seed", end.seed},
               {"timings",
                {{"prompt_tokens", end.prompt_tokens},
                 {"tokens_out", end.tokens_out},
                 {"queue_ms", end.queue_ms},
                 {"prefill_ms", end.prefill_ms},
                 {"first_token_ms", end.first_token_ms},
                 {"decode_ms", end.decode_ms},
                 {"prefill_tokens_per_s", prefill_rate},
                 {"decode_tokens_per_s", decode_rate}}},
               {"logits_digest", end.receipt.logits_digest},
               {"receipt",
                {{"model_digest", end.receipt.model_digest},
                 {"logits_digest", end.receipt.logits_digest},
                 {"numerics_version", end.receipt.numerics_version}}}};
  if (!answer.reasoning.empty()) json["reasoning_content"] = answer.reasoning;
  if (!answer.commentary.empty()) json["commentary"] = answer.commentary;
  return json;
}

// What the options alone do not tell: it takes the vocabulary. Everything at once.
void check_request(const engine::Request& request, const tokenizer::Tokenizer& tokenizer) {
  std::string problems;
  for (const engine::FieldProblem& wrong : engine::request_problems(tokenizer, request)) {
    std::string option = wrong.field;
    std::ranges::replace(option, '_', '-');
    problems += (problems.empty() ? "--" : "; --") + option + " " + wrong.problem;
  }
  if (!problems.empty()) throw Error(ErrorCode::kInvalidRequest, problems);
}

engine::Request request_of(const Options& options) {
  engine::Request request;
  request.id = "run";
  request.max_tokens = options.max_tokens;
  request.sampling = options.sampling;
  request.sampling.seed = options.seed ? *options.seed : engine::new_seed();
  request.stop = options.stop;
  return request;
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

int run(const Options& options) {
  install_log(options.log_format, {"", model_name(options.model), options.device}, LogLevel::kWarn);
  const std::string prompt = read_text(options.prompt, options.file);
  Model model = open_model(options.model, options.tokenizer_file);
  engine::Request request = request_of(options);
  check_request(request, *model.tokenizer);
  const engine::GuardedPrompt text =
      options.chat ? framed(*model.chat, prompt) : engine::GuardedPrompt{prompt, {}};
  // A signal ends the generation within a step, and what was printed stays a whole piece of text.
  const StopSignals signals;
  Session session = load(
      options, limits_of(options), [&] { return signals.came(std::chrono::milliseconds(0)); },
      std::move(model));
  request.prompt_tokens = engine::encode_prompt(*session.model.tokenizer, text.text, text.guards);
  request.split_channels = options.chat;
  const std::vector<int32_t> prompt_tokens = request.prompt_tokens;
  const auto engine = start_engine(&session);
  const auto generation = engine->submit(std::move(request));
  const std::jthread watcher([&](const std::stop_token& over) {
    while (!over.stop_requested())
      if (signals.came(kTick)) generation->cancel();
  });
  const Answer answer = collect(*generation, !options.json);
  if (options.json)
    print_now(answer_json(answer, prompt_tokens).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  else if (!answer.text.ends_with('\n') && isatty(STDOUT_FILENO))
    print_now("\n");
  return 0;
}

}  // namespace orcd::cli
