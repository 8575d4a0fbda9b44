#include "server/execute_stream.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/units.h"
#include "server/error_reply.h"
#include "server/json_text.h"
#include "server/receipt.h"
#include "server/report_failure.h"

namespace orcd::server {
namespace {

using Json = nlohmann::ordered_json;

// Microseconds are what a clock can tell; more digits only make the stream longer.
double rounded_ms(double ms) { return std::round(ms * 1e3) / 1e3; }

}  // namespace

std::string sse_event(std::string_view name, std::string_view json) {
  std::string text = "event: ";
  text.append(name).append("\ndata: ").append(json).append("\n\n");
  return text;
}

ExecuteStream::ExecuteStream(Options options, std::unique_ptr<engine::Generation> generation,
                             std::shared_ptr<ReadySignal> signal, Metrics* metrics,
                             std::function<void(const StreamSummary&)> done)
    : options_(std::move(options)),
      generation_(std::move(generation)),
      signal_(std::move(signal)),
      metrics_(metrics),
      done_(std::move(done)) {
  summary_.job_id = options_.job_id;
}

ExecuteStream::~ExecuteStream() {
  signal_->listen({});
  generation_.reset();
  try {
    finish();
  } catch (const std::exception& error) {
    report_failure("stream", error);
  }
}

void ExecuteStream::on_ready(std::function<void()> notify) { signal_->listen(std::move(notify)); }

double ExecuteStream::seconds_since_arrival() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - options_.arrived).count();
}

bool ExecuteStream::next(std::string* out, size_t max_bytes) {
  const size_t begin = out->size();
  while (!ended_ && out->size() - begin < max_bytes) {
    const std::optional<engine::Event> event = generation_->channel().try_pop();
    if (!event) return true;
    std::visit([&](const auto& e) { add(e, out); }, *event);
  }
  return !ended_;
}

void ExecuteStream::add(const engine::StartedEvent& event, std::string* out) {
  started_ = true;
  const Json json = {{"job_id", options_.job_id},
                     {"model", options_.model},
                     {"started_at", utc_text(event.at)},
                     {"seed", event.seed}};
  *out += sse_event("started", dump(json));
}

void ExecuteStream::add_token(std::string_view text, uint64_t index, std::string* out) {
  output_digest_.update(text);
  summary_.output_bytes += text.size();
  const Json json = {{"t", text}, {"i", index}};
  *out += sse_event("token", dump(json));
}

void ExecuteStream::add_held(std::string_view tail, std::string* out) {
  if (!held_) return;
  const Held held = std::move(*std::exchange(held_, std::nullopt));
  add_token(held.text + std::string(tail), held.index, out);
}

void ExecuteStream::add(const engine::TokenEvent& event, std::string* out) {
  const double now = seconds_since_arrival();
  summary_.tokens_out++ == 0 ? metrics_->first_token(now) : metrics_->inter_token(now - last_token_at_);
  last_token_at_ = now;
  add_held({}, out);
  if (event.text.empty() || event.holds_back) {
    held_ = Held{event.text, event.index};
  } else {
    add_token(event.text, event.index, out);
  }
}

void ExecuteStream::add(const engine::EndEvent& event, std::string* out) {
  add_held(event.tail, out);
  const double total_seconds = seconds_since_arrival();
  const double tokens_per_s =
      event.decode_ms > 0 && event.tokens_out > 1 ? (event.tokens_out - 1) / event.decode_ms * 1e3 : 0;
  const Json metrics = {{"prompt_tokens", event.prompt_tokens},
                        {"tokens_out", event.tokens_out},
                        {"queue_ms", rounded_ms(event.queue_ms)},
                        {"prefill_ms", rounded_ms(event.prefill_ms)},
                        {"first_token_ms", rounded_ms(event.first_token_ms)},
                        {"decode_ms", rounded_ms(event.decode_ms)},
                        {"decode_tokens_per_s", rounded_ms(tokens_per_s)}};
  *out += sse_event("metrics", dump(metrics));
  const Json end = {{"tokens_out", event.tokens_out},
                    {"decode_time_ms", rounded_ms(event.decode_ms)},
                    {"stop_reason", engine::stop_reason_name(event.reason)},
                    {"seed", event.receipt.sampling.seed},
                    {"receipt", receipt_json(event)}};
  *out += sse_event("end", dump(end));
  ended_ = true;
  summary_.outcome = Outcome::kOk;
  summary_.end = event;
  metrics_->finished(event, total_seconds);
  finish();
}

void ExecuteStream::add(const engine::ErrorEvent& event, std::string* out) {
  if (!started_) add(engine::StartedEvent{std::chrono::system_clock::now(), options_.seed}, out);
  add_held({}, out);
  *out += sse_event("error", error_event_json(event.error));
  ended_ = true;
  summary_.outcome = outcome_of(event.error);
  summary_.error = event.error;
  finish();
}

void ExecuteStream::finish() {
  if (!done_) return;
  const auto done = std::exchange(done_, {});
  summary_.total_ms = seconds_since_arrival() * 1e3;
  metrics_->request_ended(summary_.outcome);
  summary_.output_digest = output_digest_.finish();
  done(summary_);
}

}  // namespace orcd::server
