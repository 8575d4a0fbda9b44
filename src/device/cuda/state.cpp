#include "device/cuda/state.h"

#include "base/error.h"
#include "base/units.h"

namespace orcd::cuda {

State::State(std::shared_ptr<Context> context_in, std::shared_ptr<const model::Program> program_in,
             const device::ResolvedLimits& limits_in)
    : context(std::move(context_in)),
      program(std::move(program_in)),
      limits(limits_in),
      plan(*program, limits),
      calls(context->calls.get()) {
  try {
    for (int c = 0; c < memory::kCategoryCount; ++c) {
      const auto category = static_cast<memory::Category>(c);
      const uint64_t bytes = plan.plan.arena_bytes(category);
      if (bytes == 0) continue;
      arenas[c] = calls->allocate(&ledger, category, bytes);
      calls->set(arenas[c], 0, bytes, "clear an arena");
    }
    for (uint32_t i = 0; i < kDepth; ++i) {
      step_words[i] = static_cast<int32_t*>(calls->host_allocate(plan.layout.n_words * 4));
      results[i] = static_cast<RowResult*>(calls->host_allocate(limits.logits_rows * sizeof(RowResult)));
      rows[i] =
          static_cast<float*>(calls->host_allocate(uint64_t{limits.logits_rows} * program->spec.n_vocab * 4));
      done[i] = calls->create_event(false);
    }
    slots = static_cast<SlotState*>(calls->host_allocate(limits.slots * sizeof(SlotState)));
    seen = static_cast<uint32_t*>(calls->host_allocate(plan.plan.items()[plan.seen].bytes));
    calls->synchronize("clear the arenas");
  } catch (...) {
    release();
    throw;
  }
}

State::~State() { release(); }

void State::release() noexcept {
  cudaStreamSynchronize(context->stream);
  for (uint32_t i = 0; i < kDepth; ++i) {
    calls->destroy_event(done[i]);
    calls->host_free(step_words[i]);
    calls->host_free(results[i]);
    calls->host_free(rows[i]);
  }
  calls->host_free(slots);
  calls->host_free(seen);
  for (int c = 0; c < memory::kCategoryCount; ++c)
    calls->free(&ledger, static_cast<memory::Category>(c),
                plan.plan.arena_bytes(static_cast<memory::Category>(c)), arenas[c]);
}

Matrix State::matrix(model::WeightId id) const {
  if (id == model::kNoWeight) return {};
  const model::Weight& w = weight(id);
  return {item(plan.weights[id]), w.type, w.rows, w.cols};
}

const float* State::vector(model::WeightId id) const {
  return id == model::kNoWeight ? nullptr : as<const float>(plan.weights[id]);
}

StepView State::step_view() const {
  const int32_t* words = as<const int32_t>(plan.step);
  const StepLayout& l = plan.layout;
  return {words + l.token, words + l.position,  words + l.sequence, words + l.pages,
          l.page_stride,   words + l.row_token, words + l.row_slot};
}

}  // namespace orcd::cuda
