#include "device/cuda/executor.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "device/cuda/runner.h"
#include "device/residency.h"
#include "kv/layout.h"

namespace orcd::cuda {
namespace {

using device::LogitsMode;
using device::SequenceResult;
using device::SequenceStep;

constexpr uint32_t kMaxGraphTokens = 16;

Error internal(std::string message, ErrorValues values) {
  return Error(ErrorCode::kInternal, std::move(message), std::move(values));
}

class CudaExecutor final : public device::Executor {
 public:
  CudaExecutor(std::shared_ptr<Context> context, std::shared_ptr<const model::Program> program,
               const device::ResolvedLimits& limits, const device::Progress& progress)
      : state_(std::move(context), std::move(program), limits), runner_(state_) {
    expected_ = load_weights(state_, progress);
    for (InFlight& step : in_flight_) {
      step.results.reserve(limits.slots);
      step.rows.reserve(limits.slots);
    }
    try {
      runner_.prepare();
      record_graphs();
      state_.calls->synchronize("record the decode graphs");
    } catch (...) {
      destroy_graphs();
      throw;
    }
  }

  ~CudaExecutor() override {
    state_.calls->finish();
    destroy_graphs();
  }

  void begin_sequence(uint32_t slot, const sampling::SamplingParams& params,
                      std::span<const int32_t> seen) override {
    if (slot >= state_.limits.slots) throw internal("slot out of range", {{"slot", uint64_t{slot}}});
    state_.calls->use_device();
    recover();
    const uint32_t n_vocab = state_.program->spec.n_vocab, words = (n_vocab + 63) / 64 * 2;
    // The slot's pinned staging may still be on its way from an earlier begin; steps in flight are not waited
    // for.
    state_.calls->wait_event(state_.begun[slot]);
    interrupted_ = true;
    state_.slots[slot].params = params;
    uint32_t* bits = state_.seen + uint64_t{slot} * words;
    std::memset(bits, 0, words * 4);
    for (const int32_t id : seen)
      if (id >= 0 && static_cast<uint32_t>(id) < n_vocab) bits[id / 32] |= 1u << (id % 32);
    state_.calls->copy_to_device(state_.as<SlotState>(state_.plan.slots) + slot, state_.slots + slot,
                                 sizeof(SlotState), "sampling parameters of a slot");
    state_.calls->copy_to_device(state_.as<uint32_t>(state_.plan.seen) + uint64_t{slot} * words, bits,
                                 words * 4, "seen tokens of a slot");
    state_.calls->record(state_.begun[slot]);
    interrupted_ = false;
  }

  void submit(std::span<const SequenceStep> steps) override {
    if (n_in_flight_ == kDepth) throw internal("both steps are still uncollected", {});
    state_.calls->use_device();  // the engine thread is not the one that loaded
    recover();
    InFlight& step = in_flight_[next_];
    const StepShape shape = prepare(steps, &step);
    interrupted_ = true;
    Calls& calls = *state_.calls;
    calls.copy_to_device(state_.device_words(next_), state_.step_words[next_], state_.plan.layout.n_words * 4,
                         "step", Stream::kUpload);
    calls.record(state_.uploaded[next_], Stream::kUpload);
    calls.continue_after(state_.uploaded[next_], Stream::kCompute);
    if (shape.decode && shape.n_tokens <= graphs_[next_].size() && shape.n_rows == shape.n_tokens) {
      const bool persistent = persistent_graphs_[next_] && shape.n_tokens == 1 &&
                              runner_.can_persist(static_cast<uint32_t>(steps[0].first_position));
      calls.launch_graph(persistent ? persistent_graphs_[next_] : graphs_[next_][shape.n_tokens - 1]);
    } else {
      runner_.run(shape);
    }
    const uint64_t n_vocab = state_.program->spec.n_vocab;
    for (size_t i = 0; i < steps.size(); ++i) {
      const RowRange& rows = step.rows[i];
      if (!rows.wanted || rows.n == 0) continue;
      // Before the next step writes there.
      calls.copy_to_host(state_.rows[next_] + rows.first * n_vocab,
                         state_.floats(state_.plan.logits) + rows.first * n_vocab, rows.n * n_vocab * 4,
                         "logits rows");
    }
    calls.record(state_.ran[next_]);
    calls.continue_after(state_.ran[next_], Stream::kDownload);
    if (shape.n_rows != 0) {
      calls.copy_to_host(state_.results[next_], state_.published(next_), shape.n_rows * sizeof(RowResult),
                         "results of a step", Stream::kDownload);
    }
    calls.record(state_.done[next_], Stream::kDownload);
    interrupted_ = false;
    next_ = (next_ + 1) % kDepth;
    ++n_in_flight_;
  }

  std::span<const SequenceResult> collect() override {
    if (n_in_flight_ == 0) throw internal("no step to collect", {});
    const uint32_t index = (next_ + kDepth - n_in_flight_) % kDepth;
    --n_in_flight_;
    try {
      state_.calls->use_device();
      state_.calls->wait_event(state_.done[index]);
    } catch (...) {
      interrupted_ = true;  // it may still be running
      throw;
    }
    InFlight& step = in_flight_[index];
    const uint64_t n_vocab = state_.program->spec.n_vocab;
    for (size_t i = 0; i < step.results.size(); ++i) {
      SequenceResult& result = step.results[i];
      const RowRange& rows = step.rows[i];
      for (uint32_t row = rows.first; row < rows.first + rows.n; ++row) {
        const RowResult& from = state_.results[index][row];
        numerics::digest_chain(&result.logits_digest, from.digest);
        result.non_finite = result.non_finite || from.non_finite != 0;
        if (row + 1 == rows.first + rows.n) result.token = from.token;
      }
      if (result.non_finite) result.token = -1;
      if (rows.wanted) result.rows = {state_.rows[index] + rows.first * n_vocab, rows.n * n_vocab};
    }
    return step.results;
  }

  uint32_t pipeline_depth() const override { return kDepth; }
  bool lost() const override { return state_.calls->lost(); }
  const memory::Plan& plan() const override { return state_.plan.plan; }
  const memory::Ledger& ledger() const override { return state_.ledger; }
  const device::ResolvedLimits& limits() const override { return state_.limits; }

  std::vector<Residency> check_residency() override {
    state_.calls->use_device();
    const std::vector<numerics::Digest> now = digest_weights(state_);
    std::vector<Residency> all;
    for (int c = 0; c < memory::kCategoryCount; ++c) {
      if (!state_.arenas[c]) continue;
      const auto category = static_cast<memory::Category>(c);
      Residency residency;
      residency.arena = memory::category_name(category);
      residency.pointer_type = state_.calls->pointer_type(state_.arenas[c]);
      residency.in_place = residency.pointer_type == "device";
      residency.bytes = state_.plan.plan.arena_bytes(category);
      if (category == memory::Category::kWeights)
        device::compare_weights(*state_.program, now, expected_, &residency);
      all.push_back(std::move(residency));
    }
    return all;
  }

 private:
  struct RowRange {
    uint32_t first = 0, n = 0;
    bool wanted = false;
  };
  struct InFlight {
    std::vector<SequenceResult> results;
    std::vector<RowRange> rows;
  };

  // A call of a step has failed: a part of it may have run, or still be running. Then the pinned buffers are
  // the host's again only when the stream is idle, and what must be zero between steps is cleared.
  void recover() {
    if (!interrupted_) return;
    state_.calls->synchronize("recover from a failed step");
    state_.clear_between_steps();
    interrupted_ = false;
  }

  // Writes the step into its pinned words; checks what the kernels rely on.
  StepShape prepare(std::span<const SequenceStep> steps, InFlight* step) {
    step->results.clear();
    step->rows.clear();
    const device::ResolvedLimits& limits = state_.limits;
    const StepLayout& layout = state_.plan.layout;
    int32_t* words = state_.step_words[next_];
    StepShape shape;
    if (steps.size() > limits.slots)
      throw internal("more sequences than slots", {{"sequences", uint64_t{steps.size()}}});
    for (uint32_t i = 0; i < steps.size(); ++i) {
      const SequenceStep& one = steps[i];
      if (one.slot >= limits.slots) throw internal("slot out of range", {{"slot", uint64_t{one.slot}}});
      const auto n = static_cast<uint32_t>(one.tokens.empty() ? 1 : one.tokens.size());
      const uint64_t end = uint64_t{one.first_position} + n;
      const uint32_t wanted = one.logits == LogitsMode::kAll ? n : one.logits == LogitsMode::kLast ? 1 : 0;
      if (end > limits.context || one.pages.size() < kv::pages_for(end) ||
          shape.n_tokens + n > limits.batch_tokens || shape.n_rows + wanted > limits.logits_rows) {
        throw internal("step outside the limits", {{"end", end},
                                                   {"context", uint64_t{limits.context}},
                                                   {"pages", uint64_t{one.pages.size()}},
                                                   {"batch_tokens", uint64_t{limits.batch_tokens}},
                                                   {"logits_rows", uint64_t{limits.logits_rows}}});
      }
      for (uint32_t p = 0; p < kv::pages_for(end); ++p) {
        if (one.pages[p] >= limits.kv_pages)
          throw internal("page out of range", {{"page", uint64_t{one.pages[p]}}});
        words[layout.pages + uint64_t{i} * layout.page_stride + p] = static_cast<int32_t>(one.pages[p]);
      }
      for (uint32_t t = 0; t < n; ++t) {
        const int32_t token = one.tokens.empty() ? -1 - static_cast<int32_t>(one.slot) : one.tokens[t];
        if (!one.tokens.empty() &&
            (token < 0 || static_cast<uint32_t>(token) >= state_.program->spec.n_vocab))
          throw internal("token out of range", {{"token", int64_t{token}}});
        words[layout.token + shape.n_tokens] = token;
        words[layout.position + shape.n_tokens] = static_cast<int32_t>(one.first_position + t);
        words[layout.sequence + shape.n_tokens] = static_cast<int32_t>(i);
        ++shape.n_tokens;
      }
      SequenceResult result = {};
      result.slot = one.slot;
      result.token = -1;
      step->results.push_back(result);
      step->rows.push_back({shape.n_rows, wanted, one.want_rows});
      for (uint32_t row = 0; row < wanted; ++row) {
        const bool last = row + 1 == wanted;
        words[layout.row_token + shape.n_rows] = static_cast<int32_t>(shape.n_tokens - wanted + row);
        words[layout.row_slot + shape.n_rows] = last && one.sample ? static_cast<int32_t>(one.slot) : -1;
        ++shape.n_rows;
      }
    }
    if (shape.n_tokens == 0) throw internal("an empty step", {});
    // More tokens than that would not find room for their splits.
    shape.buffer = next_;
    shape.decode = shape.n_tokens == steps.size() && shape.n_tokens <= state_.plan.split_tokens;
    return shape;
  }

  cudaGraphExec_t record_graph(const StepShape& shape) {
    state_.calls->begin_capture();
    try {
      runner_.run(shape);
    } catch (...) {
      state_.calls->abort_capture();
      throw;
    }
    return state_.calls->end_capture();
  }

  // One graph for every number of sequences that decode together, one token and one logits row each, and
  // every buffer; for one sequence another one where a kernel takes all layers.
  void record_graphs() {
    const uint32_t most = std::min(
        {kMaxGraphTokens, state_.limits.slots, state_.limits.batch_tokens, state_.limits.logits_rows});
    for (uint32_t b = 0; b < kDepth; ++b) {
      for (uint32_t n = 1; n <= most; ++n)
        graphs_[b].push_back(record_graph({.n_tokens = n, .n_rows = n, .decode = true, .buffer = b}));
      if (most == 0 || !runner_.can_persist(0)) continue;
      persistent_graphs_[b] =
          record_graph({.n_tokens = 1, .n_rows = 1, .decode = true, .persistent = true, .buffer = b});
    }
  }

  void destroy_graphs() noexcept {
    for (uint32_t b = 0; b < kDepth; ++b) {
      for (cudaGraphExec_t graph : graphs_[b]) state_.calls->destroy_graph(graph);
      graphs_[b].clear();
      state_.calls->destroy_graph(std::exchange(persistent_graphs_[b], nullptr));
    }
  }

  State state_;
  Runner runner_;
  std::vector<numerics::Digest> expected_;
  std::vector<cudaGraphExec_t> graphs_[kDepth];     // [n - 1]
  cudaGraphExec_t persistent_graphs_[kDepth] = {};  // or nullptr
  InFlight in_flight_[kDepth];
  uint32_t next_ = 0, n_in_flight_ = 0;
  bool interrupted_ = false;
};

}  // namespace

std::unique_ptr<device::Executor> make_executor(std::shared_ptr<Context> context,
                                                std::shared_ptr<const model::Program> program,
                                                const device::ResolvedLimits& limits,
                                                const device::Progress& progress) {
  return std::make_unique<CudaExecutor>(std::move(context), std::move(program), limits, progress);
}

}  // namespace orcd::cuda
