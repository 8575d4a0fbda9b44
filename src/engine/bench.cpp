#include "engine/bench.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "kv/layout.h"

namespace orcd::engine {
namespace {

using device::LogitsMode;
using device::SequenceStep;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 != 0 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

class Bench {
 public:
  Bench(device::Executor& executor, uint32_t n_vocab) : executor_(executor), n_vocab_(n_vocab) {}

  // Seconds to put n tokens of `slot` in the cache from position `first`, sampling after the last.
  double prefill(uint32_t slot, uint32_t first, uint32_t n, std::span<const uint32_t> pages) {
    const std::vector<int32_t> tokens = tokens_from(first, n);
    const auto start = Clock::now();
    const uint32_t chunk = executor_.limits().batch_tokens;
    for (uint32_t at = 0; at < n; at += chunk) {
      SequenceStep step;
      step.slot = slot;
      step.first_position = first + at;
      step.tokens = std::span(tokens).subspan(at, std::min(chunk, n - at));
      step.pages = pages;
      step.sample = at + chunk >= n;
      step.logits = step.sample ? LogitsMode::kLast : LogitsMode::kNone;
      run({step});
    }
    return seconds_since(start);
  }

  // Seconds to decode n tokens of each sequence from position `first`, as many steps in flight as the device
  // takes.
  double decode(uint32_t first, uint32_t n, const std::vector<std::vector<uint32_t>>& pages) {
    const uint32_t depth = executor_.pipeline_depth();
    std::vector<std::vector<SequenceStep>> in_flight(depth);
    const auto start = Clock::now();
    for (uint32_t i = 0; i < n + depth - 1; ++i) {
      if (i < n) {
        std::vector<SequenceStep>& steps = in_flight[i % depth];
        steps.clear();
        for (uint32_t slot = 0; slot < pages.size(); ++slot) {
          SequenceStep step;
          step.slot = slot;
          step.first_position = first + i;
          step.pages = pages[slot];
          step.logits = LogitsMode::kLast;
          step.sample = true;
          steps.push_back(step);
        }
        executor_.submit(steps);
      }
      if (i + 1 >= depth) executor_.collect();
    }
    return seconds_since(start);
  }

  void begin(uint32_t slot) {
    sampling::SamplingParams greedy;
    greedy.temperature = 0;
    executor_.begin_sequence(slot, greedy, {});
  }

 private:
  std::vector<int32_t> tokens_from(uint32_t first, uint32_t n) const {
    std::vector<int32_t> tokens(n);
    for (uint32_t i = 0; i < n; ++i)
      tokens[i] = static_cast<int32_t>((uint64_t{first} + i) * 7919 % n_vocab_);
    return tokens;
  }
  void run(const std::vector<SequenceStep>& steps) {
    executor_.submit(steps);
    executor_.collect();
  }

  device::Executor& executor_;
  uint32_t n_vocab_;
};

}  // namespace

uint64_t bench_positions(const BenchOptions& options) {
  return options.depth + std::max<uint64_t>(options.prompt_tokens, uint64_t{options.gen_tokens} + 1);
}

BenchResult bench(device::Executor& executor, uint32_t n_vocab, const BenchOptions& options) {
  const device::ResolvedLimits& limits = executor.limits();
  const uint32_t most =
      options.batch.empty() ? 1 : *std::max_element(options.batch.begin(), options.batch.end());
  if (options.prompt_tokens == 0 && options.gen_tokens == 0)
    throw Error(ErrorCode::kInvalidRequest, "there is nothing to measure", {}, "give -p or -n more than 0");
  const uint64_t positions = bench_positions(options);
  const uint64_t pages_each = kv::pages_for(positions);
  if (positions > limits.context || most > limits.slots || most > limits.batch_tokens ||
      most * pages_each > limits.kv_pages || options.repetitions == 0 || most == 0) {
    throw Error(ErrorCode::kInvalidRequest, "the benchmark asked for does not fit the limits",
                {{"positions", positions},
                 {"n_ctx", uint64_t{limits.context}},
                 {"sequences", uint64_t{most}},
                 {"slots", uint64_t{limits.slots}},
                 {"batch_tokens", uint64_t{limits.batch_tokens}},
                 {"pages", most * pages_each},
                 {"kv_pages", uint64_t{limits.kv_pages}}},
                "lower -p, -n, --depth or --batch, or raise --ctx, --slots and --batch-tokens");
  }
  std::vector<std::vector<uint32_t>> pages(most);
  for (uint32_t slot = 0; slot < most; ++slot) {
    for (uint32_t page = 0; page < pages_each; ++page) {
      pages[slot].push_back(slot * static_cast<uint32_t>(pages_each) + page);
    }
  }
  Bench run(executor, n_vocab);
  for (uint32_t slot = 0; slot < most; ++slot) {
    run.begin(slot);
    run.prefill(slot, 0, options.depth + 1, pages[slot]);  // the cache's depth, and a token to go on from
  }
  BenchResult result;
  std::vector<double> seconds;
  if (options.prompt_tokens > 0) {
    run.prefill(0, options.depth, options.prompt_tokens, pages[0]);  // warm
    for (uint32_t i = 0; i < options.repetitions; ++i) {
      seconds.push_back(run.prefill(0, options.depth, options.prompt_tokens, pages[0]));
    }
    result.prefill_tokens_per_s = options.prompt_tokens / median(seconds);
  }
  if (options.gen_tokens == 0) return result;
  const auto decode_speed = [&](uint32_t n) {
    const std::vector<std::vector<uint32_t>> some(pages.begin(), pages.begin() + n);
    seconds.clear();
    for (uint32_t i = 0; i < options.repetitions; ++i) {
      seconds.push_back(run.decode(options.depth + 1, options.gen_tokens, some));
    }
    return static_cast<double>(n) * options.gen_tokens / median(seconds);
  };
  result.decode_tokens_per_s = decode_speed(1);
  for (const uint32_t n : options.batch) {
    result.batch.push_back({n, n == 1 ? result.decode_tokens_per_s : decode_speed(n)});
  }
  return result;
}

uint64_t kv_bytes_per_token(const model::Program& program, uint32_t position) {
  uint64_t bytes = 0;
  for (const model::LayerSpec& layer : program.spec.layers) {
    const uint64_t seen =
        layer.window == 0 ? uint64_t{position} + 1 : std::min<uint64_t>(layer.window, uint64_t{position} + 1);
    bytes += (seen + 1) * layer.n_kv_heads * layer.head_dim * 2 * 2;
  }
  return bytes;
}

}  // namespace orcd::engine
