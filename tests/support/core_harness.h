// The engine's core on the fake executor under a clock that tests move.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/core.h"
#include "support/fake_executor.h"
#include "support/fake_tokenizer.h"

namespace orcd::test {

inline std::vector<int32_t> prompt_of(uint32_t n, uint32_t first = 3, uint32_t n_vocab = 100) {
  std::vector<int32_t> out(n);
  for (uint32_t i = 0; i < n; ++i) out[i] = static_cast<int32_t>(3 + (first + i * 7) % (n_vocab - 3));
  return out;
}

// The tokens a request must get, whatever else runs.
inline std::vector<int32_t> expected_tokens(const FakeOptions& options, const engine::Request& request,
                                            uint32_t max_length) {
  std::vector<int32_t> all = request.prompt_tokens;
  while (all.size() < std::min<uint64_t>(request.prompt_tokens.size() + request.max_tokens, max_length)) {
    const int32_t token = fake_next(options, request.sampling, all);
    if (token == options.end_id && !request.ignore_end) break;
    all.push_back(token);
  }
  return {all.begin() + static_cast<ptrdiff_t>(request.prompt_tokens.size()), all.end()};
}

// What a reader has taken from a channel.
struct Reader {
  std::shared_ptr<engine::Job> job;
  std::vector<int32_t> tokens;
  std::vector<std::vector<engine::TokenLogprob>> logprobs;  // by token
  std::string text;
  int n_started = 0, n_terminal = 0;
  std::optional<engine::EndEvent> end;
  std::optional<Error> error;

  bool read_one() {
    const auto event = job->channel->try_pop();
    if (!event) return false;
    if (std::holds_alternative<engine::StartedEvent>(*event)) ++n_started;
    if (const auto* token = std::get_if<engine::TokenEvent>(&*event)) {
      tokens.push_back(token->id);
      logprobs.push_back(token->logprobs);
      text += token->text;
    }
    if (const auto* e = std::get_if<engine::EndEvent>(&*event)) {
      ++n_terminal;
      text += e->tail;
      end = *e;
    }
    if (const auto* e = std::get_if<engine::ErrorEvent>(&*event)) {
      ++n_terminal;
      error = e->error;
    }
    return true;
  }
  void read_all() {
    while (read_one()) {
    }
  }
};

struct CoreHarness {
  explicit CoreHarness(FakeOptions options_in = {}, std::vector<std::string> pieces = {})
      : options(options_in),
        executor(options),
        tokenizer(static_cast<int32_t>(options.n_vocab), std::move(pieces), options.end_id) {
    engine::CoreOptions core_options;
    core_options.model_digest = "model";
    core_options.clock = [this] { return now; };
    core_options.ended = [this](const engine::Job& job) { ended.push_back(job.request.id); };
    core = std::make_unique<engine::Core>(executor, tokenizer, core_options, &counters);
  }

  engine::Request request(std::vector<int32_t> prompt, uint32_t max_tokens) {
    engine::Request out;
    out.id = "job-";
    out.id += std::to_string(n_requests++);
    out.prompt_tokens = std::move(prompt);
    out.max_tokens = max_tokens;
    return out;
  }
  Reader add(engine::Request request, size_t capacity = 1000) {
    core->check(request);
    auto job = std::make_shared<engine::Job>();
    job->request = std::move(request);
    job->channel = std::make_shared<engine::Channel>(capacity);
    job->arrived = now;
    core->add(job);
    return {.job = job, .tokens = {}, .logprobs = {}, .text = {}, .end = {}, .error = {}};
  }
  // Turns until nothing can run; each takes 1 ms of the clock.
  uint32_t run() {
    uint32_t turns = 0;
    for (; core->turn() && turns < 100000; ++turns) now += std::chrono::milliseconds(1);
    return turns;
  }
  std::vector<int32_t> expected(const engine::Request& request) const {
    return expected_tokens(options, request, core->max_length());
  }

  FakeOptions options;
  engine::Time now{};
  std::vector<std::string> ended;
  FakeExecutor executor;
  FakeTokenizer tokenizer;
  engine::Counters counters;
  std::unique_ptr<engine::Core> core;
  uint32_t n_requests = 0;
};

}  // namespace orcd::test
