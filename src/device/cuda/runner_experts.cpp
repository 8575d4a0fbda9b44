// The two ops of a mixture of experts (rule N7). Few pairs of a token and a rank go one by one through the
// kernel of one token; many are sorted by expert, so that each expert's matrices are read once for its
// tokens.
#include <algorithm>
#include <utility>

#include "base/units.h"
#include "device/cuda/runner.h"
#include "numerics/strips.h"

namespace orcd::cuda {
namespace {

constexpr uint32_t kWidePlaces = 12;  // places of an expert from which wgmma pays, on average

}  // namespace

void Runner::route(const model::MoeGateUpOp& op) {
  float* logits = state_.floats(state_.plan.experts.router);
  const Matrix matrix = state_.matrix(op.router);
  RouteArgs args;
  args.logits = logits;
  args.bias = nullptr;
  args.strips = 1;
  if (work_.by_pair && matrix.type == TensorType::kF32 && matrix.cols % 4 == 0 &&
      shape_.n_tokens <= kPairTokens) {
    args.bias = state_.vector(op.router_bias);
    args.strips = numerics::strip_count(matrix.rows, matrix.cols);
    RouterArgs router;
    router.x = state_.floats(state_.plan.x);
    router.norm = state_.input_norm(op.norm);
    router.weight = matrix;
    router.strips = args.strips;
    router.xn = state_.floats(state_.plan.xn);
    router.partials = logits;
    launch_router(calls_, shape_.n_tokens, router);
  } else {
    const Target router[] = {{op.router, op.router_bias, logits, op.n_experts}};
    linear(router, {state_.floats(state_.plan.x), nullptr, shape_.n_tokens, op.norm}, {});
  }
  args.n_tokens = shape_.n_tokens;
  args.n_experts = op.n_experts;
  args.n_used = op.n_used;
  args.chosen = state_.as<uint32_t>(state_.plan.experts.chosen);
  args.weights = state_.floats(state_.plan.experts.weights);
  launch_route(calls_, args);
}

void Runner::sort_by_expert(const model::MoeGateUpOp& op) {
  const CudaPlan::Experts& plan = state_.plan.experts;
  SortArgs args;
  args.chosen = state_.as<const uint32_t>(plan.chosen);
  args.n_pairs = work_.n_pairs;
  args.n_experts = op.n_experts;
  args.n_used = op.n_used;
  args.tile_tokens = work_.wide ? kWideExpertTokens : kFewExpertTokens;
  args.n_places = work_.rows();
  args.place = state_.as<uint32_t>(plan.place);
  args.token = state_.as<int32_t>(plan.token);
  args.tiles = state_.as<ExpertTile>(plan.tiles);
  args.n_tiles = state_.as<uint32_t>(plan.n_tiles);
  launch_sort(calls_, args);
}

void Runner::expert_blocks(std::span<const Target> targets, const Input& input, const Output& output,
                           uint32_t pairs_per_row) {
  const CudaPlan::Experts& plan = state_.plan.experts;
  ExpertArgs args = {};
  args.linear = block_args(targets, output);
  args.n_pairs = work_.n_pairs;
  args.pairs_per_row = pairs_per_row;
  if (work_.by_pair) {
    args.chosen = state_.as<const uint32_t>(plan.chosen);
    args.linear.n_tokens = 1;
    args.linear.norm = state_.input_norm(input.norm);
    if (input.quantized) {
      args.linear.token_q = state_.item(state_.plan.xq);
      args.linear.token_s = state_.as<const float2>(state_.plan.xs);
    } else {
      args.linear.x = input.x;
    }
    if (output.quantize) {
      args.linear.out_q = state_.item(state_.plan.xq);
      args.linear.out_s = state_.as<float2>(state_.plan.xs);
    }
  } else {
    if (work_.wide)
      args.linear.token_stride =
          static_cast<uint32_t>(align_up(work_.rows() + kWideExpertTokens, kTokenAlignment));
    args.linear.xq = state_.as<const uint4>(state_.plan.xq);
    args.linear.xs = state_.as<const float2>(state_.plan.xs);
    if (!input.quantized) quantize(input, args.linear.cols, args.linear.token_stride);
    args.tiles = state_.as<const ExpertTile>(plan.tiles);
    args.n_tiles = state_.as<const uint32_t>(plan.n_tiles);
    args.max_tiles =
        most_tiles(work_.n_pairs, work_.n_experts, work_.wide ? kWideExpertTokens : kFewExpertTokens);
    args.n_active = std::min(work_.n_pairs, work_.n_experts);
  }
  launch_experts(calls_, state_.context->n_sm, state_.weight(targets[0].weight).type, args);
}

void Runner::expert_floats(const Target& target, const Input& input, uint32_t pairs_per_row) {
  FloatLinearArgs args = {};
  args.weight = state_.matrix(target.weight);
  args.chosen = state_.as<const uint32_t>(state_.plan.experts.chosen);
  args.pairs_per_row = pairs_per_row;
  args.x = input.x;
  args.bias = state_.vector(target.bias);
  args.out = target.out;
  args.out_stride = target.out_stride;
  args.strips = numerics::strip_count(args.weight.rows, args.weight.cols);
  args.n_tokens = work_.n_pairs;
  args.epilogue = Epilogue::kStore;
  launch_float_linear(calls_, args);
}

void Runner::experts(std::span<const Target> targets, const Input& input, const Output& output,
                     uint32_t pairs_per_row) {
  if (same_block_format(targets)) return expert_blocks(targets, input, output, pairs_per_row);
  for (const Target& target : targets) {
    if (numerics::is_block_format(state_.weight(target.weight).type)) {
      expert_blocks({&target, 1}, input, output, pairs_per_row);
    } else {
      expert_floats(target, input, pairs_per_row);
    }
  }
}

void Runner::run(const model::MoeGateUpOp& op) {
  const auto is_blocks = [&](model::WeightId id) {
    return numerics::is_block_format(state_.weight(id).type);
  };
  const bool all_blocks = is_blocks(op.gate) && is_blocks(op.up) && is_blocks(down_->w);
  work_ = {shape_.n_tokens * op.n_used, op.n_experts};
  work_.by_pair = shape_.n_tokens <= kPairTokens || !all_blocks;
  work_.wide = !work_.by_pair && state_.context->has_wgmma && work_.n_pairs >= kWidePlaces * op.n_experts;
  route(op);
  if (!work_.by_pair) sort_by_expert(op);

  // The router has left the normed rows where its weights are floats, as they are in most files. Experts of
  // floats read rows as they are: another router leaves the norm to us.
  Input input = {state_.floats(state_.plan.x), nullptr, work_.rows(), op.norm};
  const bool has_norm = op.norm.weight != model::kNoWeight, router_is_blocks = is_blocks(op.router);
  const bool reads_floats = !is_blocks(op.gate) || !is_blocks(op.up);
  if (has_norm && router_is_blocks && reads_floats)
    norm_rows({state_.floats(state_.plan.x), nullptr, shape_.n_tokens, op.norm}, state_.program->spec.dim);
  if (has_norm && (!router_is_blocks || reads_floats))
    input = {state_.floats(state_.plan.xn), nullptr, work_.rows(), {}};
  if (!work_.by_pair) input.row_index = state_.as<const int32_t>(state_.plan.experts.token);
  const uint32_t ffn = static_cast<uint32_t>(state_.weight(op.up).rows);
  float *h = state_.floats(state_.plan.h), *gate = state_.floats(state_.plan.gate);
  Target both[] = {{op.gate, op.gate_bias, h, ffn}, {op.up, op.up_bias, h, ffn}};
  Output output;
  if (same_block_format(both)) {
    output.epilogue = Epilogue::kGlu;
    output.activation = op.activation;
    output.quantize = work_.by_pair && is_blocks(down_->w);
    input_quantized_ = output.quantize;
    return experts(both, input, output, op.n_used);
  }
  both[0].out = gate;
  experts(both, input, output, op.n_used);
  launch_glu(calls_, {gate, h, h, uint64_t{work_.rows()} * ffn, op.activation});
}

void Runner::run(const model::MoeDownOp& op) {
  const uint32_t dim = state_.program->spec.dim;
  float* outputs = state_.floats(state_.plan.experts.output);
  const Target target[] = {{op.w, op.bias, outputs, dim}};
  const Input input = {
      state_.floats(state_.plan.h), nullptr, work_.rows(), {}, std::exchange(input_quantized_, false)};
  experts(target, input, {}, 1);
  const bool post = op.post_norm.weight != model::kNoWeight;
  float *x = state_.floats(state_.plan.x), *y = state_.floats(state_.plan.y);
  CombineArgs args;
  args.outputs = outputs;
  args.weights = state_.floats(state_.plan.experts.weights);
  args.place = work_.by_pair ? nullptr : state_.as<const uint32_t>(state_.plan.experts.place);
  args.n_used = op.n_used;
  args.dim = dim;
  args.add = !post;
  args.out = post ? y : x;
  launch_combine(calls_, shape_.n_tokens, args);
  if (post) add_normed(op.post_norm, 1.0f);
}

}  // namespace orcd::cuda
