// Walks a program: every op becomes kernel launches on the engine's stream, eagerly or into a graph.
#pragma once

#include "device/cuda/linear.h"
#include "device/cuda/state.h"

namespace orcd::cuda {

struct StepShape {
  uint32_t n_tokens = 0;
  uint32_t n_rows = 0;  // of logits
  bool decode = false;  // one token of each sequence
};

class Runner {
 public:
  explicit Runner(State& state) : state_(state), calls_(state.calls) {}

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
    bool quantized = false;  // the kernel before left it in xq, xs
  };
  struct Output {
    Epilogue epilogue = Epilogue::kStore;
    model::Activation activation = model::Activation::kSilu;
    float scale = 1.0f, softcap = 0.0f;
    bool quantize = false;  // kGlu of one token: into xq, xs
  };
  void linear(std::span<const Target> targets, const Input& input, const Output& output);
  void linear_blocks(std::span<const Target> targets, const Input& input, const Output& output,
                     bool* quantized);
  void linear_floats(const Target& target, const Input& input, const Output& output, bool* normed);
  InputNorm input_norm(const model::Norm& norm) const;
  bool same_block_format(std::span<const Target> targets) const;
  // How many of the first targets go together: of one block format, or the first alone.
  size_t same_formats(std::span<const Target> targets) const;
  bool one_launch(std::span<const Target> targets, uint32_t n_tokens) const;
  // Whether the matrix kernels for many tokens take them, with the layout of activations that these read.
  bool is_wide(uint32_t n_tokens) const { return state_.context->has_wgmma && n_tokens > kFewTokens; }

  void run(const model::EmbedOp& op);
  void run(const model::QkvOp& op);
  void run(const model::AttentionOp& op);
  void run_decode(const model::AttentionOp& op, bool quantize);
  void run(const model::ProjectOp& op);
  void run(const model::GateUpOp& op);
  void run(const model::HeadOp& op);
  // What CudaPlan refuses: there are no kernels for them.
  [[noreturn]] void run(const model::MoeGateUpOp& op);
  [[noreturn]] void run(const model::MoeDownOp& op);

  State& state_;
  Calls* calls_;
  StepShape shape_;
  RopeArgs rope_;                     // of the layer, from its QKV to its attention
  bool projected_by_blocks_ = false;  // the op after this one is a projection with block-format weights
  bool input_quantized_ = false;      // the next projection's input lies in xq, xs
};

}  // namespace orcd::cuda
