// An executor without a model: every token follows from the tokens before it, and those are read back from
// the pages, so a page that is wrong, stale or not yet written is found at once.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "device/device.h"
#include "kv/layout.h"

namespace orcd::test {

struct FakeOptions {
  device::ResolvedLimits limits = {
      .context = 512, .slots = 4, .batch_tokens = 64, .logits_rows = 4, .kv_pages = 32};
  uint32_t depth = 1;
  uint32_t n_vocab = 100;
  uint32_t end_one_in = 0;  // one token in so many is `end_id`; 0 = never
  int32_t end_id = 2;
  uint64_t seed = 1;
};

// The token that follows these under the fake model: the oracle of every test.
inline int32_t fake_next(const FakeOptions& options, const sampling::SamplingParams& params,
                         std::span<const int32_t> tokens) {
  uint64_t h = options.seed;
  for (const int32_t token : tokens)
    h = numerics::mix64(h ^ (static_cast<uint64_t>(token) + 0x9e3779b97f4aull));
  h = numerics::mix64(h ^ params.seed);
  if (options.end_one_in != 0 && h % options.end_one_in == 0) return options.end_id;
  return static_cast<int32_t>(3 + (h >> 8) % (options.n_vocab - 3));
}

// The logits of the row after these tokens.
inline std::vector<float> fake_row(const FakeOptions& options, std::span<const int32_t> tokens) {
  std::vector<float> row(options.n_vocab);
  const auto h = static_cast<uint64_t>(fake_next(options, {}, tokens));
  for (size_t id = 0; id < row.size(); ++id)
    row[id] = static_cast<float>(numerics::mix64(h + id) % 64) / 8.0f;  // few values: ties
  return row;
}

class FakeExecutor final : public device::Executor {
 public:
  explicit FakeExecutor(FakeOptions options)
      : options_(options),
        pages_(options.limits.kv_pages, std::vector<int32_t>(kv::kPagePositions, kUnwritten)),
        slots_(options.limits.slots) {}

  // Hooks; they may throw what a device would. The count is that of the call, from 0.
  std::function<void(uint32_t call)> on_begin, on_submit, on_collect;
  std::function<bool(uint32_t slot)> non_finite;
  std::atomic<bool> is_lost = false;

  void begin_sequence(uint32_t slot, const sampling::SamplingParams& params,
                      std::span<const int32_t> seen) override {
    if (on_begin) on_begin(n_begins_);
    ++n_begins_;
    require(slot < slots_.size(), "slot out of range");
    for (const Work& work : in_flight_) {
      for (const device::SequenceStep& step : work.steps) require(step.slot != slot, "slot still in flight");
    }
    slots_[slot] = {params, std::vector<int32_t>(seen.begin(), seen.end()), -1, false};
  }

  void submit(std::span<const device::SequenceStep> steps) override {
    if (on_submit) on_submit(n_submits_);
    ++n_submits_;
    require(in_flight_.size() < options_.depth, "pipeline full");
    require(!steps.empty(), "an empty step");
    uint64_t n_tokens = 0, n_rows = 0;
    std::set<uint32_t> seen;
    for (const device::SequenceStep& step : steps) {
      const uint64_t n = step.tokens.empty() ? 1 : step.tokens.size();
      require(seen.insert(step.slot).second, "a slot twice in a step");
      require(step.first_position + n <= options_.limits.context, "beyond the context");
      require(step.pages.size() >= kv::pages_for(step.first_position + n), "too few pages");
      require(!step.sample || step.logits != device::LogitsMode::kNone, "sampling without logits");
      n_tokens += n;
      n_rows += step.logits == device::LogitsMode::kAll    ? n
                : step.logits == device::LogitsMode::kLast ? 1
                                                           : 0;
    }
    require(n_tokens <= options_.limits.batch_tokens, "too many tokens");
    require(n_rows <= options_.limits.logits_rows, "too many rows");
    max_tokens_in_step = std::max<uint64_t>(max_tokens_in_step, n_tokens);
    in_flight_.push_back({std::vector(steps.begin(), steps.end()), {}});
    for (std::vector<float>& row : rows_) std::ranges::fill(row, -1.0f);  // no longer valid
  }

  // The work is done here, so what a step points to must live until now.
  std::span<const device::SequenceResult> collect() override {
    const uint32_t call = n_collects_++;
    require(!in_flight_.empty(), "nothing to collect");
    const Work work = std::move(in_flight_.front());
    in_flight_.pop_front();
    try {
      if (on_collect) on_collect(call);
    } catch (...) {
      for (const device::SequenceStep& step : work.steps) slots_[step.slot].broken = true;
      throw;
    }
    results_.clear();
    rows_.clear();
    for (const device::SequenceStep& step : work.steps) results_.push_back(run(step));
    return results_;
  }

  uint32_t pipeline_depth() const override { return options_.depth; }
  bool lost() const override { return is_lost; }
  const memory::Plan& plan() const override { return plan_; }
  const memory::Ledger& ledger() const override { return ledger_; }
  const device::ResolvedLimits& limits() const override { return options_.limits; }
  std::vector<Residency> check_residency() override {
    require(in_flight_.empty(), "residency check between steps only");
    return {{"weights", "host", 1, {1, 2}, {1, 2}, "", true}};
  }

  uint64_t max_tokens_in_step = 0;

 private:
  static constexpr int32_t kUnwritten = -1;
  struct Work {
    std::vector<device::SequenceStep> steps;
    std::vector<device::SequenceResult> results;
  };
  struct Slot {
    sampling::SamplingParams params;
    std::vector<int32_t> seen;  // begin's tokens and what was drawn since
    int32_t last = -1;
    bool broken = false;  // its step failed: what was submitted since has no meaning
  };

  static void require(bool condition, const char* what) {
    if (condition) return;
    std::string message = "executor misused: ";
    message += what;
    throw std::logic_error(message);
  }

  device::SequenceResult run(const device::SequenceStep& step) {
    Slot& slot = slots_[step.slot];
    if (slot.broken) return {step.slot, -1, true, {}, {}};
    std::vector<int32_t> input(step.tokens.begin(), step.tokens.end());
    if (input.empty()) {
      require(slot.last >= 0, "no token was drawn before");
      input.push_back(slot.last);
    }
    uint32_t position = step.first_position;
    for (const int32_t token : input) {
      pages_[step.pages[position / kv::kPagePositions]][position % kv::kPagePositions] = token;
      ++position;
    }
    std::vector<int32_t> all;
    for (uint32_t p = 0; p < position; ++p) {
      all.push_back(pages_[step.pages[p / kv::kPagePositions]][p % kv::kPagePositions]);
      require(all.back() != kUnwritten, "reading an unwritten position");
      // The slot was told every token of its sequence, so it knows what the pages must hold.
      require(p >= slot.seen.size() || slot.seen[p] == all.back(), "a page of another sequence");
    }
    device::SequenceResult result{step.slot, -1, false, {}, {}};
    if (step.logits != device::LogitsMode::kNone) {
      const uint64_t h = static_cast<uint64_t>(fake_next(options_, {}, all));
      numerics::digest_chain(&result.logits_digest, {h * 77, h * 99});
    }
    if (!step.sample) return result;
    if (non_finite && non_finite(step.slot)) {
      result.non_finite = slot.broken = true;
      return result;
    }
    if (step.want_rows) result.rows = rows_.emplace_back(fake_row(options_, all));
    require(slot.seen.size() == all.size(), "sampling from the middle of a sequence");
    result.token = slot.last = fake_next(options_, slot.params, all);
    slot.seen.push_back(result.token);
    return result;
  }

  FakeOptions options_;
  std::vector<std::vector<int32_t>> pages_;  // the token at each position
  std::vector<Slot> slots_;
  std::deque<Work> in_flight_;
  std::vector<device::SequenceResult> results_;
  std::deque<std::vector<float>> rows_;  // of the step collected last
  memory::Plan plan_;
  memory::Ledger ledger_;
  uint32_t n_begins_ = 0, n_submits_ = 0, n_collects_ = 0;
};

}  // namespace orcd::test
