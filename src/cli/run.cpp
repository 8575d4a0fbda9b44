#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/log_setup.h"
#include "cli/output.h"
#include "cli/session.h"
#include "engine/request_limits.h"
#include "server/receipt.h"

namespace orcd::cli {
namespace {

using Json = nlohmann::ordered_json;

Json answer_json(const Answer& answer, const std::vector<int32_t>& prompt_tokens) {
  const engine::EndEvent& end = answer.end;
  const double decode_rate =
      end.decode_ms > 0 && end.tokens_out > 1 ? (end.tokens_out - 1) * 1e3 / end.decode_ms : 0;
  const double prefill_rate = end.prefill_ms > 0 ? end.prompt_tokens * 1e3 / end.prefill_ms : 0;
  Json json = {{"text", answer.text},
               {"token_ids", answer.ids},
               {"prompt_token_ids", prompt_tokens},
               {"stop_reason", engine::stop_reason_name(end.reason)},
               {"seed", end.receipt.sampling.seed},
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
               {"receipt", server::receipt_json(end)}};
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

}  // namespace

int run(const Options& options) {
  install_log(options.log_format, {"", model_name(options.model), options.device}, LogLevel::kWarn);
  Model model = open_model(options.model, options.tokenizer_file);
  engine::Request request = request_of(options);
  check_request(request, *model.tokenizer);
  request.prompt_tokens = prompt_ids(options, model);
  request.split_channels = options.chat;
  const std::vector<int32_t> prompt_tokens = request.prompt_tokens;
  const Answer answer = generate(options, std::move(model), std::move(request), /*stream=*/!options.json);
  if (options.json)
    print_now(answer_json(answer, prompt_tokens).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  else if (!answer.text.ends_with('\n') && isatty(STDOUT_FILENO))
    print_now("\n");
  return 0;
}

}  // namespace orcd::cli
