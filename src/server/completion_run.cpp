#include "server/completion_run.h"

#include <utility>
#include <variant>

#include "server/report_failure.h"

namespace orcd::server {

namespace {

TokenText text_of(const tokenizer::Tokenizer& tokenizer, const engine::TokenLogprob& token) {
  return {std::string(tokenizer.token_bytes(token.id, /*special=*/true)), token.logprob};
}

TokenText text_of(const tokenizer::Tokenizer& tokenizer, const std::vector<engine::TokenLogprob>& logprobs) {
  TokenText token = text_of(tokenizer, logprobs.front());
  for (size_t i = 1; i < logprobs.size(); ++i) token.top.push_back(text_of(tokenizer, logprobs[i]));
  return token;
}

}  // namespace

CompletionRun::CompletionRun(Setup setup) : setup_(std::move(setup)) {
  readers_.reserve(setup_.generations.size());
  for (size_t i = 0; i < setup_.generations.size(); ++i) readers_.emplace_back(setup_.request);
  summary_.job_id = setup_.job_id;
}

CompletionRun::~CompletionRun() {
  setup_.signal->listen({});
  setup_.generations.clear();
  try {
    finish();
  } catch (const std::exception& error) {
    report_failure("completion", error);
  }
}

double CompletionRun::seconds_since_arrival() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - setup_.arrived).count();
}

bool CompletionRun::read(CompletionSink* sink, const std::function<bool()>& goes_on) {
  bool found = true;
  while (found && !over_ && goes_on()) {
    found = false;
    for (size_t i = 0; i < setup_.generations.size() && !over_; ++i) {
      if (readers_[i].choice.ended()) continue;
      const std::optional<engine::Event> event = setup_.generations[i]->channel().try_pop();
      if (!event) continue;
      found = true;
      take(i, *event, sink);
    }
  }
  return !over_;
}

void CompletionRun::take(size_t index, const engine::Event& event, CompletionSink* sink) {
  if (const auto* failed = std::get_if<engine::ErrorEvent>(&event)) return fail(failed->error, sink);
  start(index, sink);
  if (const auto* end_event = std::get_if<engine::EndEvent>(&event)) return end(index, *end_event, sink);
  const auto* token = std::get_if<engine::TokenEvent>(&event);
  if (!token) return;
  Reader& reader = readers_[index];
  const double now = seconds_since_arrival();
  reader.choice.n_tokens() == 0 ? setup_.metrics->first_token(now)
                                : setup_.metrics->inter_token(now - reader.last_token_at);
  reader.last_token_at = now;
  if (!token->logprobs.empty()) sink->token(index, text_of(*setup_.tokenizer, token->logprobs));
  std::vector<engine::TurnPart> parts;
  reader.choice.add(*token, &parts);
  tell(index, std::move(parts), sink);
}

void CompletionRun::start(size_t index, CompletionSink* sink) {
  if (std::exchange(readers_[index].has_started, true)) return;
  sink->started(index);
  const std::vector<std::string>& echoes = setup_.request.echoes;
  if (echoes.empty() || echoes[index / setup_.request.n].empty()) return;
  sink->part(index, {engine::TurnPart::Kind::kContent, echoes[index / setup_.request.n]});
}

void CompletionRun::tell(size_t index, std::vector<engine::TurnPart> parts, CompletionSink* sink) {
  for (const engine::TurnPart& part : parts) sink->part(index, part);
}

void CompletionRun::end(size_t index, const engine::EndEvent& event, CompletionSink* sink) {
  CompletionChoice& choice = readers_[index].choice;
  std::vector<engine::TurnPart> parts;
  choice.end(event, &parts);
  tell(index, std::move(parts), sink);
  sink->ended(index, choice.finish_reason(), event);
  setup_.metrics->finished(event, seconds_since_arrival());
  if (++n_ended_ < readers_.size()) return;
  over_ = true;
  summary_.outcome = Outcome::kOk;
  summary_.end = readers_.front().choice.ended();
  sink->completed(usage());
  finish();
}

// One choice that fails takes the answer with it: a reply has one status.
void CompletionRun::fail(const Error& error, CompletionSink* sink) {
  over_ = true;
  setup_.generations.clear();
  summary_.outcome = outcome_of(error);
  summary_.error = error;
  sink->failed(error);
  finish();
}

CompletionUsage CompletionRun::usage() const {
  CompletionUsage usage;
  usage.prompt_tokens = setup_.request.prompt_tokens;
  for (size_t i = 0; i < readers_.size(); ++i) {
    const CompletionChoice& choice = readers_[i].choice;
    usage.completion_tokens += choice.n_tokens();
    usage.reasoning_tokens += choice.n_reasoning_tokens();
    if (i % setup_.request.n == 0) usage.cached_tokens += choice.ended()->cached_tokens;
  }
  return usage;
}

// The digest of several choices is that of their digests, by index.
void CompletionRun::finish() {
  if (!setup_.done) return;
  const auto done = std::exchange(setup_.done, {});
  summary_.total_ms = seconds_since_arrival() * 1e3;
  setup_.metrics->request_ended(summary_.outcome);
  Sha256 all;
  for (Reader& reader : readers_) {
    summary_.tokens_out += reader.choice.n_tokens();
    summary_.output_bytes += reader.choice.output_bytes();
    summary_.output_digest = reader.choice.output_digest();
    all.update(summary_.output_digest);
  }
  if (readers_.size() > 1) summary_.output_digest = all.finish();
  done(summary_);
}

}  // namespace orcd::server
