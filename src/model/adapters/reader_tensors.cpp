// Tensors of a Reader: presence, shape and type; and the rope tables that the file declares.
#include <cmath>

#include "model/adapters/reader.h"
#include "numerics/blocks.h"
#include "numerics/rope.h"

namespace orcd::model {
namespace {

constexpr std::string_view kTypeHint = "convert or requantise it to F16, BF16, Q8_0, Q4_0 or Q4_K_M";

// Hyperparameters that change the results in whichever family they stand, and the value that changes nothing.
struct Meaningful {
  std::string_view name;
  double neutral;
};
constexpr Meaningful kMeaningful[] = {
    {"embedding_scale", 1},
    {"residual_scale", 1},
    {"logit_scale", 1},
    {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"router_logit_softcapping", 0},
    {"attention.sliding_window", 0},
    {"attention.clamp_kqv", 0},
    {"attention.max_alibi_bias", 0},
    {"attention.temperature_scale", 0},
    {"attention.output_scale", 1},
};

std::string shape_text(const gguf::TensorInfo& tensor) {
  std::string text = "[";
  for (uint32_t i = 0; i < tensor.n_dims; ++i) text += (i ? ", " : "") + std::to_string(tensor.dims[i]);
  return text + "]";
}

}  // namespace

void Reader::fail_tensor(const gguf::TensorInfo& tensor, std::string message, std::string hint) const {
  throw gguf::load_error(*file_, tensor.name, tensor.info_offset, std::move(message), std::move(hint));
}

const gguf::TensorInfo* Reader::take(std::string_view name, bool needed) const {
  const gguf::TensorInfo* tensor = file_->find_tensor(name);
  if (tensor) {
    read_.emplace(name);
  } else if (needed) {
    throw gguf::load_error(*file_, name, kHeaderEnd, "tensor is missing; " + architecture_ + " needs it");
  }
  return tensor;
}

TensorRef Reader::checked_matrix(const gguf::TensorInfo& tensor, uint64_t rows, uint64_t cols,
                                 uint64_t n_experts) const {
  if (tensor.dims[0] != cols || tensor.dims[1] != rows || tensor.dims[2] != n_experts ||
      tensor.dims[3] != 1) {
    fail_tensor(tensor, "tensor has shape " + shape_text(tensor) + ", but [" + std::to_string(cols) + ", " +
                            std::to_string(rows) + (n_experts > 1 ? ", " + std::to_string(n_experts) : "") +
                            "] is needed");
  }
  const FormatInfo* format = find_format(tensor.type);
  if (!format || !format->computes) {
    fail_tensor(tensor,
                "tensor has type " + tensor_type_name(tensor.type) + ", which this build cannot compute",
                std::string(kTypeHint));
  }
  return {&tensor, 0, rows, n_experts};
}

TensorRef Reader::checked_vector(const gguf::TensorInfo& tensor, uint64_t n, uint64_t n_experts) const {
  if (tensor.dims[0] != n || tensor.dims[1] != n_experts || tensor.n_elements() != n * n_experts) {
    fail_tensor(tensor, "tensor has shape " + shape_text(tensor) + ", but [" + std::to_string(n) +
                            (n_experts > 1 ? ", " + std::to_string(n_experts) : "") + "] is needed");
  }
  if (tensor.type != TensorType::kF32 && tensor.type != TensorType::kF16 &&
      tensor.type != TensorType::kBF16) {
    fail_tensor(tensor,
                "tensor has type " + tensor_type_name(tensor.type) + ", but a vector must be a float type",
                "convert it to F32, F16 or BF16");
  }
  return {&tensor, 0, n, n_experts};
}

TensorRef Reader::maybe_matrix(std::string_view name, uint64_t rows, uint64_t cols) const {
  const gguf::TensorInfo* tensor = take(name, false);
  return tensor ? checked_matrix(*tensor, rows, cols, 1) : TensorRef{};
}

TensorRef Reader::maybe_vector(std::string_view name, uint64_t n) const {
  const gguf::TensorInfo* tensor = take(name, false);
  return tensor ? checked_vector(*tensor, n, 1) : TensorRef{};
}

TensorRef Reader::expert_matrices(std::string_view name, uint64_t rows, uint64_t cols,
                                  uint64_t n_experts) const {
  return checked_matrix(*take(name, true), rows, cols, n_experts);
}

TensorRef Reader::maybe_expert_vectors(std::string_view name, uint64_t n, uint64_t n_experts) const {
  const gguf::TensorInfo* tensor = take(name, false);
  return tensor ? checked_vector(*tensor, n, n_experts) : TensorRef{};
}

TensorRef Reader::expert_vectors(std::string_view name, uint64_t n, uint64_t n_experts) const {
  return checked_vector(*take(name, true), n, n_experts);
}

TensorRef Reader::matrix(std::string_view name, uint64_t rows, uint64_t cols) const {
  take(name, true);
  return maybe_matrix(name, rows, cols);
}

TensorRef Reader::vector(std::string_view name, uint64_t n) const {
  take(name, true);
  return maybe_vector(name, n);
}

NormSpec Reader::norm(std::string_view stem, uint64_t n) const {
  const std::string name(stem);
  return {vector(name + ".weight", n), maybe_vector(name + ".bias", n)};
}

NormSpec Reader::layer_norm(std::string_view stem, uint64_t n) const {
  const std::string name(stem);
  return {vector(name + ".weight", n), vector(name + ".bias", n)};
}

std::vector<float> Reader::frequency_factors(std::string_view name, uint32_t n) const {
  const TensorRef factors = maybe_vector(name, n);
  if (!factors) return {};
  std::vector<uint8_t> bytes(factors.tensor->n_bytes);
  file_->read(*factors.tensor, 0, bytes);
  std::vector<float> out(n);
  numerics::dequantize_row(factors.tensor->type, bytes.data(), n, out.data());
  for (const float factor : out) {
    if (!(std::isfinite(factor) && factor > 0))
      fail_tensor(*factors.tensor, "holds a factor that is not above 0");
  }
  return out;
}

RopeSpec Reader::rope(RopeStyle style, const ModelSpec& spec) const {
  RopeSpec rope{};
  const uint32_t head_dim = spec.layers.front().head_dim;
  rope.n_dims = optional_count("rope.dimension_count", head_dim).value_or(head_dim);
  if (rope.n_dims % 2 != 0) fail("rope.dimension_count", std::to_string(rope.n_dims) + " is odd");
  rope.base = positive("rope.freq_base", 1.0).value_or(10000.0);
  rope.style = style;
  scale_rope(rope, spec);
  // Llama 3.1 and later: the converter stores the factors of its own scaling rule.
  rope.freq_factors = frequency_factors("rope_freqs.weight", rope.n_dims / 2);
  return rope;
}

void Reader::scale_rope(RopeSpec& rope, const ModelSpec& spec) const {
  const auto factor = positive("rope.scaling.factor");
  const auto old_factor = positive("rope.scale_linear");  // files before rope.scaling.factor
  const auto type =
      file_->get_string(key("rope.scaling.type")).value_or(factor || old_factor ? "linear" : "none");
  if (type == "none") return;
  // LongRoPE is its factors: the family that knows them reads them; in any other they are unread tensors.
  if (type == "longrope" && file_->find_tensor("rope_factors_long.weight")) return;
  if (type != "linear" && type != "yarn") {
    fail("rope.scaling.type", std::string(type) + " is not supported", "known: none, linear, yarn");
  }
  if (!factor && !old_factor) fail("rope.scaling.factor", "is missing, but rope.scaling.type needs it");
  if (type == "linear") {
    rope.scale = 1.0 / factor.value_or(old_factor.value_or(1.0));
    return;
  }
  refuse_if_set("rope.scaling.yarn_log_multiplier", "a YaRN log multiplier is not supported");
  rope.yarn_factor = factor.value_or(old_factor.value_or(1.0));
  if (rope.yarn_factor < 1) fail("rope.scaling.factor", "is below 1");
  rope.yarn_original_ctx =
      optional_count("rope.scaling.original_context_length", kMaxContext).value_or(spec.context_length);
  rope.yarn_beta_fast = positive("rope.scaling.yarn_beta_fast").value_or(32);
  rope.yarn_beta_slow = positive("rope.scaling.yarn_beta_slow").value_or(1);
  if (rope.yarn_beta_fast < rope.yarn_beta_slow) {
    fail("rope.scaling.yarn_beta_fast", "is below rope.scaling.yarn_beta_slow");
  }
  // Below 0: not set. Another one would mix extrapolation and interpolation otherwise than YaRN says.
  const double mix = file_->get_float(key("rope.scaling.yarn_ext_factor")).value_or(1);
  if (mix >= 0 && mix != 1)
    fail("rope.scaling.yarn_ext_factor", "an extrapolation factor other than 1 is not supported");
  // Peng et al. 2023, eq. 22: attention temperature as a factor of cos and sin. A file may name it: it is the
  // attention_factor of HF's configurations, which takes the place of the formula's.
  rope.yarn_attention_factor =
      positive("rope.scaling.attn_factor").value_or(1.0) *
      positive("rope.scaling.yarn_attn_factor").value_or(1.0 + 0.1 * numerics::log_f64(rope.yarn_factor));
}

void Reader::refuse_unread(const ModelSpec& spec) const {
  for (const Meaningful& meaningful : kMeaningful) {
    if (asked_.contains(meaningful.name)) continue;
    const gguf::MetadataEntry* entry = file_->find(key(meaningful.name));
    if (!entry) continue;
    const bool is_float = entry->type == gguf::ValueType::kF32 || entry->type == gguf::ValueType::kF64;
    const double value =
        is_float ? *file_->get_float(entry->key) : static_cast<double>(*file_->get_uint(entry->key));
    if (value != meaningful.neutral)
      fail(meaningful.name, "is not part of a " + spec.architecture +
                                " model as this build knows it; the results would be wrong without it");
  }
  for (const gguf::TensorInfo& tensor : file_->tensors()) {
    if (read_.contains(tensor.name)) continue;
    // The vision tower and its projector, which some files carry beside the text model.
    if (tensor.name.starts_with("v.") || tensor.name.starts_with("mm.")) continue;
    fail_tensor(tensor, "tensor is not part of a " + spec.architecture +
                            " model as this build knows it; the results would be wrong without it");
  }
}

}  // namespace orcd::model
