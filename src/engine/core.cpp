#include "engine/core.h"

#include <algorithm>
#include <utility>

#include "kv/layout.h"

namespace orcd::engine {
namespace {

double ms(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

uint32_t longest(const device::ResolvedLimits& limits) {
  const uint64_t positions = uint64_t{limits.kv_pages} * kv::kPagePositions;
  return static_cast<uint32_t>(std::min<uint64_t>(limits.context, positions));
}

}  // namespace

// A job that has been taken in and has not ended.
struct Core::Active {
  Active(std::shared_ptr<Job> job_in, kv::PagePool& pool, const tokenizer::Tokenizer& tokenizer,
         const std::optional<HarmonyTokens>& harmony, uint32_t max_length)
      : job(std::move(job_in)),
        vocabulary(&tokenizer),
        sequence(pool, job->request.prompt_tokens, max_length),
        text(tokenizer, job->request.prompt_tokens, job->request.special_text),
        stops(job->request.stop) {
    sequence.wants_rows = job->request.top_logprobs.has_value();
    if (harmony && job->request.split_channels)
      channels.emplace(tokenizer, *harmony, job->request.prompt_tokens);
  }

  uint32_t n_out() const {
    return static_cast<uint32_t>(sequence.tokens.size() - job->request.prompt_tokens.size());
  }

  std::shared_ptr<Job> job;
  const tokenizer::Tokenizer* vocabulary;
  Sequence sequence;
  uint32_t cached_tokens = 0;
  // The text that a token completes; stop strings are looked for in the answer alone.
  TokenEvent event(int32_t id, uint32_t index) {
    if (!channels) {
      TokenEvent plain{stops.push(piece_of(id)), id, index};
      plain.holds_back = text.holds_back() || stops.holds_back();
      return plain;
    }
    std::string piece = channels->push(id);
    const TextKind kind = channels->header().kind();
    if (kind == TextKind::kAnswer) piece = stops.push(piece);
    // No stop string goes on in the next message.
    if (!channels->in_message() && !stops.matched()) piece += stops.finish();
    return {std::move(piece), id, index, kind, channels->header().recipient};
  }
  std::string piece_of(int32_t id) {
    const std::vector<int32_t>& shown = job->request.shown_tokens;
    if (std::find(shown.begin(), shown.end(), id) == shown.end()) return text.push(id);
    return text.finish() + std::string(vocabulary->token_text(id));
  }
  // What is left at the end.
  std::string finish(TextKind* kind) {
    *kind = TextKind::kAnswer;
    if (!channels) return stops.push(text.finish());
    std::string rest = channels->finish();
    *kind = channels->header().kind();
    return *kind == TextKind::kAnswer ? stops.push(rest) : rest;
  }

  tokenizer::Detokenizer text;
  std::optional<HarmonyParser> channels;
  StopMatcher stops;
  numerics::Digest digest;  // chained over the sampled rows
  uint32_t n_rows = 0;
  Time started{}, first_token{}, last_token{};
  bool has_started = false, ended = false;
};

Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::exception& error) {
    return Error(ErrorCode::kInternal, error.what(), {}, "see the worker's log");
  } catch (...) {
    return Error(ErrorCode::kInternal, "an exception of unknown type", {}, "see the worker's log");
  }
}

Core::Core(device::Executor& executor, const tokenizer::Tokenizer& tokenizer, CoreOptions options,
           Counters* counters)
    : executor_(executor),
      tokenizer_(tokenizer),
      harmony_(HarmonyTokens::find(tokenizer)),
      options_(std::move(options)),
      counters_(counters),
      max_length_(longest(executor.limits())),
      pool_(executor.limits().kv_pages),
      scheduler_(pool_, executor.limits(), executor.pipeline_depth()),
      pacer_(executor.limits().slots, executor.limits().batch_tokens, options_.target_step_seconds) {}

Core::~Core() {
  try {
    end_all(Error(ErrorCode::kCancelled, "the engine was stopped"));
  } catch (...) {
    abandon_all();
  }
}

void Core::check(const Request& request) const {
  const uint64_t n = request.prompt_tokens.size();
  if (n == 0) throw Error(ErrorCode::kInvalidRequest, "the prompt has no tokens", {{"param", "prompt"}});
  if (request.max_tokens == 0)
    throw Error(ErrorCode::kInvalidRequest, "max_tokens must be at least 1", {{"param", "max_tokens"}});
  for (const int32_t id : request.prompt_tokens) {
    if (id < 0 || id >= tokenizer_.vocab_size()) {
      throw Error(ErrorCode::kInvalidRequest, "the prompt holds a token outside the vocabulary",
                  {{"param", "prompt"}, {"token", int64_t{id}}, {"vocab", int64_t{tokenizer_.vocab_size()}}});
    }
  }
  const device::ResolvedLimits& limits = executor_.limits();
  if (n + 1 > limits.context) {
    throw Error(ErrorCode::kInvalidRequest, "the prompt does not fit the context",
                {{"param", "prompt"}, {"n_prompt_tokens", n}, {"n_ctx", uint64_t{limits.context}}},
                "shorten the prompt, or start the worker with a larger --ctx");
  }
  if (n + 1 > max_length_) {
    throw Error(ErrorCode::kVramOom, "the prompt needs more KV pages than there are",
                {{"required_pages", uint64_t{kv::pages_for(n + 1)}},
                 {"available_pages", uint64_t{limits.kv_pages}},
                 {"n_prompt_tokens", n}},
                "shorten the prompt, or give the KV cache more memory (--kv-cache-size-mb)");
  }
}

void Core::add(std::shared_ptr<Job> job) {
  const uint64_t wanted = job->request.prompt_tokens.size() + uint64_t{job->request.max_tokens};
  const auto length = static_cast<uint32_t>(std::min<uint64_t>(wanted, max_length_));
  active_.push_back(std::make_unique<Active>(std::move(job), pool_, tokenizer_, harmony_, length));
  try {
    scheduler_.add(&active_.back()->sequence);
  } catch (...) {
    active_.pop_back();
    throw;
  }
  counters_->prompt_tokens += active_.back()->job->request.prompt_tokens.size();
  if (broken_) fail(*active_.back(), *broken_);
  bury();
  publish_counters();
}

bool Core::turn() {
  sweep();
  bool worked = false;
  while (submit_one()) worked = true;
  publish_counters();  // collecting waits for the device
  if (scheduler_.n_in_flight() > 0) {
    collect_one();
    worked = true;
  }
  bury();
  publish_counters();
  return worked;
}

void Core::drain() {
  while (scheduler_.n_in_flight() > 0) collect_one();
  bury();
  publish_counters();
}

void Core::sweep() {
  const Time now = options_.clock();
  for (const auto& active : active_) {
    if (active->ended) continue;
    const Job& job = *active->job;
    active->sequence.paused = job.channel->behind();
    if (job.cancelled || job.channel->reader_gone()) {
      fail(*active, Error(ErrorCode::kCancelled, "the request was cancelled"));
    } else if (now >= job.request.deadline) {
      fail(*active, Error(ErrorCode::kInferenceTimeout, "the request took longer than it may",
                          {{"elapsed_ms", ms(now - job.arrived)},
                           {"limit_ms", ms(job.request.deadline - job.arrived)},
                           {"tokens_out", uint64_t{active->n_out()}}},
                          "ask for fewer tokens, or raise --inference-timeout-sec"));
    }
  }
  bury();
}

bool Core::submit_one() {
  Batch* batch = scheduler_.plan(pacer_.budget());
  if (batch == nullptr) return false;
  const Time now = options_.clock();
  if (scheduler_.n_in_flight() == 1) step_started_ = now;
  try {
    for (Sequence* sequence : batch->begun) {
      Active& active = find(sequence);
      if (!std::exchange(active.has_started, true)) {
        active.started = now;
        active.cached_tokens = sequence->n_written;  // nothing of it has been computed yet
        active.job->channel->push(
            StartedEvent{std::chrono::system_clock::now(), active.job->request.sampling.seed});
      }
      executor_.begin_sequence(static_cast<uint32_t>(sequence->slot), active.job->request.sampling,
                               sequence->tokens);
    }
    executor_.submit(batch->steps);
  } catch (...) {
    const Error error = current_error();
    const std::unique_ptr<Batch> dropped = scheduler_.drop_newest();
    fail_batch(*dropped, error);
    // Those admitted with it whose turn to compute had not come: begin_sequence may not have reached them.
    for (const Sequence* sequence : dropped->begun) {
      Active& active = find(sequence);
      if (!active.ended) fail(active, error);
    }
  }
  return true;
}

void Core::collect_one() {
  std::span<const device::SequenceResult> results;
  std::optional<Error> error;
  try {
    results = executor_.collect();
    if (results.size() != scheduler_.front().entries.size()) {
      throw Error(
          ErrorCode::kInternal, "a step gave results for another number of sequences",
          {{"steps", uint64_t{scheduler_.front().entries.size()}}, {"results", uint64_t{results.size()}}});
    }
  } catch (...) {
    error = current_error();
  }
  const Time now = options_.clock();
  if (error) {
    // What the step wrote is unknown: its sequences end before their pages could be found by others.
    fail_batch(scheduler_.front(), *error);
    scheduler_.complete();
    return;
  }
  counters_->failed_steps = 0;
  const std::unique_ptr<Batch> batch = scheduler_.complete();
  pacer_.measured(batch->n_tokens, std::chrono::duration<double>(now - step_started_).count());
  counters_->busy_nanoseconds += static_cast<uint64_t>((now - step_started_).count());
  step_started_ = now;
  for (size_t i = 0; i < results.size(); ++i) {
    const Batch::Entry& entry = batch->entries[i];
    if (entry.sequence != nullptr && entry.samples) accept(find(entry.sequence), results[i]);
  }
}

void Core::accept(Active& active, const device::SequenceResult& result) {
  if (result.non_finite) {
    fail(active,
         Error(ErrorCode::kInternal, "the model's logits are not finite",
               {{"position", uint64_t{active.sequence.tokens.size()}}}, "the model file may be damaged"));
    return;
  }
  numerics::digest_chain(&active.digest, numerics::digest_of_only_row(result.logits_digest));
  ++active.n_rows;
  const Time now = options_.clock();
  if (active.n_out() == 0) active.first_token = now;
  active.last_token = now;
  const auto ends = tokenizer_.end_ids();
  if (!active.job->request.ignore_end && std::find(ends.begin(), ends.end(), result.token) != ends.end()) {
    finish(active, StopReason::kEnd);
    return;
  }
  const uint32_t index = active.n_out();
  active.sequence.tokens.push_back(result.token);
  ++counters_->tokens_generated;
  TokenEvent event = active.event(result.token, index);
  if (const auto& n_top = active.job->request.top_logprobs)
    event.logprobs = token_logprobs(result.rows, result.token, *n_top);
  active.job->channel->push(std::move(event));
  if (active.stops.matched()) {
    finish(active, StopReason::kStopString);
  } else if (active.n_out() >= active.job->request.max_tokens) {
    finish(active, StopReason::kMaxTokens);
  } else if (active.sequence.tokens.size() >= max_length_) {
    finish(active, StopReason::kContext);
  }
}

void Core::finish(Active& active, StopReason reason) {
  const Request& request = active.job->request;
  EndEvent event{};
  event.tail = active.finish(&event.tail_kind);
  if (active.stops.matched()) {
    reason = StopReason::kStopString;
    event.matched_stop = active.stops.matched_text();
  } else {
    event.tail += active.stops.finish();
  }
  event.reason = reason;
  event.prompt_tokens = static_cast<uint32_t>(request.prompt_tokens.size());
  event.tokens_out = active.n_out();
  event.cached_tokens = active.cached_tokens;
  event.queue_ms = ms(active.started - active.job->arrived);
  event.prefill_ms = ms(active.first_token - active.started);
  event.decode_ms = ms(active.last_token - active.first_token);
  event.first_token_ms = ms(active.first_token - active.job->arrived);
  event.receipt.model_digest = options_.model_digest;
  event.receipt.logits_digest = hex_digest(active.digest);
  event.receipt.logits_rows = active.n_rows;
  event.receipt.sampling = request.sampling;
  ++counters_->requests_ok;
  end(active, std::move(event));
}

void Core::fail(Active& active, const Error& error) {
  ++(error.code() == ErrorCode::kCancelled ? counters_->requests_cancelled : counters_->requests_error);
  release(active);
  try {
    active.job->channel->push_terminal(ErrorEvent{error});
  } catch (const std::bad_alloc&) {
    active.job->channel->push_out_of_memory();
  }
}

void Core::end(Active& active, Event event) {
  release(active);
  try {
    active.job->channel->push_terminal(std::move(event));
  } catch (const std::bad_alloc&) {
    active.job->channel->push_out_of_memory();
  }
}

// Pages and slot go back before the reader can know that the request has ended.
void Core::release(Active& active) {
  scheduler_.remove(&active.sequence);
  active.ended = true;
  publish_counters();
  if (options_.ended) options_.ended(*active.job);
}

// A lost device is known before a reader hears of it.
void Core::fail_batch(const Batch& batch, const Error& error) {
  if (error.code() == ErrorCode::kCudaError) ++counters_->failed_steps;
  device_failed(error);
  for (const Batch::Entry& entry : batch.entries) {
    if (entry.sequence == nullptr) continue;
    Active& active = find(entry.sequence);
    if (!active.ended) fail(active, error);
  }
}

void Core::device_failed(const Error& error) {
  if (broken_ || !executor_.lost()) return;
  broken_ = error;
  if (options_.lost) options_.lost(error);
  counters_->healthy = false;
  for (const auto& active : active_) {
    if (!active->ended) fail(*active, error);
  }
}

std::vector<device::Executor::Residency> Core::check_residency() {
  drain();
  try {
    auto arenas = executor_.check_residency();
    if (counters_->failed_steps >= kFailingSteps) counters_->failed_steps = kFailingSteps - 1;
    return arenas;
  } catch (...) {
    device_failed(current_error());
    throw;
  }
}

void Core::end_all(const Error& error) {
  for (const auto& active : active_) {
    if (!active->ended) fail(*active, error);
  }
  drain();
}

// What the executor says of the steps does not matter any more; that they have ended does.
void Core::abandon_all() noexcept {
  for (const auto& active : active_) {
    if (active->ended) continue;
    ++counters_->requests_error;
    release(*active);
    active->job->channel->push_out_of_memory();
  }
  while (scheduler_.n_in_flight() > 0) {
    try {
      executor_.collect();
    } catch (...) {
      if (!broken_ && executor_.lost()) counters_->healthy = false;
    }
    scheduler_.forget_oldest();
  }
  bury();
  publish_counters();
}

Core::Active& Core::find(const Sequence* sequence) {
  for (const auto& active : active_) {
    if (&active->sequence == sequence) return *active;
  }
  throw Error(ErrorCode::kInternal, "a step names a sequence that the engine does not have");
}

void Core::bury() {
  std::erase_if(active_, [](const std::unique_ptr<Active>& active) { return active->ended; });
}

Time Core::next_deadline() const {
  Time next = Time::max();
  for (const auto& active : active_) next = std::min(next, active->job->request.deadline);
  return next;
}

void Core::publish_counters() {
  counters_->running = scheduler_.n_running();
  counters_->waiting = scheduler_.n_waiting();
  counters_->set_aside = scheduler_.n_set_aside();
  counters_->kv_pages_used = pool_.n_in_use();
  counters_->prefix_queries = scheduler_.prefix_queries();
  counters_->prefix_hits = scheduler_.prefix_hits();
  counters_->n_preemptions = scheduler_.n_preemptions();
}

}  // namespace orcd::engine
