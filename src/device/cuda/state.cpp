#include "device/cuda/state.h"

#include <algorithm>
#include <string>
#include <type_traits>

#include "base/error.h"
#include "base/units.h"

namespace orcd::cuda {

CudaPlan make_plan(const Context& context, const model::Program& program,
                   const device::ResolvedLimits& limits) {
  CudaPlan out(program, limits, context.persistent);
  const uint64_t step_bytes = out.layout.n_words * 4, result_bytes = limits.logits_rows * sizeof(RowResult);
  const uint64_t row_bytes = uint64_t{limits.logits_rows} * program.spec.n_vocab * 4;
  // State takes them in this order.
  for (uint32_t i = 0; i < kDepth; ++i) {
    const std::string step = "host.step." + std::to_string(i);
    out.plan.add_host(step + ".words", step_bytes);
    out.plan.add_host(step + ".results", result_bytes);
    out.plan.add_host(step + ".logits", row_bytes);
  }
  out.plan.add_host("host.slots", limits.slots * sizeof(SlotState));
  out.plan.add_host("host.seen", out.plan.items()[out.seen].bytes);
  for (int i = 0; i < 2; ++i) out.plan.add_host("host.load." + std::to_string(i), out.staging_bytes, true);
  return out;
}

State::State(std::shared_ptr<Context> context_in, std::shared_ptr<const model::Program> program_in,
             const device::ResolvedLimits& limits_in)
    : context(std::move(context_in)),
      program(std::move(program_in)),
      limits(limits_in),
      plan(make_plan(*context, *program, limits)),
      calls(context->calls.get()),
      begun(limits.slots),
      pinned_(plan.plan.host_items().size()) {
  try {
    for (int c = 0; c < memory::kCategoryCount; ++c) {
      const auto category = static_cast<memory::Category>(c);
      const uint64_t bytes = plan.plan.arena_bytes(category);
      if (bytes == 0) continue;
      arenas[c] = calls->allocate(&ledger, category, bytes);
      calls->set(arenas[c], 0, bytes, "clear an arena");
    }
    size_t next = 0;
    const auto pinned = [&](auto** to) {
      pinned_[next] = calls->host_allocate(&ledger, plan.plan.host_items()[next].bytes);
      *to = static_cast<std::remove_pointer_t<decltype(to)>>(pinned_[next++]);
    };
    for (uint32_t i = 0; i < kDepth; ++i) {
      pinned(&step_words[i]);
      pinned(&results[i]);
      pinned(&rows[i]);
      for (cudaEvent_t* event : {&uploaded[i], &ran[i], &done[i]}) *event = calls->create_event(false);
    }
    pinned(&slots);
    pinned(&seen);
    for (cudaEvent_t& event : begun) event = calls->create_event(false);
    calls->synchronize("clear the arenas");
  } catch (...) {
    release();
    throw;
  }
}

State::~State() { release(); }

void State::release() noexcept {
  calls->finish();
  for (uint32_t i = 0; i < kDepth; ++i)
    for (cudaEvent_t event : {uploaded[i], ran[i], done[i]}) calls->destroy_event(event);
  for (cudaEvent_t event : begun) calls->destroy_event(event);
  for (size_t i = 0; i < pinned_.size(); ++i)
    calls->host_free(&ledger, plan.plan.host_items()[i].bytes, pinned_[i]);
  for (int c = 0; c < memory::kCategoryCount; ++c)
    calls->free(&ledger, static_cast<memory::Category>(c),
                plan.plan.arena_bytes(static_cast<memory::Category>(c)), arenas[c]);
}

void State::clear_between_steps() {
  for (const uint32_t index : {plan.arrivals, plan.row_best, plan.results})
    calls->set(item(index), 0, plan.plan.items()[index].bytes, "clear after a failed step");
}

Matrix State::matrix(model::WeightId id) const {
  if (id == model::kNoWeight) return {};
  const model::Weight& w = weight(id);
  return {item(plan.weights[id]), w.type, w.rows, w.cols};
}

const float* State::vector(model::WeightId id) const {
  return id == model::kNoWeight ? nullptr : as<const float>(plan.weights[id]);
}

InputNorm State::input_norm(const model::Norm& norm) const {
  InputNorm out;
  if (norm.weight == model::kNoWeight) return out;
  out.mode = norm.kind == model::NormKind::kRms ? NormMode::kRms : NormMode::kLayer;
  out.eps = norm.eps;
  out.weight = vector(norm.weight);
  out.bias = vector(norm.bias);
  return out;
}

StepView State::step_view(uint32_t buffer) const {
  const int32_t* words = device_words(buffer);
  const StepLayout& l = plan.layout;
  return {words + l.token, words + l.position,  words + l.sequence, words + l.pages,
          l.page_stride,   words + l.row_token, words + l.row_slot};
}

WeightPrefetch::Piece prefetch_piece(const State& state, model::WeightId id, uint32_t tiles_per_step,
                                     uint32_t blocks_per_sm, uint64_t most) {
  const model::Weight& weight = state.weight(id);
  WeightPrefetch::Piece piece;
  const auto n_steps = static_cast<uint32_t>((tiles_of(weight.rows) + tiles_per_step - 1) / tiles_per_step);
  piece.data = state.item(state.plan.weights[id]);
  piece.size = packed_bytes(weight.type, weight.rows, weight.cols);
  piece.step_bytes = units_of(weight.cols) * packed_shape(weight.type).unit_bytes * tiles_per_step;
  piece.n_ranges = std::min(state.context->n_sm * blocks_per_sm, n_steps);
  piece.steps = n_steps / piece.n_ranges;
  piece.extra_steps = n_steps % piece.n_ranges;
  const uint64_t share = (piece.steps + (piece.extra_steps != 0 ? 1 : 0)) * piece.step_bytes;
  piece.bytes = static_cast<uint32_t>(std::min(share, most / piece.n_ranges) / 16 * 16);
  return piece;
}

}  // namespace orcd::cuda
