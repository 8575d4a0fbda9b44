#include "device/cpu/executor.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "device/cpu/state.h"
#include "device/residency.h"
#include "kv/layout.h"
#include "numerics/rope.h"
#include "sampling/sampler.h"

namespace orcd::cpu {
namespace {

using device::LogitsMode;
using device::SequenceResult;
using device::SequenceStep;

void fill_rope_tables(State& state) {
  for (size_t i = 0; i < state.program->ropes.size(); ++i) {
    const model::RopeSpec& rope = state.program->ropes[i];
    const numerics::RopeParams params = model::rope_params(rope);
    float* table = state.floats(state.plan.ropes[i]);
    const uint32_t n_threads = state.pool.n_threads();
    state.pool.run([&](uint32_t thread) {
      const uint64_t begin = uint64_t{state.limits.context} * thread / n_threads;
      const uint64_t end = uint64_t{state.limits.context} * (thread + 1) / n_threads;
      numerics::rope_table(params, begin, end - begin, table + begin * rope.n_dims);
    });
  }
}

Error internal(std::string message, ErrorValues values) {
  return Error(ErrorCode::kInternal, std::move(message), std::move(values));
}

class CpuExecutor final : public device::Executor {
 public:
  CpuExecutor(std::shared_ptr<const model::Program> program, const device::ResolvedLimits& limits,
              uint32_t n_threads, const Kernels& kernels, const device::Progress& progress)
      : state_(std::move(program), limits, n_threads, kernels, progress), runner_(state_) {
    expected_ = load_weights(state_, progress);
    fill_rope_tables(state_);
    const memory::Plan& plan = state_.plan.plan;
    for (const uint32_t item : state_.plan.slot_state) {
      samplers_.emplace_back(
          state_.program->spec.n_vocab,
          std::span(reinterpret_cast<std::byte*>(state_.item(item)), plan.items()[item].bytes));
    }
    last_token_.assign(limits.slots, -1);
    results_.reserve(limits.slots);
    row_of_result_.reserve(limits.slots);
    step_.rows.reserve(limits.batch_tokens);
    step_.logits_rows.reserve(limits.logits_rows);
  }

  void begin_sequence(uint32_t slot, const sampling::SamplingParams& params,
                      std::span<const int32_t> seen) override {
    if (slot >= samplers_.size()) throw internal("slot out of range", {{"slot", uint64_t{slot}}});
    samplers_[slot].begin(params, seen);
    last_token_[slot] = -1;
  }

  void submit(std::span<const SequenceStep> steps) override {
    if (pending_) throw internal("a step is still uncollected", {});
    prepare(steps);
    runner_.run(step_);
    finish(steps);
    pending_ = true;
  }

  std::span<const SequenceResult> collect() override {
    if (!pending_) throw internal("no step to collect", {});
    pending_ = false;
    return results_;
  }

  uint32_t pipeline_depth() const override { return 1; }
  const memory::Plan& plan() const override { return state_.plan.plan; }
  const memory::Ledger& ledger() const override { return state_.ledger; }
  const device::ResolvedLimits& limits() const override { return state_.limits; }

  std::vector<Residency> check_residency() override {
    const std::vector<numerics::Digest> now = digest_weights(state_);
    Residency residency;
    residency.arena = memory::category_name(memory::Category::kWeights);
    residency.pointer_type = "host";
    residency.bytes = state_.plan.plan.arena_bytes(memory::Category::kWeights);
    device::compare_weights(*state_.program, now, expected_, &residency);
    return {residency};
  }

 private:
  // Flattens the sequences into rows; checks what the kernels rely on.
  void prepare(std::span<const SequenceStep> steps) {
    step_.sequences = steps;
    step_.rows.clear();
    step_.logits_rows.clear();
    row_of_result_.clear();
    const device::ResolvedLimits& limits = state_.limits;
    for (uint32_t i = 0; i < steps.size(); ++i) {
      const SequenceStep& step = steps[i];
      if (step.slot >= limits.slots) throw internal("slot out of range", {{"slot", uint64_t{step.slot}}});
      const auto n = static_cast<uint32_t>(step.tokens.empty() ? 1 : step.tokens.size());
      const uint64_t end = uint64_t{step.first_position} + n;
      if (end > limits.context || step.pages.size() < kv::pages_for(end) ||
          step_.rows.size() + n > limits.batch_tokens) {
        throw internal("step outside the limits", {{"end", end},
                                                   {"context", uint64_t{limits.context}},
                                                   {"pages", uint64_t{step.pages.size()}},
                                                   {"batch_tokens", uint64_t{limits.batch_tokens}}});
      }
      for (const uint32_t page : step.pages.first(kv::pages_for(end))) {
        if (page >= limits.kv_pages) throw internal("page out of range", {{"page", uint64_t{page}}});
      }
      for (uint32_t t = 0; t < n; ++t) {
        const int32_t token = step.tokens.empty() ? last_token_[step.slot] : step.tokens[t];
        if (token < 0 || static_cast<uint32_t>(token) >= state_.program->spec.n_vocab) {
          throw internal("token out of range", {{"token", int64_t{token}}});
        }
        step_.rows.push_back({token, step.first_position + t, i});
      }
      const auto last = static_cast<uint32_t>(step_.rows.size());
      row_of_result_.push_back(static_cast<uint32_t>(step_.logits_rows.size()));
      const uint32_t wanted = step.logits == LogitsMode::kAll ? n : step.logits == LogitsMode::kLast ? 1 : 0;
      for (uint32_t row = last - wanted; row < last; ++row) step_.logits_rows.push_back(row);
    }
    if (step_.logits_rows.size() > limits.logits_rows) {
      throw internal("more logits rows than planned",
                     {{"rows", uint64_t{step_.logits_rows.size()}}, {"limit", uint64_t{limits.logits_rows}}});
    }
  }

  // Digests, checks and samples, rows split over the threads.
  void finish(std::span<const SequenceStep> steps) {
    results_.clear();
    for (const SequenceStep& step : steps) results_.push_back(SequenceResult{step.slot, -1, false, {}, {}});
    const uint32_t n_rows = static_cast<uint32_t>(step_.logits_rows.size());
    if (n_rows == 0) return;
    const uint64_t n_vocab = state_.program->spec.n_vocab;
    const float* logits = state_.floats(state_.plan.logits);
    const uint32_t n_threads = state_.pool.n_threads();
    partial_.assign(uint64_t{n_rows} * n_threads, {});
    bad_.assign(uint64_t{n_rows} * n_threads, 0);
    state_.pool.run([&](uint32_t thread) {
      const uint64_t pairs = (n_vocab + 1) / 2;
      const uint64_t begin = pairs * thread / n_threads * 2;
      const uint64_t end = std::min(pairs * (thread + 1) / n_threads * 2, n_vocab);
      for (uint32_t row = 0; row < n_rows; ++row) {
        numerics::Digest& digest = partial_[uint64_t{row} * n_threads + thread];
        bool bad = false;
        state_.kernels.digest(logits + row * n_vocab, n_vocab, begin, end, &digest.a, &digest.b, &bad);
        bad_[uint64_t{row} * n_threads + thread] = bad;
      }
      state_.pool.barrier().wait();
      for (size_t i = thread; i < steps.size(); i += n_threads) finish_sequence(steps[i], i, thread);
    });
  }

  void finish_sequence(const SequenceStep& step, size_t index, uint32_t thread) {
    if (step.logits == LogitsMode::kNone) return;
    const uint64_t n_vocab = state_.program->spec.n_vocab;
    const uint32_t n_threads = state_.pool.n_threads();
    const auto n_tokens = static_cast<uint32_t>(step.tokens.empty() ? 1 : step.tokens.size());
    const uint32_t n_rows = step.logits == LogitsMode::kAll ? n_tokens : 1;
    const uint32_t first = row_of_result_[index];
    SequenceResult& result = results_[index];
    for (uint32_t row = first; row < first + n_rows; ++row) {
      numerics::Digest digest;
      for (uint32_t part = 0; part < n_threads; ++part) {
        digest.a += partial_[uint64_t{row} * n_threads + part].a;
        digest.b += partial_[uint64_t{row} * n_threads + part].b;
        result.non_finite = result.non_finite || bad_[uint64_t{row} * n_threads + part] != 0;
      }
      numerics::digest_chain(&result.logits_digest, digest);
    }
    const float* rows = state_.floats(state_.plan.logits) + first * n_vocab;
    if (step.want_rows) result.rows = {rows, n_rows * n_vocab};
    if (!step.sample || result.non_finite) return;
    const uint32_t item = state_.plan.sample_scratch[thread];
    const std::span scratch(reinterpret_cast<std::byte*>(state_.item(item)),
                            state_.plan.plan.items()[item].bytes);
    const sampling::SampleResult drawn = samplers_[step.slot].sample(
        {rows + (n_rows - 1) * n_vocab, n_vocab}, uint64_t{step.first_position} + n_tokens, scratch);
    result.token = drawn.token;
    result.non_finite = drawn.non_finite;
    last_token_[step.slot] = drawn.token;
  }

  State state_;
  StepRunner runner_;
  Step step_;
  std::vector<numerics::Digest> expected_;
  std::vector<sampling::SlotSampler> samplers_;
  std::vector<int32_t> last_token_;
  std::vector<SequenceResult> results_;
  std::vector<uint32_t> row_of_result_;  // first logits row of each sequence
  std::vector<numerics::Digest> partial_;
  std::vector<uint8_t> bad_;
  bool pending_ = false;
};

}  // namespace

State::State(std::shared_ptr<const model::Program> program_in, const device::ResolvedLimits& limits_in,
             uint32_t n_threads, const Kernels& kernels_in, const device::Progress& progress)
    : program(std::move(program_in)),
      limits(limits_in),
      plan(*program, limits, n_threads),
      kernels(kernels_in),
      pool(n_threads) {
  const uint64_t weights_bytes = plan.plan.arena_bytes(memory::Category::kWeights);
  const auto look = [&] {
    if (progress) progress(0, weights_bytes);
  };
  arenas.reserve(memory::kCategoryCount);
  for (int c = 0; c < memory::kCategoryCount; ++c) {
    const auto category = static_cast<memory::Category>(c);
    arenas.emplace_back(category, plan.plan.arena_bytes(category), &ledger, look);
  }
}

std::unique_ptr<device::Executor> make_executor(std::shared_ptr<const model::Program> program,
                                                const device::ResolvedLimits& limits, uint32_t n_threads,
                                                const Kernels& kernels, const device::Progress& progress) {
  return std::make_unique<CpuExecutor>(std::move(program), limits, n_threads, kernels, progress);
}

}  // namespace orcd::cpu
