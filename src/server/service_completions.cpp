// The OpenAI side of the service: /v1/chat/completions and /v1/completions.
#include <utility>

#include "base/log.h"
#include "server/chat_request.h"
#include "server/completion_reply.h"
#include "server/error_reply.h"
#include "server/reply_text.h"
#include "server/service.h"
#include "server/text_completion_request.h"

namespace orcd::server {
namespace {

constexpr size_t kFingerprintDigits = 16;  // of the model's digest

ErrorValues start_fields(const std::string& job_id, const CompletionRequest& prepared) {
  const engine::Request& first = prepared.choices.front();
  return {{"job_id", job_id},
          {"prompt_characters", uint64_t{prepared.prompt_characters}},
          {"prompt_bytes", uint64_t{prepared.prompt_bytes}},
          {"prompt_sha256", prepared.prompt_sha256},
          {"prompt_tokens", uint64_t{prepared.prompt_tokens}},
          {"choices", uint64_t{prepared.choices.size()}},
          {"max_tokens", uint64_t{first.max_tokens}},
          {"seed", first.sampling.seed}};
}

}  // namespace

void Service::add_completion_routes(Router* router) {
  const auto add = [&](const char* path, bool is_chat) {
    router->add({"POST", path, [this, is_chat](const HttpRequest& r) { return complete(r, is_chat); },
                 RunOn::kPrepare});
  };
  add("/v1/chat/completions", true);
  add("/v1/completions", false);
}

Reply Service::complete(const HttpRequest& http, bool is_chat) {
  const auto arrived = std::chrono::steady_clock::now();
  try {
    const State now = ready_state();
    const CompletionContext context{*now.tokenizer, now.facts.model, now.facts.context_length,
                                    options_.execute};
    CompletionRequest prepared =
        is_chat ? parse_chat(http.body, *now.chat, context) : parse_text_completion(http.body, context);
    const std::string id = (is_chat ? "chatcmpl-" : "cmpl-") + make_request_id("");
    begin_job(id, prepared.choices.size());
    try {
      return submit(id, std::move(prepared), now, arrived);
    } catch (...) {
      drop_job(id);
      throw;
    }
  } catch (const Error& error) {
    metrics_.request_ended(outcome_of(error));
    return openai_error_reply(error);
  }
}

// All choices or none: those submitted are cancelled when the next one is refused.
Reply Service::submit(const std::string& id, CompletionRequest prepared, const State& now,
                      std::chrono::steady_clock::time_point arrived) {
  const size_t n_choices = prepared.choices.size();
  const ErrorValues described = start_fields(id, prepared);
  CompletionHead head{.id = id,
                      .model = now.facts.model,
                      .fingerprint = "orcd-" + now.engine->model_digest().substr(0, kFingerprintDigits) +
                                     "-n" + std::to_string(engine::Receipt{}.numerics_version),
                      .created = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()),
                      .is_chat = prepared.is_chat,
                      .include_usage = prepared.include_usage,
                      .logprobs = prepared.choices.front().top_logprobs.has_value()};
  CompletionRun::Setup setup{.request = {},
                             .generations = {},
                             .tokenizer = now.tokenizer,
                             .signal = std::make_shared<ReadySignal>(),
                             .job_id = id,
                             .arrived = arrived,
                             .metrics = &metrics_,
                             .done = [this](const StreamSummary& summary) { end_job(summary); }};
  for (size_t i = 0; i < n_choices; ++i) {
    engine::Request& request = prepared.choices[i];
    request.id = choice_id(id, i);
    request.deadline = arrived + options_.inference_timeout;
    setup.generations.push_back(
        now.engine->submit(std::move(request), [signal = setup.signal] { signal->fire(); }));
  }
  log_event(LogLevel::kInfo, "execute_start", described);
  if (job_cancelled(id)) {
    for (const auto& generation : setup.generations) generation->cancel();
  }
  const bool streams = prepared.stream;
  prepared.choices.clear();
  setup.request = std::move(prepared);
  if (streams) return stream_reply(make_completion_stream(std::move(head), std::move(setup)));
  Reply reply;
  reply.pending = make_completion_reply(std::move(head), std::move(setup));
  return reply;
}

}  // namespace orcd::server
