#include "engine/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "kv/layout.h"

namespace orcd::engine {
namespace {

using device::LogitsMode;
using device::SequenceStep;

double negative_log_likelihood(std::span<const float> row, int32_t target) {
  const double max = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float logit : row) sum += std::exp(static_cast<double>(logit) - max);
  return max + std::log(sum) - static_cast<double>(row[static_cast<size_t>(target)]);
}

// One window on its way through the executor.
struct Window {
  std::span<const int32_t> tokens;
  std::vector<uint32_t> pages;
  uint32_t done = 0;
  double nll = 0;
  std::vector<numerics::Digest> rows;
};

}  // namespace

PerplexityResult perplexity(device::Executor& executor, uint32_t n_vocab, std::span<const int32_t> tokens,
                            const PerplexityOptions& options) {
  const device::ResolvedLimits& limits = executor.limits();
  const uint32_t pages_each = kv::pages_for(options.window);
  if (tokens.size() < 2 || options.window < 2 || options.window > limits.context ||
      pages_each > limits.kv_pages) {
    throw Error(ErrorCode::kInvalidRequest,
                "perplexity needs at least two tokens and a window that fits the context",
                {{"tokens", uint64_t{tokens.size()}},
                 {"window", uint64_t{options.window}},
                 {"n_ctx", uint64_t{limits.context}}},
                "give a longer text or set --ctx");
  }
  const uint32_t in_flight = std::max(1u, std::min({options.batch, limits.slots, limits.kv_pages / pages_each,
                                                    limits.logits_rows, limits.batch_tokens}));
  const uint32_t most = std::max(1u, std::min(limits.batch_tokens, limits.logits_rows) / in_flight);
  const uint32_t chunk = options.chunk == 0 ? most : std::min(options.chunk, most);

  const auto start = std::chrono::steady_clock::now();
  PerplexityResult result;
  for (size_t at = 0; at + 2 <= tokens.size();) {
    std::vector<Window> windows;
    for (; windows.size() < in_flight && at + 2 <= tokens.size(); at += options.window) {
      Window window;
      window.tokens = tokens.subspan(at, std::min<size_t>(options.window, tokens.size() - at));
      for (uint32_t page = 0; page < pages_each; ++page) {
        window.pages.push_back(static_cast<uint32_t>(windows.size()) * pages_each + page);
      }
      windows.push_back(std::move(window));
    }
    for (;;) {
      std::vector<SequenceStep> steps;
      for (uint32_t slot = 0; slot < windows.size(); ++slot) {
        const Window& window = windows[slot];
        const auto left = static_cast<uint32_t>(window.tokens.size()) - window.done;
        if (left == 0) continue;
        SequenceStep step;
        step.slot = slot;
        step.first_position = window.done;
        step.tokens = window.tokens.subspan(window.done, std::min(chunk, left));
        step.pages = window.pages;
        step.logits = LogitsMode::kAll;
        step.want_rows = true;
        steps.push_back(step);
      }
      if (steps.empty()) break;
      executor.submit(steps);
      for (const device::SequenceResult& got : executor.collect()) {
        if (got.non_finite) throw Error(ErrorCode::kInternal, "the model gave logits that are not finite");
        Window& window = windows[got.slot];
        for (size_t row = 0; row * n_vocab < got.rows.size(); ++row) {
          const std::span<const float> logits = got.rows.subspan(row * n_vocab, n_vocab);
          window.rows.push_back(numerics::digest_row(logits.data(), n_vocab));
          ++window.done;
          if (window.done < window.tokens.size())
            window.nll += negative_log_likelihood(logits, window.tokens[window.done]);
        }
      }
    }
    for (const Window& window : windows) {
      for (const numerics::Digest& row : window.rows) numerics::digest_chain(&result.logits_digest, row);
      result.nll += window.nll;
      result.tokens += window.tokens.size();
      result.predicted += window.tokens.size() - 1;
    }
  }
  result.ppl = std::exp(result.nll / static_cast<double>(result.predicted));
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace orcd::engine
