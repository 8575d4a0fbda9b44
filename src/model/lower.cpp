// lower(): a ModelSpec to the flat list of ops, each weight once.
#include <algorithm>
#include <map>
#include <tuple>

#include "model/program.h"
#include "numerics/blocks.h"

namespace orcd::model {
namespace {

class Lowering {
 public:
  explicit Lowering(Program& program) : program_(program) {}

  WeightId matrix(const TensorRef& ref) { return add(ref, WeightRole::kMatrix); }
  WeightId vector(const TensorRef& ref) { return add(ref, WeightRole::kVector); }
  Norm norm(const NormSpec& spec) {
    return {program_.spec.norm_kind, program_.spec.norm_eps, vector(spec.weight), vector(spec.bias)};
  }
  void layer(uint32_t index, const LayerSpec& spec);

 private:
  WeightId add(const TensorRef& ref, WeightRole role);
  void feed_forward(uint32_t index, const LayerSpec& spec);
  void experts(uint32_t index, const LayerSpec& spec);

  Program& program_;
  std::map<std::tuple<const gguf::TensorInfo*, WeightRole, uint64_t, uint64_t>, WeightId> ids_;
};

WeightId Lowering::add(const TensorRef& ref, WeightRole role) {
  if (!ref) return kNoWeight;
  const bool is_matrix = role == WeightRole::kMatrix;
  const uint64_t rows = is_matrix ? ref.n_rows : 1, cols = is_matrix ? ref.tensor->dims[0] : ref.n_rows;
  const auto id = static_cast<WeightId>(program_.weights.size());
  const auto [known, is_new] = ids_.try_emplace({ref.tensor, role, ref.row_begin, ref.n_rows}, id);
  if (!is_new) return known->second;
  std::string name(ref.tensor->name);
  const uint64_t all_rows = is_matrix ? ref.tensor->dims[1] : ref.tensor->n_elements() / ref.n_experts;
  if (ref.row_begin != 0 || ref.n_rows != all_rows) {
    name += std::string("[") + std::to_string(ref.row_begin) + ":" +
            std::to_string(ref.row_begin + ref.n_rows) + "]";
  }
  program_.weights.push_back(
      {std::move(name), role, ref.tensor->type, ref.tensor, ref.row_begin, rows, cols, false, ref.n_experts});
  return id;
}

void Lowering::layer(uint32_t index, const LayerSpec& spec) {
  program_.max_q_dim = std::max(program_.max_q_dim, spec.n_heads * spec.head_dim);
  program_.max_kv_dim = std::max(program_.max_kv_dim, spec.n_kv_heads * spec.head_dim);
  program_.ops.push_back(QkvOp{.layer = index,
                               .n_heads = spec.n_heads,
                               .n_kv_heads = spec.n_kv_heads,
                               .head_dim = spec.head_dim,
                               .norm = norm(spec.attention_norm),
                               .q = matrix(spec.q),
                               .k = matrix(spec.k),
                               .v = matrix(spec.v),
                               .q_bias = vector(spec.q_bias),
                               .k_bias = vector(spec.k_bias),
                               .v_bias = vector(spec.v_bias),
                               .q_norm = vector(spec.q_norm),
                               .k_norm = vector(spec.k_norm),
                               .qk_norm_eps = program_.spec.norm_eps,
                               .rope = spec.rope,
                               .scale = spec.attention_scale});
  program_.ops.push_back(AttentionOp{.layer = index,
                                     .n_heads = spec.n_heads,
                                     .n_kv_heads = spec.n_kv_heads,
                                     .head_dim = spec.head_dim,
                                     .window = spec.window,
                                     .softcap = spec.attention_softcap,
                                     .sinks = vector(spec.sinks)});
  program_.ops.push_back(ProjectOp{.layer = index,
                                   .from_ffn = false,
                                   .w = matrix(spec.o),
                                   .bias = vector(spec.o_bias),
                                   .post_norm = norm(spec.post_attention_norm),
                                   .scale = program_.spec.residual_scale});
  spec.n_experts != 0 ? experts(index, spec) : feed_forward(index, spec);
}

void Lowering::feed_forward(uint32_t index, const LayerSpec& spec) {
  program_.max_ffn_dim = std::max(program_.max_ffn_dim, spec.ffn_dim);
  program_.ops.push_back(GateUpOp{.layer = index,
                                  .norm = norm(spec.ffn_norm),
                                  .gate = matrix(spec.gate),
                                  .up = matrix(spec.up),
                                  .gate_bias = vector(spec.gate_bias),
                                  .up_bias = vector(spec.up_bias),
                                  .activation = spec.activation});
  program_.ops.push_back(ProjectOp{.layer = index,
                                   .from_ffn = true,
                                   .w = matrix(spec.down),
                                   .bias = vector(spec.down_bias),
                                   .post_norm = norm(spec.post_ffn_norm),
                                   .scale = program_.spec.residual_scale});
}

void Lowering::experts(uint32_t index, const LayerSpec& spec) {
  program_.max_ffn_dim = std::max(program_.max_ffn_dim, spec.ffn_dim * spec.n_experts_used);
  program_.max_experts = std::max(program_.max_experts, spec.n_experts);
  program_.max_experts_used = std::max(program_.max_experts_used, spec.n_experts_used);
  program_.ops.push_back(MoeGateUpOp{.layer = index,
                                     .n_experts = spec.n_experts,
                                     .n_used = spec.n_experts_used,
                                     .norm = norm(spec.ffn_norm),
                                     .router = matrix(spec.router),
                                     .router_bias = vector(spec.router_bias),
                                     .gate = matrix(spec.gate),
                                     .up = matrix(spec.up),
                                     .gate_bias = vector(spec.gate_bias),
                                     .up_bias = vector(spec.up_bias),
                                     .activation = spec.activation});
  program_.ops.push_back(MoeDownOp{.layer = index,
                                   .n_experts = spec.n_experts,
                                   .n_used = spec.n_experts_used,
                                   .w = matrix(spec.down),
                                   .bias = vector(spec.down_bias),
                                   .post_norm = norm(spec.post_ffn_norm)});
  for (const TensorRef& ref : {spec.gate, spec.up, spec.down}) {
    if (!ref) continue;
    program_.max_expert_cols = std::max(program_.max_expert_cols, ref.tensor->dims[0]);
    program_.has_float_experts |= !numerics::is_block_format(ref.tensor->type);
  }
}

}  // namespace

Program lower(ModelSpec spec) {
  Program program;
  program.spec = std::move(spec);
  program.ropes = program.spec.ropes;
  Lowering lowering(program);
  const ModelSpec& model = program.spec;
  const WeightId table = lowering.matrix(model.token_embedding);
  program.weights[table].embedding = true;
  const WeightId positions = lowering.matrix(model.position_embedding);
  if (positions != kNoWeight) program.weights[positions].embedding = true;
  program.ops.push_back(EmbedOp{table, positions, model.embedding_scale});
  for (uint32_t i = 0; i < model.n_layers; ++i) lowering.layer(i, model.layers[i]);
  program.ops.push_back(HeadOp{.norm = lowering.norm(model.output_norm),
                               .w = lowering.matrix(model.head),
                               .bias = lowering.vector(model.head_bias),
                               .scale = model.logit_scale,
                               .softcap = model.final_softcap});
  return program;
}

uint64_t row_bytes(const Weight& weight) {
  const FormatInfo* format = find_format(weight.type);
  return weight.cols / format->block_elements * format->block_bytes;
}

}  // namespace orcd::model
