#include "support/reference_executor.h"

#include "kv/layout.h"
#include "numerics/attention.h"
#include "numerics/experts.h"
#include "numerics/linear.h"
#include "numerics/norm.h"
#include "numerics/rope.h"

namespace orcd::test {
namespace {

uint64_t row_bytes(TensorType type, uint64_t cols) {
  const FormatInfo* format = find_format(type);
  return cols / format->block_elements * format->block_bytes;
}

float activate(model::Activation activation, float x) {
  if (activation == model::Activation::kSilu) return numerics::silu(x);
  return activation == model::Activation::kGeluTanh ? numerics::gelu_tanh(x) : numerics::gelu_erf(x);
}

float glu(model::Activation activation, float gate, float up) {
  if (activation == model::Activation::kClampedSwiglu) return numerics::clamped_swiglu(gate, up);
  return activate(activation, gate) * up;
}

}  // namespace

ReferenceExecutor::ReferenceExecutor(const model::Program& program)
    : program_(program),
      matrices_(program.weights.size()),
      vectors_(program.weights.size()),
      kv_(program.spec.n_layers) {
  for (size_t id = 0; id < program.weights.size(); ++id) {
    const model::Weight& weight = program.weights[id];
    const bool is_matrix = weight.role == model::WeightRole::kMatrix;
    const uint64_t bytes = row_bytes(weight.type, weight.cols);
    std::vector<uint8_t> data(bytes * weight.rows * weight.n_experts);
    const uint64_t unit_bytes = is_matrix ? bytes : find_format(weight.type)->block_bytes;
    program.spec.file->read(*weight.tensor, weight.row_begin * unit_bytes, data);
    if (is_matrix) {
      matrices_[id] = std::move(data);
    } else {
      vectors_[id].resize(weight.cols * weight.n_experts);
      numerics::dequantize_row(weight.type, data.data(), vectors_[id].size(), vectors_[id].data());
    }
  }
}

const float* ReferenceExecutor::vector(model::WeightId id) const {
  return id == model::kNoWeight ? nullptr : vectors_[id].data();
}

void ReferenceExecutor::linear(model::WeightId id, model::WeightId bias, std::span<const float> x,
                               std::vector<float>* y, uint64_t expert) const {
  const model::Weight& weight = program_.weights[id];
  const uint64_t cols = weight.cols, n = x.size() / cols, bytes = row_bytes(weight.type, cols);
  const uint32_t strips = numerics::strip_count(weight.rows, cols);
  const bool blocks = numerics::is_block_format(weight.type), has_min = numerics::has_minimum(weight.type);
  std::vector<numerics::QuantizedGroup> quantized(blocks ? n * cols / 32 : 0);
  for (size_t i = 0; i < quantized.size(); ++i)
    numerics::quantize_group(x.data() + i * 32, numerics::kGroup, &quantized[i]);
  y->assign(n * weight.rows, 0.0f);
  std::vector<float> total(n), acc(n);
  for (uint64_t row = 0; row < weight.rows; ++row) {
    const uint8_t* data = matrices_[id].data() + (expert * weight.rows + row) * bytes;
    // The same links as linear_blocks, with the weights decoded once for all tokens.
    for (uint32_t s = 0; blocks && s < strips; ++s) {
      acc.assign(n, 0.0f);
      const uint64_t end = numerics::strip_begin(cols, strips, s + 1) / 32;
      for (uint64_t g = numerics::strip_begin(cols, strips, s) / 32; g < end; ++g) {
        const numerics::WeightGroup group = numerics::decode_group(weight.type, data, g);
        for (uint64_t t = 0; t < n; ++t)
          acc[t] = numerics::chain_group(group, has_min, quantized[t * (cols / 32) + g], acc[t]);
      }
      for (uint64_t t = 0; t < n; ++t) total[t] = s == 0 ? acc[t] : total[t] + acc[t];
    }
    for (uint64_t t = 0; t < n; ++t) {
      if (!blocks) total[t] = numerics::linear_floats(weight.type, data, x.data() + t * cols, cols, strips);
      (*y)[t * weight.rows + row] =
          bias == model::kNoWeight ? total[t] : total[t] + vectors_[bias][expert * weight.rows + row];
    }
  }
}

void ReferenceExecutor::norm(const model::Norm& norm, const std::vector<float>& x, uint32_t width,
                             std::vector<float>* y) const {
  *y = x;
  if (norm.weight == model::kNoWeight) return;
  for (size_t begin = 0; begin < x.size(); begin += width) {
    if (norm.kind == model::NormKind::kRms) {
      numerics::rms_norm(x.data() + begin, width, vector(norm.weight), norm.eps, y->data() + begin);
    } else {
      numerics::layer_norm(x.data() + begin, width, vector(norm.weight), vector(norm.bias), norm.eps,
                           y->data() + begin);
    }
  }
}

void ReferenceExecutor::run(const model::EmbedOp& op) {
  const model::Weight& table = program_.weights[op.table];
  const uint32_t dim = program_.spec.dim;
  std::vector<float>& x = activations_["x"];
  x.resize(tokens_.size() * dim);
  for (size_t t = 0; t < tokens_.size(); ++t) {
    float* row = x.data() + t * dim;
    numerics::dequantize_row(table.type, matrices_[op.table].data() + tokens_[t] * row_bytes(table.type, dim),
                             dim, row);
    for (uint32_t i = 0; i < dim; ++i) row[i] = row[i] * op.scale;
    if (op.positions == model::kNoWeight) continue;
    const model::Weight& positions = program_.weights[op.positions];
    std::vector<float> offset(dim);
    numerics::dequantize_row(
        positions.type, matrices_[op.positions].data() + (position_ + t) * row_bytes(positions.type, dim),
        dim, offset.data());
    for (uint32_t i = 0; i < dim; ++i) row[i] = row[i] + offset[i];
  }
}

void ReferenceExecutor::rotate(const model::RopeSpec& rope, uint32_t index, uint32_t position,
                               uint32_t head_dim, float* head) {
  const uint32_t pairs = rope.n_dims / 2;
  std::vector<float>& table = rope_tables_[index];
  const size_t have = table.size() / (2 * pairs);
  if (position >= have) {
    table.resize(size_t{2} * pairs * (position + 256));
    numerics::rope_table(rope_params(rope), 0, position + 256, table.data());
  }
  for (uint32_t i = 0; i < pairs && rope.n_dims <= head_dim; ++i) {
    const float* angle = table.data() + (size_t{position} * pairs + i) * 2;
    const bool halves = rope.style == model::RopeStyle::kHalves;
    numerics::rotate_pair(&head[halves ? i : 2 * i], &head[halves ? i + pairs : 2 * i + 1], angle[0],
                          angle[1]);
  }
}

void ReferenceExecutor::run(const model::QkvOp& op) {
  std::vector<float> xn, k, v;
  std::vector<float>& q = activations_["q"];
  norm(op.norm, activations_["x"], program_.spec.dim, &xn);
  linear(op.q, op.q_bias, xn, &q);
  linear(op.k, op.k_bias, xn, &k);
  linear(op.v, op.v_bias, xn, &v);
  const uint32_t n = static_cast<uint32_t>(tokens_.size()), dim = op.head_dim;
  const auto finish = [&](std::vector<float>* data, uint32_t n_heads, model::WeightId weight) {
    for (uint32_t t = 0; t < n; ++t) {
      for (uint32_t head = 0; head < n_heads; ++head) {
        float* values = data->data() + (size_t{t} * n_heads + head) * dim;
        if (weight != model::kNoWeight)
          numerics::rms_norm(values, dim, vector(weight), op.qk_norm_eps, values);
        if (op.rope >= 0)
          rotate(program_.ropes[op.rope], static_cast<uint32_t>(op.rope), position_ + t, dim, values);
      }
    }
  };
  finish(&q, op.n_heads, op.q_norm);
  finish(&k, op.n_kv_heads, op.k_norm);
  for (float& value : q) value = value * op.scale;
  LayerKv& kv = kv_[op.layer];
  const size_t page_elements = kv::page_bytes(op.n_kv_heads, dim) / 2;
  while (kv.pages.size() < kv::pages_for(position_ + n)) kv.pages.emplace_back(page_elements);
  for (uint32_t t = 0; t < n; ++t) {
    std::vector<uint16_t>& page = kv.pages[(position_ + t) / kv::kPagePositions];
    const uint32_t slot = (position_ + t) % kv::kPagePositions;
    for (uint32_t head = 0; head < op.n_kv_heads; ++head) {
      uint16_t* k_page = page.data() + size_t{head} * dim * 2 * kv::kPagePositions;
      uint16_t* v_page = k_page + size_t{dim} * kv::kPagePositions;
      for (uint32_t d = 0; d < dim; ++d) {
        const size_t from = (size_t{t} * op.n_kv_heads + head) * dim + d;
        k_page[d * kv::kPagePositions + slot] = numerics::float_to_half(k[from]);
        v_page[size_t{slot} * dim + d] = numerics::float_to_half(v[from]);
      }
    }
  }
}

void ReferenceExecutor::run(const model::AttentionOp& op) {
  const std::vector<float>& q = activations_["q"];
  std::vector<float>& a = activations_["a"];
  a.assign(q.size(), 0.0f);
  const std::vector<std::vector<uint16_t>>& pages = kv_[op.layer].pages;
  std::vector<const uint16_t*> k_pages(pages.size()), v_pages(pages.size());
  std::vector<float> scratch(op.head_dim);
  for (uint32_t head = 0; head < op.n_heads; ++head) {
    const size_t kv_head = head / (op.n_heads / op.n_kv_heads);
    for (size_t i = 0; i < pages.size(); ++i) {
      k_pages[i] = pages[i].data() + kv_head * op.head_dim * 2 * kv::kPagePositions;
      v_pages[i] = k_pages[i] + size_t{op.head_dim} * kv::kPagePositions;
    }
    for (size_t t = 0; t < tokens_.size(); ++t) {
      const size_t at = (t * op.n_heads + head) * op.head_dim;
      numerics::attention(q.data() + at, k_pages.data(), v_pages.data(), position_ + static_cast<uint32_t>(t),
                          op.window, op.head_dim, op.softcap, a.data() + at, scratch.data(),
                          op.sinks == model::kNoWeight ? nullptr : &vectors_[op.sinks][head]);
    }
  }
}

void ReferenceExecutor::run(const model::ProjectOp& op) {
  std::vector<float> y, normed;
  linear(op.w, op.bias, activations_[op.from_ffn ? "h" : "a"], &y);
  norm(op.post_norm, y, program_.spec.dim, &normed);
  std::vector<float>& x = activations_["x"];
  for (size_t i = 0; i < x.size(); ++i) x[i] = x[i] + normed[i] * op.scale;
}

void ReferenceExecutor::run(const model::GateUpOp& op) {
  std::vector<float> xn, gate, up;
  norm(op.norm, activations_["x"], program_.spec.dim, &xn);
  linear(op.up, op.up_bias, xn, &up);
  if (op.gate != model::kNoWeight) linear(op.gate, op.gate_bias, xn, &gate);
  for (size_t i = 0; i < up.size(); ++i)
    up[i] = gate.empty() ? activate(op.activation, up[i]) : glu(op.activation, gate[i], up[i]);
  activations_["h"] = std::move(up);
}

void ReferenceExecutor::run(const model::MoeGateUpOp& op) {
  const uint64_t n = tokens_.size(), dim = program_.spec.dim;
  std::vector<float> xn, logits, gate, up, h;
  norm(op.norm, activations_["x"], program_.spec.dim, &xn);
  linear(op.router, op.router_bias, xn, &logits);
  experts_.resize(n * op.n_used);
  expert_weights_.resize(n * op.n_used);
  for (uint64_t t = 0; t < n; ++t) {
    numerics::route(&logits[t * op.n_experts], op.n_experts, op.n_used, &experts_[t * op.n_used],
                    &expert_weights_[t * op.n_used]);
    for (uint32_t rank = 0; rank < op.n_used; ++rank) {
      const uint32_t expert = experts_[t * op.n_used + rank];
      linear(op.gate, op.gate_bias, std::span(xn).subspan(t * dim, dim), &gate, expert);
      linear(op.up, op.up_bias, std::span(xn).subspan(t * dim, dim), &up, expert);
      for (size_t i = 0; i < up.size(); ++i) h.push_back(glu(op.activation, gate[i], up[i]));
    }
  }
  activations_["h"] = std::move(h);
}

void ReferenceExecutor::run(const model::MoeDownOp& op) {
  const uint64_t n = tokens_.size(), dim = program_.spec.dim, ffn = program_.weights[op.w].cols;
  std::vector<float> y(n * dim), output, normed;
  for (uint64_t t = 0; t < n; ++t) {
    for (uint32_t rank = 0; rank < op.n_used; ++rank) {
      const uint64_t at = t * op.n_used + rank;
      linear(op.w, op.bias, std::span(activations_["h"]).subspan(at * ffn, ffn), &output, experts_[at]);
      for (uint64_t i = 0; i < dim; ++i)
        y[t * dim + i] = numerics::combine_expert(rank, expert_weights_[at], output[i], y[t * dim + i]);
    }
  }
  norm(op.post_norm, y, program_.spec.dim, &normed);
  std::vector<float>& x = activations_["x"];
  for (size_t i = 0; i < x.size(); ++i) x[i] = x[i] + normed[i];
}

void ReferenceExecutor::run(const model::HeadOp& op) {
  std::vector<float> xn;
  std::vector<float>& logits = activations_["logits"];
  norm(op.norm, activations_["x"], program_.spec.dim, &xn);
  linear(op.w, op.bias, xn, &logits);
  for (float& value : logits) {
    value = value * op.scale;
    if (op.softcap > 0.0f) value = numerics::softcap(value, op.softcap);
  }
}

std::vector<float> ReferenceExecutor::append(std::span<const int32_t> tokens) {
  tokens_.assign(tokens.begin(), tokens.end());
  for (const model::Op& op : program_.ops) std::visit([this](const auto& one) { run(one); }, op);
  position_ += static_cast<uint32_t>(tokens.size());
  return activations_.at("logits");
}

std::vector<float> reference_logits(const model::Program& program, std::span<const int32_t> tokens) {
  return ReferenceExecutor(program).append(tokens);
}

}  // namespace orcd::test
