#include "device/cuda/runner.h"

#include <algorithm>
#include <utility>

#include "numerics/attention.h"
#include "numerics/strips.h"

namespace orcd::cuda {

void Runner::run(const StepShape& shape) {
  shape_ = shape;
  step_ = state_.step_view(shape.buffer);
  input_quantized_ = false;  // a step before may have failed between two ops
  const std::vector<model::Op>& ops = state_.program->ops;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (shape.persistent && i == 0) {
      PersistentArgs args = persistent_->args;
      args.step = step_;
      args.sample = sample_args();
      launch_persistent(calls_, persistent_->n_blocks, args);
      if (persistent_->has_head()) break;
      i = ops.size() - 1;  // the head
    }
    project_ = i + 1 < ops.size() ? std::get_if<model::ProjectOp>(&ops[i + 1]) : nullptr;
    down_ = i + 1 < ops.size() ? std::get_if<model::MoeDownOp>(&ops[i + 1]) : nullptr;
    gate_up_ = i + 2 < ops.size() ? std::get_if<model::GateUpOp>(&ops[i + 2]) : nullptr;
    projected_by_blocks_ = project_ && numerics::is_block_format(state_.weight(project_->w).type);
    std::visit([this](const auto& one) { run(one); }, ops[i]);
  }
  if (shape_.n_rows == 0) return;
  const SampleArgs args = sample_args();
  if (!shape.persistent || !persistent_->has_head()) launch_row_stats(calls_, shape_.n_rows, args);
  const bool by_cluster = state_.context->has_clusters && args.n_vocab >= kClusterVocabulary;
  launch_sample(calls_, shape_.n_rows, by_cluster ? kSampleBlocks : 1, args);
}

SampleArgs Runner::sample_args() const {
  SampleArgs args;
  args.step = step_;
  args.logits = state_.floats(state_.plan.logits);
  args.n_vocab = state_.program->spec.n_vocab;
  args.slots = state_.as<const SlotState>(state_.plan.slots);
  args.seen = state_.as<uint32_t>(state_.plan.seen);
  args.seen_words = (args.n_vocab + 63) / 64 * 2;
  args.last_token = state_.as<int32_t>(state_.plan.last_token);
  args.row_best = state_.as<uint64_t>(state_.plan.row_best);
  args.results = state_.as<RowResult>(state_.plan.results);
  args.published = state_.published(shape_.buffer);
  args.values = state_.floats(state_.plan.values);
  args.ids = state_.as<uint32_t>(state_.plan.ids);
  return args;
}

bool Runner::can_persist(uint32_t position) const {
  if (!persistent_) return false;
  const uint32_t begin = numerics::first_visible(position, persistent_->args.window);
  constexpr uint32_t kSplitKeys = numerics::kPageKeys * numerics::kPagesPerSplit;
  return position / kSplitKeys - begin / kSplitKeys < persistent_->args.max_splits;
}

bool Runner::same_block_format(std::span<const Target> targets) const {
  const TensorType type = state_.weight(targets[0].weight).type;
  return numerics::is_block_format(type) &&
         std::all_of(targets.begin(), targets.end(),
                     [&](const Target& target) { return state_.weight(target.weight).type == type; });
}

size_t Runner::same_formats(std::span<const Target> targets) const {
  size_t n = 1;
  while (n < targets.size() && same_block_format(targets.subspan(0, n + 1))) ++n;
  return n;
}

bool Runner::one_launch(std::span<const Target> targets, uint32_t n_tokens) const {
  if (same_block_format(targets)) return true;
  const size_t n = same_formats(targets);
  return n_tokens == 1 && n < targets.size() && same_block_format(targets.subspan(n)) &&
         can_mix(state_.weight(targets[0].weight).type, state_.weight(targets[n].weight).type);
}

// One launch where the formats allow it, else one after the other over the same quantised input.
void Runner::linear(std::span<const Target> targets, const Input& input, const Output& output) {
  bool quantized = input.quantized, normed = false;
  if (one_launch(targets, input.n)) return linear_blocks(targets, input, output, &quantized);
  for (size_t i = 0; i < targets.size();) {
    const size_t n = same_formats(targets.subspan(i));
    if (same_block_format(targets.subspan(i, n))) {
      linear_blocks(targets.subspan(i, n), input, output, &quantized);
    } else {
      linear_floats(targets[i], input, output, &normed);
    }
    i += n;
  }
}

LinearArgs Runner::block_args(std::span<const Target> targets, const Output& output) const {
  LinearArgs args = {};
  args.n_segments = static_cast<uint32_t>(targets.size());
  for (size_t i = 0; i < targets.size(); ++i) {
    const model::Weight& weight = state_.weight(targets[i].weight);
    Segment& segment = args.segments[i];
    segment.data = state_.item(state_.plan.weights[targets[i].weight]);
    segment.bias = state_.vector(targets[i].bias);
    segment.out = targets[i].out;
    segment.out_stride = targets[i].out_stride;
    segment.rows = static_cast<uint32_t>(weight.rows);
    args.cols = static_cast<uint32_t>(weight.cols);
  }
  args.epilogue = output.epilogue;
  args.activation = output.activation;
  args.scale = output.scale;
  args.softcap = output.softcap;
  return args;
}

void Runner::quantize(const Input& input, uint32_t cols, uint32_t token_stride) {
  QuantizeArgs args;
  args.x = input.x;
  args.row_index = input.row_index;
  args.norm = state_.input_norm(input.norm);
  args.cols = cols;
  args.n_units = static_cast<uint32_t>(units_of(cols));
  args.n_groups = cols / 32;
  args.xq = state_.item(state_.plan.xq);
  args.xs = state_.as<float2>(state_.plan.xs);
  args.token_stride = token_stride;
  launch_quantize(calls_, input.n, args);
}

void Runner::linear_blocks(std::span<const Target> targets, const Input& input, const Output& output,
                           bool* quantized) {
  LinearArgs args = block_args(targets, output);
  args.n_tokens = input.n;
  if (input.n == 1) {
    args.row_index = input.row_index;
    args.norm = state_.input_norm(input.norm);
    if (*quantized) {
      args.token_q = state_.item(state_.plan.xq);
      args.token_s = state_.as<const float2>(state_.plan.xs);
    } else {
      args.x = input.x;
    }
    if (output.quantize) {
      args.out_q = state_.item(state_.plan.xq);
      args.out_s = state_.as<float2>(state_.plan.xs);
    }
  } else {
    args.xq = state_.as<const uint4>(state_.plan.xq);
    args.xs = state_.as<const float2>(state_.plan.xs);
    if (is_wide(input.n)) args.token_stride = wide_stride(input.n);
    if (input.quantized && is_wide(input.n)) {
      const QuantizedPlace place = quantized_in(input.x, input.n, args.cols);
      args.xq = reinterpret_cast<const uint4*>(place.codes);
      args.xs = place.scales;
    }
    if (output.quantize) {
      const QuantizedPlace place = quantized_in(targets[0].out, input.n, args.segments[0].rows);
      args.out_q = place.codes;
      args.out_s = place.scales;
    }
    if (!*quantized) quantize(input, args.cols, args.token_stride);
    *quantized = true;
  }
  const TensorType type = state_.weight(targets[0].weight).type;
  const size_t n_first = same_formats(targets);
  if (n_first == targets.size()) return launch_linear(calls_, state_.context->n_sm, type, args);
  args.other_segment = static_cast<uint32_t>(n_first);
  launch_mixed(calls_, state_.context->n_sm, type, state_.weight(targets[n_first].weight).type, args);
}

Runner::QuantizedPlace Runner::quantized_in(const float* rows, uint32_t n_tokens, uint32_t cols) const {
  const uint64_t stride = wide_stride(n_tokens), codes = units_of(cols) * kUnit * stride;
  if (cols % 32 != 0 || codes + cols / 32 * stride * sizeof(float2) > uint64_t{n_tokens} * cols * 4)
    return {};
  auto* to = reinterpret_cast<uint8_t*>(const_cast<float*>(rows));
  return {to, reinterpret_cast<float2*>(to + codes)};
}

void Runner::norm_rows(const Input& input, uint32_t cols) {
  NormArgs norm;
  norm.x = input.x;
  norm.row_index = input.row_index;
  norm.norm = state_.input_norm(input.norm);
  norm.cols = cols;
  norm.y = state_.floats(state_.plan.xn);
  norm.add = false;
  launch_norm(calls_, input.n, norm);
}

void Runner::linear_floats(const Target& target, const Input& input, const Output& output, bool* normed) {
  const Matrix matrix = state_.matrix(target.weight);
  const bool needs_norm = input.norm.weight != model::kNoWeight || input.row_index;
  if (needs_norm && !std::exchange(*normed, true)) norm_rows(input, static_cast<uint32_t>(matrix.cols));
  FloatLinearArgs args = {};
  args.weight = matrix;
  args.x = needs_norm ? state_.floats(state_.plan.xn) : input.x;
  args.bias = state_.vector(target.bias);
  args.out = target.out;
  args.out_stride = target.out_stride;
  args.strips = numerics::strip_count(matrix.rows, matrix.cols);
  args.n_tokens = input.n;
  args.epilogue = output.epilogue;
  args.scale = output.scale;
  args.softcap = output.softcap;
  launch_float_linear(calls_, args);
}

void Runner::run(const model::EmbedOp& op) {
  EmbedArgs args;
  args.table = state_.matrix(op.table);
  args.positions = state_.matrix(op.positions);
  args.step = step_;
  args.last_token = state_.as<const int32_t>(state_.plan.last_token);
  args.scale = op.scale;
  args.dim = state_.program->spec.dim;
  args.x = state_.floats(state_.plan.x);
  launch_embed(calls_, shape_.n_tokens, args);
}

void Runner::run(const model::QkvOp& op) {
  const uint32_t q_dim = op.n_heads * op.head_dim, kv_dim = op.n_kv_heads * op.head_dim;
  float *q = state_.floats(state_.plan.q), *k = state_.floats(state_.plan.k),
        *v = state_.floats(state_.plan.v);
  const Target targets[] = {
      {op.q, op.q_bias, q, q_dim}, {op.k, op.k_bias, k, kv_dim}, {op.v, op.v_bias, v, kv_dim}};
  linear(targets, {state_.floats(state_.plan.x), nullptr, shape_.n_tokens, op.norm}, {});
  RopeArgs& args = rope_;
  args.step = step_;
  args.n_tokens = shape_.n_tokens;
  args.q = q;
  args.k = k;
  args.v = v;
  args.q_stride = q_dim;
  args.kv_stride = kv_dim;
  args.n_heads = op.n_heads;
  args.n_kv_heads = op.n_kv_heads;
  args.head_dim = op.head_dim;
  args.n_dims = 0;
  args.halves = false;
  args.table = nullptr;
  if (op.rope >= 0) {
    const model::RopeSpec& rope = state_.program->ropes[op.rope];
    args.n_dims = rope.n_dims;
    args.halves = rope.style == model::RopeStyle::kHalves;
    args.table = state_.floats(state_.plan.ropes[op.rope]);
  }
  args.q_norm = state_.vector(op.q_norm);
  args.k_norm = state_.vector(op.k_norm);
  args.eps = op.qk_norm_eps;
  args.scale = op.scale;
  args.pages = state_.as<uint16_t>(state_.plan.kv[op.layer]);
}

void Runner::run_decode(const model::AttentionOp& op, bool quantize) {
  constexpr uint32_t kBlocksPerSm = 2;
  DecodeArgs args = {};
  args.rope = rope_;
  args.out = state_.floats(state_.plan.a);
  if (quantize) {
    args.out_q = state_.item(state_.plan.xq);
    args.out_s = state_.as<float2>(state_.plan.xs);
  }
  args.window = op.window;
  args.softcap = op.softcap;
  args.sinks = state_.vector(op.sinks);
  args.partial = state_.floats(state_.plan.partial);
  args.max_splits = state_.plan.max_splits;
  args.arrivals = state_.as<uint32_t>(state_.plan.arrivals);
  args.prefetch = prefetch_after_attention();
  const uint32_t goal = state_.context->n_sm * kBlocksPerSm / (op.n_kv_heads * shape_.n_tokens);
  launch_decode(calls_, shape_.n_tokens, std::clamp(goal, 1u, state_.plan.max_splits), args);
}

WeightPrefetch Runner::prefetch_after_attention() const {
  WeightPrefetch out = {};
  uint64_t left = kMostPrefetch;
  const auto add = [&](model::WeightId id, uint32_t tiles_per_step, uint64_t most) {
    if (!numerics::is_block_format(state_.weight(id).type)) return;
    const WeightPrefetch::Piece piece = prefetch_piece(state_, id, tiles_per_step, 1, most);
    left -= std::min<uint64_t>(left, uint64_t{piece.bytes} * piece.n_ranges);
    out.pieces[out.n_pieces++] = piece;
  };
  if (project_) add(project_->w, 1, left);
  if (gate_up_ && left > 0) {
    if (gate_up_->gate != model::kNoWeight) add(gate_up_->gate, 2, left / 2);
    add(gate_up_->up, 2, left);
  }
  return out;
}

void Runner::run(const model::AttentionOp& op) {
  constexpr uint32_t kBlocksPerSm = 2;
  if (shape_.decode) {
    input_quantized_ = op.head_dim % 32 == 0 && projected_by_blocks_ && !is_wide(shape_.n_tokens);
    return run_decode(op, input_quantized_);
  }
  AttentionArgs args = {};
  args.rope = rope_;
  args.out = state_.floats(state_.plan.a);
  args.window = op.window;
  args.softcap = op.softcap;
  args.sinks = state_.vector(op.sinks);
  args.partial = state_.floats(state_.plan.partial);
  args.max_splits = state_.plan.max_splits;
  args.arrivals = state_.as<uint32_t>(state_.plan.arrivals);
  launch_keys(calls_, rope_);
  if (shape_.n_tokens > state_.plan.split_tokens && has_prefill_attention(op.head_dim)) {
    if (op.head_dim % 32 == 0 && projected_by_blocks_ && is_wide(shape_.n_tokens)) {
      const QuantizedPlace place = quantized_in(args.out, shape_.n_tokens, rope_.q_stride);
      args.out_q = place.codes;
      args.out_s = place.scales;
      args.token_stride = wide_stride(shape_.n_tokens);
      input_quantized_ = place.codes != nullptr;
    }
    return launch_prefill_attention(calls_, args);
  }
  launch_queries(calls_, rope_);
  uint32_t n_splits = 1;
  if (shape_.n_tokens <= state_.plan.split_tokens) {
    const uint32_t goal = state_.context->n_sm * kBlocksPerSm / (op.n_kv_heads * shape_.n_tokens);
    n_splits = std::clamp(goal, 1u, state_.plan.max_splits);
  }
  launch_attention(calls_, n_splits, args);
}

void Runner::run(const model::ProjectOp& op) {
  const uint32_t dim = state_.program->spec.dim;
  const bool post = op.post_norm.weight != model::kNoWeight;
  float *x = state_.floats(state_.plan.x), *y = state_.floats(state_.plan.y);
  const Target target[] = {{op.w, op.bias, post ? y : x, dim}};
  Output output;
  output.epilogue = post ? Epilogue::kStore : Epilogue::kAdd;
  output.scale = op.scale;
  const float* input = state_.floats(op.from_ffn ? state_.plan.h : state_.plan.a);
  linear(target, {input, nullptr, shape_.n_tokens, {}, std::exchange(input_quantized_, false)}, output);
  if (post) add_normed(op.post_norm, op.scale);
}

void Runner::add_normed(const model::Norm& norm, float scale) {
  NormArgs args;
  args.x = state_.floats(state_.plan.y);
  args.row_index = nullptr;
  args.norm = state_.input_norm(norm);
  args.cols = state_.program->spec.dim;
  args.y = state_.floats(state_.plan.x);
  args.add = true;
  args.scale = scale;
  launch_norm(calls_, shape_.n_tokens, args);
}

void Runner::run(const model::GateUpOp& op) {
  const uint32_t ffn = static_cast<uint32_t>(state_.weight(op.up).rows);
  const Input input = {state_.floats(state_.plan.x), nullptr, shape_.n_tokens, op.norm};
  float *h = state_.floats(state_.plan.h), *gate = state_.floats(state_.plan.gate);
  Target both[] = {{op.gate, op.gate_bias, h, ffn}, {op.up, op.up_bias, h, ffn}};
  const bool gated = op.gate != model::kNoWeight;
  if (gated && same_block_format(both)) {
    Output output;
    output.epilogue = Epilogue::kGlu;
    output.activation = op.activation;
    const bool has_place = shape_.n_tokens == 1 || (is_wide(shape_.n_tokens) &&
                                                    quantized_in(h, shape_.n_tokens, ffn).codes != nullptr);
    output.quantize = projected_by_blocks_ && has_place;
    input_quantized_ = output.quantize;
    return linear(both, input, output);
  }
  both[0].out = gate;
  linear(gated ? std::span<const Target>(both) : std::span<const Target>(both).subspan(1), input, {});
  launch_glu(calls_, {gated ? gate : nullptr, h, h, uint64_t{shape_.n_tokens} * ffn, op.activation});
}

void Runner::run(const model::HeadOp& op) {
  if (shape_.n_rows == 0) return;
  const uint32_t n_vocab = state_.program->spec.n_vocab;
  Output output;
  output.epilogue = Epilogue::kHead;
  output.scale = op.scale;
  output.softcap = op.softcap;
  const Target target[] = {{op.w, op.bias, state_.floats(state_.plan.logits), n_vocab}};
  linear(target, {state_.floats(state_.plan.x), step_.row_token, shape_.n_rows, op.norm}, output);
}

}  // namespace orcd::cuda
