// Walks a program: every op becomes kernel launches on the engine's stream, eagerly or into a graph.
#pragma once

#include "base/units.h"
#include "device/cuda/experts.h"
#include "device/cuda/linear.h"
#include "device/cuda/persistent.h"
#include "device/cuda/state.h"

namespace orcd::cuda {

struct StepShape {
  uint32_t n_tokens = 0;
  uint32_t n_rows = 0;      // of logits
  bool decode = false;      // one token of each sequence
  bool persistent = false;  // all layers by one kernel: one token, where can_persist() says so
  uint32_t buffer = 0;      // where its words lie and its results go, of kDepth
};

class Runner {
 public:
  explicit Runner(State& state) : state_(state), calls_(state.calls) {}
  // Once, behind load_weights(), which leaves the activations cleared, and before steps.
  void prepare() { persistent_ = make_persistent(state_); }
  // Whether a token at this position can go through all layers by one kernel.
  bool can_persist(uint32_t position) const;

  // All kernels of a step whose StepView lies on the device.
  void run(const StepShape& shape);

 private:
  // A weight of a linear op and where its rows go.
  struct Target {
    model::WeightId weight, bias;
    float* out;
    uint32_t out_stride;
  };
  struct Input {
    const float* x;
    const int32_t* row_index;  // nullptr: rows 0, 1, ...
    uint32_t n;
    model::Norm norm;
    bool quantized = false;  // the kernel before left it in xq, xs, or in place of x where is_wide(n)
  };
  struct Output {
    Epilogue epilogue = Epilogue::kStore;
    model::Activation activation = model::Activation::kSilu;
    float scale = 1.0f, softcap = 0.0f;
    bool quantize = false;  // kGlu: of one token into xq, xs; of many, whose input is there, in its place
  };
  void linear(std::span<const Target> targets, const Input& input, const Output& output);
  // What a launch takes of the weights, and of the quantised activations of several tokens.
  LinearArgs block_args(std::span<const Target> targets, const Output& output) const;
  void quantize(const Input& input, uint32_t cols, uint32_t token_stride);
  void linear_blocks(std::span<const Target> targets, const Input& input, const Output& output,
                     bool* quantized);
  // The place of what would be in xq and xs where f32 rows of `cols` have theirs; codes nullptr where that
  // has too little room.
  struct QuantizedPlace {
    uint8_t* codes = nullptr;
    float2* scales = nullptr;
  };
  QuantizedPlace quantized_in(const float* rows, uint32_t n_tokens, uint32_t cols) const;
  void norm_rows(const Input& input, uint32_t cols);  // into xn
  void linear_floats(const Target& target, const Input& input, const Output& output, bool* normed);
  void add_normed(const model::Norm& norm, float scale);  // x += norm(y) * scale
  bool same_block_format(std::span<const Target> targets) const;
  // How many of the first targets go together: of one block format, or the first alone.
  size_t same_formats(std::span<const Target> targets) const;
  bool one_launch(std::span<const Target> targets, uint32_t n_tokens) const;
  // Whether the matrix kernels for many tokens take them, with the layout of activations that these read.
  bool is_wide(uint32_t n_tokens) const { return state_.context->has_wgmma && n_tokens > kFewTokens; }
  // Tokens that this layout has room for.
  static uint32_t wide_stride(uint32_t n_tokens) {
    return static_cast<uint32_t>(align_up(n_tokens, kTokenAlignment));
  }

  SampleArgs sample_args() const;
  void run(const model::EmbedOp& op);
  void run(const model::QkvOp& op);
  void run(const model::AttentionOp& op);
  void run_decode(const model::AttentionOp& op, bool quantize);
  // Of the projection and the gate and up weights that follow, as much as can come during the attention.
  WeightPrefetch prefetch_after_attention() const;
  void run(const model::ProjectOp& op);
  void run(const model::GateUpOp& op);
  void run(const model::HeadOp& op);
  void run(const model::MoeGateUpOp& op);
  void run(const model::MoeDownOp& op);

  // Experts (N7): chooses them for each token, and sorts the tokens where they go by place.
  void route(const model::MoeGateUpOp& op);
  void sort_by_expert(const model::MoeGateUpOp& op);
  // One linear layer of experts. pairs_per_row: pairs that share a row of the input.
  void experts(std::span<const Target> targets, const Input& input, const Output& output,
               uint32_t pairs_per_row);
  void expert_blocks(std::span<const Target> targets, const Input& input, const Output& output,
                     uint32_t pairs_per_row);
  void expert_floats(const Target& target, const Input& input, uint32_t pairs_per_row);

  State& state_;
  Calls* calls_;
  std::optional<Persistent> persistent_;
  StepShape shape_;
  StepView step_;
  RopeArgs rope_;                     // of the layer, from its QKV to its attention
  bool projected_by_blocks_ = false;  // the op after this one is a projection with block-format weights
  bool input_quantized_ = false;      // of the next projection: Input::quantized
  // How the layer's experts work, from its gate to its down projection.
  struct ExpertWork {
    uint32_t n_pairs = 0, n_experts = 0;
    bool by_pair = false;  // the kernel of one token for each pair; else by place
    bool wide = false;     // by place, on wgmma
    uint32_t rows() const { return by_pair ? n_pairs : most_places(n_pairs, n_experts); }
  } work_;
  const model::MoeDownOp* down_ = nullptr;     // the op after this one
  const model::ProjectOp* project_ = nullptr;  // likewise
  const model::GateUpOp* gate_up_ = nullptr;   // the op after that
};

}  // namespace orcd::cuda
