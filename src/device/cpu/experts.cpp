// The two ops of a mixture of experts (rule N7) on the CPU. Tokens are sorted by expert, so that each
// expert's matrices are read once for all of its tokens; what a token gets does not depend on who else is
// there.
#include "numerics/experts.h"

#include <algorithm>
#include <cstring>

#include "device/cpu/state.h"
#include "numerics/strips.h"

namespace orcd::cpu {
namespace {

uint32_t* words(const State& state, uint32_t item) { return reinterpret_cast<uint32_t*>(state.item(item)); }

}  // namespace

void StepRunner::router_logits(const model::MoeGateUpOp& op, Turn turn) {
  const auto n = static_cast<uint32_t>(step_->rows.size());
  float* logits = state_.floats(state_.plan.experts.router);
  const uint64_t n_tiles = tile_count(op.n_experts);
  for (Range mine; take(turn, n_tiles, n_tiles, &mine);) {
    const LinearArgs args =
        linear_args(op.router, state_.floats(state_.plan.xn), state_.plan.max_k, n, turn.thread);
    run_tiles(args, mine, logits, op.n_experts);
    add_bias(op.router_bias, mine.begin * kTileRows, std::min(mine.end * kTileRows, args.rows), n, logits,
             op.n_experts);
  }
}

void StepRunner::choose_experts(const model::MoeGateUpOp& op, uint32_t thread) {
  const CpuPlan::Experts& plan = state_.plan.experts;
  const Range mine = share(step_->rows.size(), thread);
  for (uint64_t row = mine.begin; row < mine.end; ++row) {
    numerics::route(state_.floats(plan.router) + row * op.n_experts, op.n_experts, op.n_used,
                    words(state_, plan.chosen) + row * op.n_used,
                    state_.floats(plan.weights) + row * op.n_used);
  }
}

void StepRunner::sort_by_expert(uint32_t n_experts, uint32_t n_used) {
  const CpuPlan::Experts& plan = state_.plan.experts;
  const auto n = static_cast<uint32_t>(step_->rows.size()) * n_used;
  const uint32_t* chosen = words(state_, plan.chosen);
  uint32_t* begin = words(state_, plan.begin);
  uint32_t* place = words(state_, plan.place);
  uint32_t* token = words(state_, plan.token);
  std::fill(begin, begin + n_experts + 1, 0);
  for (uint32_t i = 0; i < n; ++i) ++begin[chosen[i] + 1];
  active_experts_.clear();
  for (uint32_t expert = 0; expert < n_experts; ++expert) {
    if (begin[expert + 1] != 0) active_experts_.push_back(expert);
    begin[expert + 1] += begin[expert];
  }
  // begin[e] moves up as places are given, and so ends where e + 1 began: moved back afterwards.
  for (uint32_t i = 0; i < n; ++i) {
    place[i] = begin[chosen[i]]++;
    token[place[i]] = i / n_used;
  }
  for (uint32_t expert = n_experts; expert > 0; --expert) begin[expert] = begin[expert - 1];
  begin[0] = 0;
}

void StepRunner::gather(uint32_t n_used, bool floats, uint32_t thread) {
  const CpuPlan::Experts& plan = state_.plan.experts;
  const uint64_t dim = state_.program->spec.dim, groups = dim / 32;
  const uint32_t* token = words(state_, plan.token);
  const Range mine = share(step_->rows.size() * n_used, thread);
  for (uint64_t place = mine.begin; place < mine.end; ++place) {
    if (floats) {
      std::memcpy(state_.floats(plan.input) + place * dim,
                  state_.floats(state_.plan.xn) + token[place] * state_.plan.max_k, dim * sizeof(float));
    }
    if (dim % 32 != 0) continue;  // float formats only: nothing reads codes
    std::memcpy(state_.item(plan.codes) + place * dim, state_.item(state_.plan.xq) + token[place] * dim, dim);
    std::memcpy(state_.item(plan.scales) + place * groups * sizeof(GroupScale),
                state_.item(state_.plan.xs) + token[place] * groups * sizeof(GroupScale),
                groups * sizeof(GroupScale));
  }
}

LinearArgs StepRunner::expert_args(model::WeightId id, uint32_t expert, const float* xf,
                                   uint32_t thread) const {
  const CpuPlan::Experts& plan = state_.plan.experts;
  const model::Weight& weight = state_.weight(id);
  const uint32_t* begin = words(state_, plan.begin);
  const uint64_t first = begin[expert];
  LinearArgs args = linear_args(id, nullptr, weight.cols, begin[expert + 1] - begin[expert], thread);
  args.weights += expert * packed_bytes(weight.type, weight.rows, weight.cols);
  if (numerics::is_block_format(weight.type)) {
    args.xq = reinterpret_cast<const int8_t*>(state_.item(plan.codes)) + first * weight.cols;
    args.xs = reinterpret_cast<const GroupScale*>(state_.item(plan.scales)) + first * (weight.cols / 32);
  } else {
    args.xf = xf + first * weight.cols;
  }
  return args;
}

const float* StepRunner::expert_bias(model::WeightId id, uint32_t expert) const {
  const float* bias = state_.vector(id);
  return bias != nullptr ? bias + expert * state_.weight(id).cols : nullptr;
}

template <typename Work>
void StepRunner::each_expert_tile(Turn turn, uint64_t n_tiles, uint64_t most, const Work& work) {
  for (Range mine; take(turn, active_experts_.size() * n_tiles, most, &mine);) {
    for (uint64_t at = mine.begin; at < mine.end;) {
      const uint64_t first = at / n_tiles * n_tiles;  // tile 0 of this expert
      const uint64_t end = std::min(mine.end, first + n_tiles);
      work(active_experts_[at / n_tiles], Range{at - first, end - first});
      at = end;
    }
  }
}

void StepRunner::expert_gate_up(const model::MoeGateUpOp& op, uint32_t expert, Range tiles, uint32_t thread) {
  const uint64_t ffn = state_.weight(op.up).rows;
  const uint64_t begin = tiles.begin * kTileRows, end = std::min(tiles.end * kTileRows, ffn);
  const float* input = state_.floats(state_.plan.experts.input);
  float* h = state_.floats(state_.plan.h) + words(state_, state_.plan.experts.begin)[expert] * ffn;
  float* up = state_.floats(state_.plan.up_scratch[thread]);
  // The gate goes to h, up to this thread's scratch.
  run_tiles(expert_args(op.gate, expert, input, thread), tiles, h, ffn);
  const LinearArgs args = expert_args(op.up, expert, input, thread);
  run_tiles(args, tiles, up, kUpRows, begin);
  const float* gate_bias = expert_bias(op.gate_bias, expert);
  const float* up_bias = expert_bias(op.up_bias, expert);
  for (uint32_t row = 0; row < args.n_tokens; ++row) {
    float* gate = h + row * ffn + begin;
    float* scale = up + uint64_t{row} * kUpRows;
    if (gate_bias != nullptr) state_.kernels.add(gate_bias + begin, end - begin, gate);
    if (up_bias != nullptr) state_.kernels.add(up_bias + begin, end - begin, scale);
    state_.kernels.glu(glu_of(op.activation), gate, scale, end - begin, gate);
  }
}

void StepRunner::op(const model::MoeGateUpOp& op, Turn turn) {
  norm_rows(op.norm, {all_rows_.data(), step_->rows.size()}, turn.thread);
  barrier();
  router_logits(op, turn);
  barrier();
  choose_experts(op, turn.thread);
  barrier();
  if (turn.thread == 0) sort_by_expert(op.n_experts, op.n_used);
  barrier();
  const bool floats = !numerics::is_block_format(state_.weight(op.gate).type) ||
                      !numerics::is_block_format(state_.weight(op.up).type);
  gather(op.n_used, floats, turn.thread);
  barrier();
  each_expert_tile(turn.second(), tile_count(state_.weight(op.up).rows), kUpRows / kTileRows,
                   [&](uint32_t expert, Range tiles) { expert_gate_up(op, expert, tiles, turn.thread); });
  barrier();
}

void StepRunner::quantize_places(const float* x, uint64_t width, uint64_t n, uint32_t thread) {
  const CpuPlan::Experts& plan = state_.plan.experts;
  if (width % 32 != 0) return;                         // float formats only: nothing reads codes
  const Range mine = share(n * (width / 32), thread);  // rows follow one another, so groups do
  state_.kernels.quantize(x + mine.begin * 32, (mine.end - mine.begin) * 32,
                          reinterpret_cast<int8_t*>(state_.item(plan.codes)) + mine.begin * 32,
                          reinterpret_cast<GroupScale*>(state_.item(plan.scales)) + mine.begin);
}

void StepRunner::op(const model::MoeDownOp& op, Turn turn) {
  const CpuPlan::Experts& plan = state_.plan.experts;
  const model::Weight& w = state_.weight(op.w);
  const uint64_t n = step_->rows.size(), dim = state_.program->spec.dim;
  const float* h = state_.floats(state_.plan.h);
  float* output = state_.floats(plan.output);
  quantize_places(h, w.cols, n * op.n_used, turn.thread);
  barrier();
  const uint64_t n_tiles = tile_count(w.rows);
  each_expert_tile(turn, n_tiles, n_tiles, [&](uint32_t expert, Range tiles) {
    const LinearArgs args = expert_args(op.w, expert, h, turn.thread);
    float* y = output + words(state_, plan.begin)[expert] * dim;
    run_tiles(args, tiles, y, dim);
    const float* bias = expert_bias(op.bias, expert);
    const uint64_t begin = tiles.begin * kTileRows, end = std::min(tiles.end * kTileRows, dim);
    for (uint32_t row = 0; row < args.n_tokens && bias != nullptr; ++row)
      state_.kernels.add(bias + begin, end - begin, y + row * dim + begin);
  });
  barrier();
  const Range mine = share(n, turn.thread);
  for (uint64_t row = mine.begin; row < mine.end; ++row) {
    float* y = state_.floats(state_.plan.y) + row * dim;
    for (uint32_t rank = 0; rank < op.n_used; ++rank) {
      const uint64_t at = row * op.n_used + rank;
      state_.kernels.combine(rank, state_.floats(plan.weights)[at],
                             output + words(state_, plan.place)[at] * dim, dim, y);
    }
    if (op.post_norm.weight != model::kNoWeight) normalize(op.post_norm, y, dim, y);
    state_.kernels.add(y, dim, state_.floats(state_.plan.x) + row * dim);
  }
  barrier();
}

}  // namespace orcd::cpu
