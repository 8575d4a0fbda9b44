// to_text(): a program for people, and what a token reads of it.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <set>

#include "model/program.h"
#include "numerics/strips.h"

namespace orcd::model {
namespace {

// The shortest text that reads back as the same number.
template <typename T>
std::string number(T value) {
  char text[40];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

std::string times(uint64_t a, uint64_t b) { return std::to_string(a) + "x" + std::to_string(b); }

std::string_view activation_name(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return "silu";
    case Activation::kGeluTanh:
      return "gelu_tanh";
    case Activation::kGeluErf:
      return "gelu_erf";
    case Activation::kClampedSwiglu:
      return "clamped_swiglu";
  }
  return "?";
}

struct Line {
  std::string layer, op, shapes, settings, weights;
};

class Printer {
 public:
  explicit Printer(const Program& program) : program_(program) {}

  Line line(const EmbedOp& op) const {
    Line out{"-", "embed", "tokens[n] -> x[n, " + dim() + "]", {}, {}};
    if (op.scale != 1.0f) out.settings = "scale " + number(op.scale);
    out.weights = weights({op.table, op.positions});
    return out;
  }
  Line line(const QkvOp& op) const {
    const std::string kv = "[n, " + times(op.n_kv_heads, op.head_dim) + "]";
    Line out{std::to_string(op.layer), "qkv", {}, {}, {}};
    out.shapes = "x[n, " + dim() + "] -> q[n, " + times(op.n_heads, op.head_dim) + "], k, v" + kv;
    out.settings = norm(op.norm) + (op.rope < 0 ? "no rope, " : "rope " + std::to_string(op.rope) + ", ") +
                   "scale " + number(op.scale);
    out.weights = weights({op.norm.weight, op.norm.bias, op.q, op.k, op.v, op.q_bias, op.k_bias, op.v_bias,
                           op.q_norm, op.k_norm});
    return out;
  }
  Line line(const AttentionOp& op) const {
    const std::string heads = "[n, " + times(op.n_heads, op.head_dim) + "]";
    Line out{std::to_string(op.layer), "attention", "q" + heads + " -> a" + heads, {}, {}};
    out.settings = op.window ? "window " + std::to_string(op.window) : "causal";
    if (op.softcap > 0) out.settings += ", softcap " + number(op.softcap);
    out.weights = weights({op.sinks});
    return out;
  }
  Line line(const ProjectOp& op) const {
    const std::string from = op.from_ffn ? "h" : "a";
    Line out{std::to_string(op.layer), op.from_ffn ? "down" : "output", {}, {}, {}};
    out.shapes = from + "[n, " + std::to_string(program_.weights[op.w].cols) + "] -> x[n, " + dim() + "]";
    if (op.post_norm.weight != kNoWeight) out.settings = "post-" + norm(op.post_norm);
    out.settings += "residual";
    if (op.scale != 1.0f) out.settings += " x " + number(op.scale);
    out.weights = weights({op.w, op.bias, op.post_norm.weight, op.post_norm.bias});
    return out;
  }
  Line line(const GateUpOp& op) const {
    Line out{std::to_string(op.layer), op.gate == kNoWeight ? "up" : "gate_up", {}, {}, {}};
    out.shapes = "x[n, " + dim() + "] -> h[n, " + std::to_string(program_.weights[op.up].rows) + "]";
    out.settings = norm(op.norm) + std::string(activation_name(op.activation));
    out.weights = weights({op.norm.weight, op.norm.bias, op.gate, op.up, op.gate_bias, op.up_bias});
    return out;
  }
  Line line(const MoeGateUpOp& op) const {
    Line out{std::to_string(op.layer), "moe_gate_up", {}, {}, {}};
    out.shapes = "x[n, " + dim() + "] -> h[n, " + times(op.n_used, program_.weights[op.up].rows) + "]";
    out.settings = norm(op.norm) + std::to_string(op.n_used) + " of " + std::to_string(op.n_experts) +
                   " experts, " + std::string(activation_name(op.activation));
    out.weights = weights(
        {op.norm.weight, op.norm.bias, op.router, op.router_bias, op.gate, op.up, op.gate_bias, op.up_bias});
    return out;
  }
  Line line(const MoeDownOp& op) const {
    Line out{std::to_string(op.layer), "moe_down", {}, {}, {}};
    out.shapes = "h[n, " + times(op.n_used, program_.weights[op.w].cols) + "] -> x[n, " + dim() + "]";
    if (op.post_norm.weight != kNoWeight) out.settings = "post-" + norm(op.post_norm);
    out.settings += std::to_string(op.n_used) + " of " + std::to_string(op.n_experts) + " experts, residual";
    out.weights = weights({op.w, op.bias, op.post_norm.weight, op.post_norm.bias});
    return out;
  }
  Line line(const HeadOp& op) const {
    Line out{"-",
             "head",
             "x[n, " + dim() + "] -> logits[n, " + std::to_string(program_.spec.n_vocab) + "]",
             {},
             {}};
    out.settings = norm(op.norm) + (op.w == embedding() ? "tied" : "own");
    if (op.scale != 1.0f) out.settings += ", scale " + number(op.scale);
    if (op.softcap > 0) out.settings += ", softcap " + number(op.softcap);
    out.weights = weights({op.norm.weight, op.norm.bias, op.w, op.bias});
    return out;
  }

 private:
  std::string dim() const { return std::to_string(program_.spec.dim); }
  WeightId embedding() const { return std::get<EmbedOp>(program_.ops.front()).table; }

  std::string norm(const Norm& norm) const {
    if (norm.weight == kNoWeight) return {};
    return (norm.kind == NormKind::kRms ? "rms " : "layernorm ") + number(norm.eps) + ", ";
  }

  // "attn_q Q4_1 576x576 /4": name without its layer, type, rows x cols, strips; experts x before them.
  std::string weights(std::initializer_list<WeightId> ids) const {
    std::string out;
    for (const WeightId id : ids) {
      if (id == kNoWeight) continue;
      const Weight& weight = program_.weights[id];
      std::string_view name = weight.name;
      if (name.starts_with("blk.")) name.remove_prefix(name.find('.', 4) + 1);
      if (name.ends_with(".weight")) name.remove_suffix(7);
      out += (out.empty() ? "" : "  ") + std::string(name) + " " + tensor_type_name(weight.type) + " ";
      if (weight.n_experts > 1) out += std::to_string(weight.n_experts) + "x";
      if (weight.role == WeightRole::kVector) {
        out += std::to_string(weight.cols);
      } else {
        out += times(weight.rows, weight.cols) + " /" +
               std::to_string(numerics::strip_count(weight.rows, weight.cols));
      }
    }
    return out;
  }

  const Program& program_;
};

std::string rope_text(const RopeSpec& rope) {
  std::string out = std::to_string(rope.n_dims) + " dimensions, " +
                    (rope.style == RopeStyle::kInterleaved ? "interleaved" : "halves") + ", base " +
                    number(rope.base);
  if (rope.scale != 1.0) out += ", positions x " + number(rope.scale);
  if (!rope.freq_factors.empty())
    out += ", " + std::to_string(rope.freq_factors.size()) + " frequency factors";
  if (rope.yarn_factor > 0) {
    out += ", YaRN x " + number(rope.yarn_factor) + " from " + number(rope.yarn_original_ctx) + " positions";
    if (!rope.yarn_rounded) out += ", bounds not rounded";
  }
  return out;
}

}  // namespace

std::string to_text(const Program& program) {
  const ModelSpec& spec = program.spec;
  std::string out = spec.name + ": " + spec.architecture + ", " + std::to_string(spec.n_layers) +
                    " layers, dim " + std::to_string(spec.dim) + ", vocabulary " +
                    std::to_string(spec.n_vocab) + ", context " + std::to_string(spec.context_length) + "\n";
  for (size_t i = 0; i < program.ropes.size(); ++i) {
    out += "rope " + std::to_string(i) + ": " + rope_text(program.ropes[i]) + "\n";
  }
  out += std::to_string(program.ops.size()) + " ops, " + std::to_string(program.weights.size()) +
         " weights, " + std::to_string(weight_bytes_per_token(program)) +
         " weight bytes read for a token; n = tokens in a step; weights: name type rows x cols /strips\n";

  const Printer printer(program);
  std::vector<Line> lines = {{"layer", "op", "shapes", "settings", "weights"}};
  for (const Op& op : program.ops) {
    lines.push_back(std::visit([&](const auto& o) { return printer.line(o); }, op));
  }
  size_t width[4] = {};
  for (const Line& line : lines) {
    const std::string* columns[4] = {&line.layer, &line.op, &line.shapes, &line.settings};
    for (int i = 0; i < 4; ++i) width[i] = std::max(width[i], columns[i]->size());
  }
  for (size_t i = 0; i < lines.size(); ++i) {
    const Line& line = lines[i];
    const std::string* columns[4] = {&line.layer, &line.op, &line.shapes, &line.settings};
    char index[16];
    std::snprintf(index, sizeof index, i ? "%4zu  " : "  op  ", i - 1);
    std::string row = index;
    for (int c = 0; c < 4; ++c) row += *columns[c] + std::string(width[c] - columns[c]->size() + 2, ' ');
    row += line.weights;
    row.erase(row.find_last_not_of(' ') + 1);
    out += row + "\n";
  }
  return out;
}

uint64_t weight_bytes_per_token(const Program& program) {
  // Every weight is read whole, except a table that is only looked up: one row of it; and experts.
  std::set<WeightId> looked_up;
  for (const Op& op : program.ops) {
    if (const auto* embed = std::get_if<EmbedOp>(&op)) looked_up = {embed->table, embed->positions};
    if (const auto* head = std::get_if<HeadOp>(&op)) looked_up.erase(head->w);
  }
  std::map<WeightId, uint32_t> n_used;  // of a weight's experts
  for (const Op& op : program.ops) {
    if (const auto* moe = std::get_if<MoeGateUpOp>(&op)) {
      for (const WeightId id : {moe->gate, moe->up, moe->gate_bias, moe->up_bias}) n_used[id] = moe->n_used;
    } else if (const auto* down = std::get_if<MoeDownOp>(&op)) {
      for (const WeightId id : {down->w, down->bias}) n_used[id] = down->n_used;
    }
  }
  uint64_t bytes = 0;
  for (WeightId id = 0; id < program.weights.size(); ++id) {
    const Weight& weight = program.weights[id];
    const auto experts = n_used.find(id);
    bytes += row_bytes(weight) * (looked_up.contains(id) ? 1 : weight.rows) *
             (experts != n_used.end() ? experts->second : 1);
  }
  return bytes;
}

}  // namespace orcd::model
