// The ops of a program on the CPU. Every function below runs on all threads at once; each takes its share of
// tokens, tiles or heads, and a barrier stands wherever one thread reads what another wrote.
#include <algorithm>
#include <cstring>
#include <variant>

#include "device/cpu/state.h"
#include "kv/layout.h"
#include "numerics/attention.h"
#include "numerics/norm.h"
#include "numerics/rope.h"
#include "numerics/strips.h"

namespace orcd::cpu {
namespace {

constexpr size_t kRounds = 2;  // of tiles that an op may deal out

}  // namespace

Glu glu_of(model::Activation activation) {
  switch (activation) {
    case model::Activation::kGeluTanh:
      return Glu::kGeluTanh;
    case model::Activation::kGeluErf:
      return Glu::kGeluErf;
    case model::Activation::kClampedSwiglu:
      return Glu::kClampedSwiglu;
    default:
      return Glu::kSilu;
  }
}

StepRunner::StepRunner(State& state) : state_(state), next_tile_(kRounds * state.program->ops.size()) {
  active_experts_.reserve(state.program->max_experts);
  all_rows_.resize(state.limits.batch_tokens);
  for (uint32_t i = 0; i < all_rows_.size(); ++i) all_rows_[i] = i;
}

void StepRunner::run(const Step& step) {
  step_ = &step;
  items_heads_ = 0;
  for (std::atomic<uint64_t>& next : next_tile_) next.store(0, std::memory_order_relaxed);
  state_.pool.run([this](uint32_t thread) { walk(thread); });
  step_ = nullptr;
}

void StepRunner::walk(uint32_t thread) {
  const std::vector<model::Op>& ops = state_.program->ops;
  for (size_t i = 0; i < ops.size(); ++i)
    std::visit([&](const auto& each) { op(each, {thread, &next_tile_[kRounds * i]}); }, ops[i]);
}

StepRunner::Range StepRunner::share(uint64_t n, uint32_t thread) const {
  const uint32_t n_threads = state_.pool.n_threads();
  return {n * thread / n_threads, n * (thread + 1) / n_threads};
}

bool StepRunner::take(Turn turn, uint64_t n, uint64_t most, Range* tiles) const {
  uint64_t begin = turn.next->load(std::memory_order_relaxed);
  for (;;) {
    if (begin >= n) return false;
    const uint64_t fair = (n - begin) / (2 * uint64_t{state_.pool.n_threads()});
    const uint64_t end = begin + std::clamp<uint64_t>(fair, 1, most);
    if (!turn.next->compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
    *tiles = {begin, std::min(end, n)};
    return true;
  }
}

void StepRunner::normalize(const model::Norm& norm, const float* x, uint64_t width, float* y) const {
  const float* w = state_.vector(norm.weight);
  const auto n = static_cast<uint32_t>(width);
  if (norm.kind == model::NormKind::kLayer) {
    numerics::layer_norm(x, n, w, state_.vector(norm.bias), norm.eps, y);
  } else {
    state_.kernels.rms_norm(x, n, w, norm.eps, y);
  }
}

void StepRunner::norm_rows(const model::Norm& norm, std::span<const uint32_t> rows, uint32_t thread) {
  const uint64_t dim = state_.program->spec.dim, max_k = state_.plan.max_k;
  const Range mine = share(rows.size(), thread);
  for (uint64_t i = mine.begin; i < mine.end; ++i) {
    float* xn = state_.floats(state_.plan.xn) + i * max_k;
    normalize(norm, state_.floats(state_.plan.x) + rows[i] * dim, dim, xn);
    if (dim % 32 != 0) continue;  // float formats only: nothing reads codes
    state_.kernels.quantize(xn, dim, reinterpret_cast<int8_t*>(state_.item(state_.plan.xq)) + i * dim,
                            reinterpret_cast<GroupScale*>(state_.item(state_.plan.xs)) + i * (dim / 32));
  }
}

void StepRunner::quantize_rows(const float* x, uint64_t stride, uint64_t width, uint32_t n_rows,
                               uint32_t thread) {
  if (width % 32 != 0) return;  // float formats only: nothing reads codes
  const uint64_t groups = width / 32;
  const Range mine = share(n_rows * groups, thread);
  for (uint64_t at = mine.begin; at < mine.end;) {
    const uint64_t row = at / groups, group = at % groups;
    const uint64_t n = std::min(groups - group, mine.end - at);
    state_.kernels.quantize(
        x + row * stride + group * 32, n * 32,
        reinterpret_cast<int8_t*>(state_.item(state_.plan.xq)) + row * width + group * 32,
        reinterpret_cast<GroupScale*>(state_.item(state_.plan.xs)) + row * groups + group);
    at += n;
  }
}

void StepRunner::run_tiles(LinearArgs args, Range tiles, float* y, uint64_t y_stride, uint64_t y_row) const {
  args.y = y;
  args.y_stride = y_stride;
  args.y_row = y_row;
  args.tile_begin = tiles.begin;
  args.tile_end = tiles.end;
  state_.kernels.linear(args);
}

LinearArgs StepRunner::linear_args(model::WeightId id, const float* xf, uint64_t xf_stride, uint32_t n_rows,
                                   uint32_t thread) const {
  const model::Weight& weight = state_.weight(id);
  LinearArgs args{};
  args.type = weight.type;
  args.weights = state_.matrix(id);
  args.rows = weight.rows;
  args.cols = weight.cols;
  args.strips = numerics::strip_count(weight.rows, weight.cols);
  args.xq = reinterpret_cast<const int8_t*>(state_.item(state_.plan.xq));
  args.xs = reinterpret_cast<const GroupScale*>(state_.item(state_.plan.xs));
  args.xf = xf;
  args.xf_stride = xf_stride;
  args.n_tokens = n_rows;
  args.scratch = state_.item(state_.plan.linear_scratch[thread]);
  return args;
}

void StepRunner::add_bias(model::WeightId bias, uint64_t row_begin, uint64_t row_end, uint32_t n_rows,
                          float* y, uint64_t stride) const {
  const float* b = state_.vector(bias);
  if (b == nullptr) return;
  for (uint32_t t = 0; t < n_rows; ++t)
    state_.kernels.add(b + row_begin, row_end - row_begin, y + t * stride + row_begin);
}

void StepRunner::add_scaled(float* y, uint64_t n, float scale, float* x) const {
  for (uint64_t i = 0; i < n && scale != 1.0f; ++i) y[i] = y[i] * scale;
  state_.kernels.add(y, n, x);
}

template <typename After>
void StepRunner::linear(std::span<const Matrix> matrices, const float* xf, uint64_t xf_stride,
                        uint32_t n_rows, Turn turn, const After& after) {
  uint64_t n_tiles = 0;
  for (const Matrix& matrix : matrices) n_tiles += tile_count(state_.weight(matrix.id).rows);
  for (Range mine; take(turn, n_tiles, n_tiles, &mine);) {
    uint64_t first = 0;
    for (const Matrix& matrix : matrices) {
      const uint64_t count = tile_count(state_.weight(matrix.id).rows);
      const uint64_t begin = std::max(mine.begin, first), end = std::min(mine.end, first + count);
      if (begin < end) {
        const Range tiles = {begin - first, end - first};
        const LinearArgs args = linear_args(matrix.id, xf, xf_stride, n_rows, turn.thread);
        run_tiles(args, tiles, matrix.y, matrix.y_stride);
        const uint64_t row_begin = tiles.begin * kTileRows;
        const uint64_t row_end = std::min(tiles.end * kTileRows, args.rows);
        add_bias(matrix.bias, row_begin, row_end, n_rows, matrix.y, matrix.y_stride);
        after(row_begin, row_end);
      }
      first += count;
    }
  }
}

void StepRunner::op(const model::EmbedOp& op, Turn turn) {
  const model::Weight& table = state_.weight(op.table);
  const uint64_t dim = state_.program->spec.dim;
  const Range mine = share(step_->rows.size(), turn.thread);
  for (uint64_t i = mine.begin; i < mine.end; ++i) {
    float* x = state_.floats(state_.plan.x) + i * dim;
    dequantize_packed_row(table.type, state_.matrix(op.table), dim,
                          static_cast<uint64_t>(step_->rows[i].token), x);
    for (uint64_t d = 0; d < dim; ++d) x[d] = x[d] * op.scale;
    if (op.positions == model::kNoWeight) continue;
    float* row = state_.floats(state_.plan.xn) + i * state_.plan.max_k;
    dequantize_packed_row(state_.weight(op.positions).type, state_.matrix(op.positions), dim,
                          step_->rows[i].position, row);
    state_.kernels.add(row, dim, x);
  }
  barrier();
}

void StepRunner::rotate_head(const model::QkvOp& op, model::WeightId norm, uint32_t position,
                             float* head) const {
  const float* w = state_.vector(norm);
  if (w != nullptr) state_.kernels.rms_norm(head, op.head_dim, w, op.qk_norm_eps, head);
  if (op.rope < 0) return;
  const model::RopeSpec& rope = state_.program->ropes[static_cast<size_t>(op.rope)];
  const uint32_t half = rope.n_dims / 2;
  const float* table =
      state_.floats(state_.plan.ropes[static_cast<size_t>(op.rope)]) + uint64_t{position} * rope.n_dims;
  if (rope.style == model::RopeStyle::kInterleaved) {
    for (uint32_t i = 0; i < half; ++i)
      numerics::rotate_pair(head + 2 * i, head + 2 * i + 1, table[2 * i], table[2 * i + 1]);
  } else {
    for (uint32_t i = 0; i < half; ++i)
      numerics::rotate_pair(head + i, head + half + i, table[2 * i], table[2 * i + 1]);
  }
}

void StepRunner::op(const model::QkvOp& op, Turn turn) {
  const auto n = static_cast<uint32_t>(step_->rows.size());
  const uint64_t q_dim = uint64_t{op.n_heads} * op.head_dim, kv_dim = uint64_t{op.n_kv_heads} * op.head_dim;
  float* q = state_.floats(state_.plan.q);
  float* k = state_.floats(state_.plan.k);
  float* v = state_.floats(state_.plan.v);
  norm_rows(op.norm, {all_rows_.data(), n}, turn.thread);
  barrier();
  const Matrix matrices[] = {
      {op.q, op.q_bias, q, q_dim}, {op.k, op.k_bias, k, kv_dim}, {op.v, op.v_bias, v, kv_dim}};
  linear(matrices, state_.floats(state_.plan.xn), state_.plan.max_k, n, turn, [](uint64_t, uint64_t) {});
  barrier();

  const uint32_t heads = op.n_heads + 2 * op.n_kv_heads;  // of q, then k, then v
  uint8_t* kv = state_.item(state_.plan.kv[op.layer]);
  const uint64_t page_stride = kv::page_bytes(op.n_kv_heads, op.head_dim);
  const Range mine = share(uint64_t{n} * heads, turn.thread);
  uint16_t halves[numerics::kMaxHeadDim];
  for (uint64_t at = mine.begin; at < mine.end; ++at) {
    const uint64_t row = at / heads;
    auto head = static_cast<uint32_t>(at % heads);
    const TokenRow& token = step_->rows[row];
    if (head < op.n_heads) {
      float* qh = q + row * q_dim + head * op.head_dim;
      rotate_head(op, op.q_norm, token.position, qh);
      for (uint32_t d = 0; d < op.head_dim; ++d) qh[d] = qh[d] * op.scale;
      continue;
    }
    head -= op.n_heads;
    const bool is_key = head < op.n_kv_heads;
    if (!is_key) head -= op.n_kv_heads;
    float* source = (is_key ? k : v) + row * kv_dim + head * op.head_dim;
    if (is_key) rotate_head(op, op.k_norm, token.position, source);
    state_.kernels.to_half(source, op.head_dim, halves);
    const uint32_t page = step_->sequences[token.sequence].pages[token.position / kv::kPagePositions];
    const uint32_t slot = token.position % kv::kPagePositions;
    auto* keys = reinterpret_cast<uint16_t*>(kv + page * page_stride) +
                 uint64_t{head} * op.head_dim * kv::kPagePositions * 2;
    if (is_key) {
      for (uint32_t d = 0; d < op.head_dim; ++d) keys[d * kv::kPagePositions + slot] = halves[d];
    } else {
      uint16_t* values = keys + uint64_t{op.head_dim} * kv::kPagePositions;
      std::memcpy(values + uint64_t{slot} * op.head_dim, halves, op.head_dim * sizeof(uint16_t));
    }
  }
  barrier();
}

void StepRunner::plan_attention(const model::AttentionOp& op) {
  if (items_heads_ == op.n_heads && items_kv_heads_ == op.n_kv_heads) return;
  items_heads_ = op.n_heads;
  items_kv_heads_ = op.n_kv_heads;
  attend_items_.clear();
  const uint32_t group = op.n_heads / op.n_kv_heads;
  // A decode step has few items: single heads are spread more evenly over the threads than whole groups.
  const bool few = step_->rows.size() * op.n_kv_heads < 4 * state_.pool.n_threads();
  const uint32_t heads = few ? 1 : std::min(group, kMaxAttendRows);
  const uint32_t tokens = std::max(1u, kMaxAttendRows / heads);
  for (uint32_t row = 0; row < step_->rows.size();) {
    uint32_t n = 1;
    while (n < tokens && row + n < step_->rows.size() &&
           step_->rows[row + n].sequence == step_->rows[row].sequence)
      ++n;
    for (uint32_t kv_head = 0; kv_head < op.n_kv_heads; ++kv_head) {
      for (uint32_t head = 0; head < group; head += heads) {
        attend_items_.push_back({step_->rows[row].sequence, row, n, kv_head, kv_head * group + head,
                                 std::min(heads, group - head)});
      }
    }
    row += n;
  }
}

void StepRunner::op(const model::AttentionOp& op, Turn turn) {
  if (turn.thread == 0) plan_attention(op);
  barrier();
  const uint64_t q_dim = uint64_t{op.n_heads} * op.head_dim;
  AttendArgs args{};
  args.kv = state_.item(state_.plan.kv[op.layer]);
  args.page_stride = kv::page_bytes(op.n_kv_heads, op.head_dim);
  args.head_dim = op.head_dim;
  args.window = op.window;
  args.softcap = op.softcap;
  const float* sinks = state_.vector(op.sinks);
  args.scratch = state_.floats(state_.plan.attend_scratch[turn.thread]);
  for (Range one; take(turn, attend_items_.size(), 1, &one);) {
    const AttendItem& item = attend_items_[one.begin];
    args.n_rows = 0;
    args.pages = step_->sequences[item.sequence].pages.data();
    args.head_offset = uint64_t{item.kv_head} * op.head_dim * kv::kPagePositions * 4;
    for (uint32_t row = item.first_row; row < item.first_row + item.n_rows; ++row) {
      for (uint32_t head = item.first_head; head < item.first_head + item.n_heads; ++head) {
        const uint64_t at = row * q_dim + uint64_t{head} * op.head_dim;
        args.q[args.n_rows] = state_.floats(state_.plan.q) + at;
        args.out[args.n_rows] = state_.floats(state_.plan.a) + at;
        args.position[args.n_rows] = step_->rows[row].position;
        args.sink[args.n_rows] = sinks != nullptr ? sinks + head : nullptr;
        ++args.n_rows;
      }
    }
    state_.kernels.attend(args);
  }
  barrier();
}

void StepRunner::op(const model::ProjectOp& op, Turn turn) {
  const auto n = static_cast<uint32_t>(step_->rows.size());
  const model::Weight& w = state_.weight(op.w);
  const uint64_t dim = state_.program->spec.dim;
  const float* input = state_.floats(op.from_ffn ? state_.plan.h : state_.plan.a);
  float* x = state_.floats(state_.plan.x);
  float* y = state_.floats(state_.plan.y);
  quantize_rows(input, w.cols, w.cols, n, turn.thread);
  barrier();
  const Matrix matrix[] = {{op.w, op.bias, y, dim}};
  const bool normed = op.post_norm.weight != model::kNoWeight;
  linear(matrix, input, w.cols, n, turn, [&](uint64_t begin, uint64_t end) {
    for (uint32_t row = 0; row < n && !normed; ++row)
      add_scaled(y + row * dim + begin, end - begin, op.scale, x + row * dim + begin);
  });
  if (normed) {
    barrier();
    const Range mine = share(n, turn.thread);
    for (uint64_t row = mine.begin; row < mine.end; ++row) {
      normalize(op.post_norm, y + row * dim, dim, y + row * dim);
      add_scaled(y + row * dim, dim, op.scale, x + row * dim);
    }
  }
  barrier();
}

void StepRunner::op(const model::GateUpOp& op, Turn turn) {
  const auto n = static_cast<uint32_t>(step_->rows.size());
  norm_rows(op.norm, {all_rows_.data(), n}, turn.thread);
  barrier();
  const uint64_t ffn = state_.weight(op.up).rows, max_k = state_.plan.max_k;
  const float* xn = state_.floats(state_.plan.xn);
  float* h = state_.floats(state_.plan.h);
  float* up = state_.floats(state_.plan.up_scratch[turn.thread]);
  const bool gated = op.gate != model::kNoWeight;
  for (Range tiles; take(turn, tile_count(ffn), kUpRows / kTileRows, &tiles);) {
    const uint64_t begin = tiles.begin * kTileRows, end = std::min(tiles.end * kTileRows, ffn);
    // The gate goes to h; up, where there is a gate, to this turn.thread's scratch.
    run_tiles(linear_args(gated ? op.gate : op.up, xn, max_k, n, turn.thread), tiles, h, ffn);
    add_bias(gated ? op.gate_bias : op.up_bias, begin, end, n, h, ffn);
    if (gated) run_tiles(linear_args(op.up, xn, max_k, n, turn.thread), tiles, up, kUpRows, begin);
    const float* up_bias = gated ? state_.vector(op.up_bias) : nullptr;
    for (uint32_t row = 0; row < n; ++row) {
      float* gate = h + row * ffn + begin;
      float* scale = gated ? up + uint64_t{row} * kUpRows : nullptr;
      if (up_bias != nullptr) state_.kernels.add(up_bias + begin, end - begin, scale);
      state_.kernels.glu(glu_of(op.activation), gate, scale, end - begin, gate);
    }
  }
  barrier();
}

void StepRunner::op(const model::HeadOp& op, Turn turn) {
  const auto n = static_cast<uint32_t>(step_->logits_rows.size());
  if (n == 0) return;
  norm_rows(op.norm, step_->logits_rows, turn.thread);
  barrier();
  const uint64_t n_vocab = state_.program->spec.n_vocab;
  float* logits = state_.floats(state_.plan.logits);
  const Matrix matrix[] = {{op.w, op.bias, logits, n_vocab}};
  linear(matrix, state_.floats(state_.plan.xn), state_.plan.max_k, n, turn,
         [&](uint64_t begin, uint64_t end) {
           for (uint32_t row = 0; row < n; ++row) {
             float* mine = logits + row * n_vocab + begin;
             for (uint64_t i = 0; i < end - begin && op.scale != 1.0f; ++i) mine[i] = mine[i] * op.scale;
             if (op.softcap > 0.0f) state_.kernels.softcap(mine, end - begin, op.softcap);
           }
         });
  barrier();
}

}  // namespace orcd::cpu
