// Prompt and decode speed of an executor, as medians over repetitions.
#pragma once

#include <cstdint>
#include <vector>

#include "device/device.h"

namespace orcd::engine {

struct BenchOptions {
  uint32_t prompt_tokens = 512;       // 0: prefill is not measured
  uint32_t gen_tokens = 128;          // 0: decode is not measured
  uint32_t depth = 0;                 // positions already in the cache before the measured part
  std::vector<uint32_t> batch = {1};  // sequences decoded at once
  uint32_t repetitions = 5;
};

// Positions that each sequence needs: the depth, and behind it the prompt, or a token and those it leads to.
uint64_t bench_positions(const BenchOptions& options);

struct BenchBatch {
  uint32_t n;
  double tokens_per_s;  // all sequences together
};

struct BenchResult {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;  // one sequence
  std::vector<BenchBatch> batch;   // empty where decode is not measured
};

// Greedy, over token ids that depend on nothing but their position. Throws INVALID_REQUEST when the context,
// the slots or the pages do not hold what is asked, or nothing is asked.
BenchResult bench(device::Executor& executor, uint32_t n_vocab, const BenchOptions& options);

// KV bytes that a decode step at `position` reads and writes for one sequence, all layers (windows counted).
uint64_t kv_bytes_per_token(const model::Program& program, uint32_t position);

}  // namespace orcd::engine
