// What the CPU executor's parts share: the program, its memory, and the step that is being run.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "device/cpu/arena.h"
#include "device/cpu/kernels.h"
#include "device/cpu/plan.h"
#include "device/cpu/thread_pool.h"
#include "device/device.h"

namespace orcd::cpu {

struct State {
  State(std::shared_ptr<const model::Program> program_in, const device::ResolvedLimits& limits_in,
        uint32_t n_threads, const Kernels& kernels_in, const device::Progress& progress);

  std::shared_ptr<const model::Program> program;
  device::ResolvedLimits limits;
  CpuPlan plan;
  memory::Ledger ledger;
  const Kernels& kernels;
  ThreadPool pool;
  std::vector<HostArena> arenas;  // by category

  uint8_t* item(uint32_t index) const {
    const memory::PlanItem& item = plan.plan.items()[index];
    return arenas[static_cast<size_t>(item.category)].data() + item.offset;
  }
  float* floats(uint32_t index) const { return reinterpret_cast<float*>(item(index)); }
  const uint8_t* matrix(model::WeightId id) const { return item(plan.weights[id]); }
  // nullptr for kNoWeight.
  const float* vector(model::WeightId id) const {
    return id == model::kNoWeight ? nullptr : floats(plan.weights[id]);
  }
  const model::Weight& weight(model::WeightId id) const { return program->weights[id]; }
};

// Reads, packs and digests every weight. Returns the digest of each, as it lies in memory.
std::vector<numerics::Digest> load_weights(State& state, const device::Progress& progress);
// Recomputes the digests where the weights lie.
std::vector<numerics::Digest> digest_weights(State& state);

Glu glu_of(model::Activation activation);

// One token of a step.
struct TokenRow {
  int32_t token;
  uint32_t position;
  uint32_t sequence;  // index into Step::sequences
};

// Some query heads of one KV head, for some consecutive tokens of one sequence.
struct AttendItem {
  uint32_t sequence, first_row, n_rows, kv_head, first_head, n_heads;
};

struct Step {
  std::span<const device::SequenceStep> sequences;
  std::vector<TokenRow> rows;
  std::vector<uint32_t> logits_rows;  // indices into rows
};

// Runs the whole program for a step: logits of step.logits_rows are in plan.logits afterwards.
class StepRunner {
 public:
  explicit StepRunner(State& state);
  void run(const Step& step);

 private:
  struct Range {
    uint64_t begin, end;
  };
  struct Matrix {
    model::WeightId id;
    model::WeightId bias;
    float* y;
    uint64_t y_stride;
  };

  // What a thread needs to know about an op beside its shapes.
  struct Turn {
    uint32_t thread;
    std::atomic<uint64_t>* next;                        // tile or item of this op that nobody has taken yet
    Turn second() const { return {thread, next + 1}; }  // of the op's second round of tiles
  };

  void walk(uint32_t thread);
  void op(const model::EmbedOp& op, Turn turn);
  void op(const model::QkvOp& op, Turn turn);
  void op(const model::AttentionOp& op, Turn turn);
  void op(const model::ProjectOp& op, Turn turn);
  void op(const model::GateUpOp& op, Turn turn);
  void op(const model::MoeGateUpOp& op, Turn turn);
  void op(const model::MoeDownOp& op, Turn turn);
  void op(const model::HeadOp& op, Turn turn);

  Range share(uint64_t n, uint32_t thread) const;
  // Takes some of the op's n tiles (or items), `most` at most: many at first, then fewer, so that a core that
  // is slowed down by others keeps nobody waiting. False when none is left.
  bool take(Turn turn, uint64_t n, uint64_t most, Range* tiles) const;
  void barrier() { state_.pool.barrier().wait(); }
  void normalize(const model::Norm& norm, const float* x, uint64_t width, float* y) const;
  // xn[row] = norm(x[row]), and its quantised form, for this thread's rows. No barrier.
  void norm_rows(const model::Norm& norm, std::span<const uint32_t> rows, uint32_t thread);
  void quantize_rows(const float* x, uint64_t stride, uint64_t width, uint32_t n_rows, uint32_t thread);
  LinearArgs linear_args(model::WeightId id, const float* xf, uint64_t xf_stride, uint32_t n_rows,
                         uint32_t thread) const;
  // Several matrices with the same input, by tiles; bias added. after(begin, end) is called with the rows of
  // a matrix that this thread has just made.
  template <typename After>
  void linear(std::span<const Matrix> matrices, const float* xf, uint64_t xf_stride, uint32_t n_rows,
              Turn turn, const After& after);
  void add_bias(model::WeightId bias, uint64_t row_begin, uint64_t row_end, uint32_t n_rows, float* y,
                uint64_t stride) const;
  // Experts (experts.cpp). Logits of the router for every token, this thread's tiles. No barrier.
  void router_logits(const model::MoeGateUpOp& op, Turn turn);
  // Experts and weights of this thread's tokens. No barrier.
  void choose_experts(const model::MoeGateUpOp& op, uint32_t thread);
  // Sorts the tokens by expert, a token's ranks in order: places, and which experts have any. One thread.
  void sort_by_expert(uint32_t n_experts, uint32_t n_used);
  // The normed and quantised tokens of this thread's places, copied there. No barrier.
  void gather(uint32_t n_used, bool floats, uint32_t thread);
  // The rows of these tiles: row r goes to y[r - y_row] of each token.
  void run_tiles(LinearArgs args, Range tiles, float* y, uint64_t y_stride, uint64_t y_row = 0) const;
  // What linear_args() gives, for the places of one expert. xf: by place.
  LinearArgs expert_args(model::WeightId id, uint32_t expert, const float* xf, uint32_t thread) const;
  void expert_gate_up(const model::MoeGateUpOp& op, uint32_t expert, Range tiles, uint32_t thread);
  template <typename Work>
  void each_expert_tile(Turn turn, uint64_t n_tiles, uint64_t most, const Work& work);
  const float* expert_bias(model::WeightId id, uint32_t expert) const;
  void quantize_places(const float* x, uint64_t width, uint64_t n, uint32_t thread);

  // y *= scale; x += y.
  void add_scaled(float* y, uint64_t n, float scale, float* x) const;
  void plan_attention(const model::AttentionOp& op);
  void rotate_head(const model::QkvOp& op, model::WeightId norm, uint32_t position, float* head) const;

  State& state_;
  const Step* step_ = nullptr;
  std::vector<std::atomic<uint64_t>> next_tile_;  // by op, two of each
  std::vector<uint32_t> active_experts_;          // those that have places, of the layer under way
  std::vector<uint32_t> all_rows_;
  std::vector<AttendItem> attend_items_;
  uint32_t items_heads_ = 0, items_kv_heads_ = 0;  // the head counts that attend_items_ was made for
};

}  // namespace orcd::cpu
