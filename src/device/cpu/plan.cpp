#include "device/cpu/plan.h"

#include <algorithm>
#include <string>

#include "base/units.h"
#include "device/cpu/kernels.h"
#include "kv/layout.h"
#include "sampling/sampler.h"

namespace orcd::cpu {

using memory::Category;

CpuPlan::CpuPlan(const model::Program& program, const device::ResolvedLimits& limits, uint32_t n_threads) {
  const model::ModelSpec& spec = program.spec;
  const uint64_t tokens = limits.batch_tokens;
  uint64_t max_row_bytes = 0;
  uint32_t max_head_dim = 0;
  for (const model::Weight& weight : program.weights) {
    const bool matrix = weight.role == model::WeightRole::kMatrix;
    weights.push_back(plan.add(
        weight.name, Category::kWeights,
        weight.n_experts * (matrix ? packed_bytes(weight.type, weight.rows, weight.cols) : weight.cols * 4)));
    if (!matrix) continue;
    const FormatInfo* format = find_format(weight.type);
    max_k = std::max(max_k, weight.cols);
    max_row_bytes = std::max(max_row_bytes, weight.cols / format->block_elements * format->block_bytes);
  }
  for (uint32_t layer = 0; layer < spec.n_layers; ++layer) {
    const model::LayerSpec& l = spec.layers[layer];
    max_head_dim = std::max(max_head_dim, l.head_dim);
    kv.push_back(plan.add("kv.layer." + std::to_string(layer), Category::kKv,
                          uint64_t{limits.kv_pages} * kv::page_bytes(l.n_kv_heads, l.head_dim)));
  }
  const auto floats = [&](const char* name, uint64_t n) {
    return plan.add(name, Category::kActivations, n * 4);
  };
  max_k = align_up(std::max<uint64_t>(max_k, spec.dim), 32);
  x = floats("x", tokens * spec.dim);
  xn = floats("norm", tokens * max_k);
  q = floats("q", tokens * program.max_q_dim);
  k = floats("k", tokens * program.max_kv_dim);
  v = floats("v", tokens * program.max_kv_dim);
  a = floats("attention", tokens * program.max_q_dim);
  h = floats("ffn", tokens * program.max_ffn_dim);
  y = floats("projection", tokens * spec.dim);
  xq = plan.add("quantized.codes", Category::kActivations, tokens * max_k);
  xs = plan.add("quantized.scales", Category::kActivations, tokens * (max_k / 32) * sizeof(GroupScale));
  if (program.max_experts != 0) plan_experts(program, tokens);
  logits = floats("logits", uint64_t{limits.logits_rows} * spec.n_vocab);
  for (size_t i = 0; i < program.ropes.size(); ++i) {
    ropes.push_back(
        floats(("rope." + std::to_string(i)).c_str(), uint64_t{limits.context} * program.ropes[i].n_dims));
  }
  staging_bytes = align_up(max_row_bytes * kTileRows, 64);
  for (uint32_t thread = 0; thread < n_threads; ++thread) {
    const std::string prefix = "thread." + std::to_string(thread);
    linear_scratch.push_back(
        plan.add(prefix + ".codes", Category::kActivations, linear_scratch_bytes(max_k)));
    attend_scratch.push_back(
        plan.add(prefix + ".attention", Category::kActivations, attend_scratch_floats(max_head_dim) * 4));
    up_scratch.push_back(plan.add(prefix + ".up", Category::kActivations, tokens * kUpRows * 4));
    staging.push_back(plan.add(prefix + ".staging", Category::kStaging, staging_bytes));
    sample_scratch.push_back(
        plan.add(prefix + ".sampling", Category::kSampling, sampling::workspace_bytes(spec.n_vocab)));
  }
  for (uint32_t slot = 0; slot < limits.slots; ++slot) {
    slot_state.push_back(
        plan.add("slot." + std::to_string(slot), Category::kSampling, sampling::slot_bytes(spec.n_vocab)));
  }
}

void CpuPlan::plan_experts(const model::Program& program, uint64_t tokens) {
  const uint64_t places = tokens * program.max_experts_used;
  const uint64_t dim = program.spec.dim;
  const uint64_t longest = align_up(program.max_expert_cols, 32);  // whole groups
  const auto words = [&](const char* name, uint64_t n) {
    return plan.add(std::string("experts.") + name, Category::kActivations, n * 4);
  };
  experts.router = words("router", tokens * program.max_experts);
  experts.chosen = words("chosen", places);
  experts.weights = words("weights", places);
  experts.place = words("place", places);
  experts.token = words("token", places);
  experts.begin = words("begin", uint64_t{program.max_experts} + 1);
  experts.input = words("input", program.has_float_experts ? places * dim : 0);
  experts.codes = plan.add("experts.codes", Category::kActivations, places * longest);
  experts.scales =
      plan.add("experts.scales", Category::kActivations, places * (longest / 32) * sizeof(GroupScale));
  experts.output = words("output", places * dim);
}

}  // namespace orcd::cpu
