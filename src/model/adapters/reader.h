// What adapters read with: hyperparameters "<arch>.<name>" and tensors, each checked on the way.
// Every refusal is a load_error with the field and its byte offset.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "model/spec.h"

namespace orcd::model {

// Bounds that keep every product of two dimensions far inside 64 bits.
inline constexpr uint64_t kMaxLayers = 1024;
inline constexpr uint64_t kMaxHeads = 4096;
inline constexpr uint64_t kMaxDim = 1 << 20;
inline constexpr uint64_t kMaxFfnDim = 1 << 22;
inline constexpr uint64_t kMaxVocab = 1 << 24;
inline constexpr uint64_t kMaxContext = 1 << 27;
inline constexpr uint64_t kMaxExperts = 1024;
inline constexpr uint64_t kMaxExpertsUsed = 64;

// Where a key or tensor that is missing is reported: the end of the fixed header, where metadata begins.
inline constexpr uint64_t kHeaderEnd = 24;

// In what the blocks of a family differ from separate projections with SwiGLU and RMS norms.
struct BlockForm {
  std::string_view ffn_norm = "ffn_norm";  // name of the norm before the feed-forward network
  bool fused_qkv = false;                  // attn_qkv: rows of q, then k, then v
  bool fused_gate_up = false;              // ffn_up: rows of the gate, then up
  bool gated = true;                       // false: no gate at all
  bool layer_norms = false;                // norms need biases
  bool biases = false;                     // projections, routers and experts need biases
};

class Reader {
 public:
  explicit Reader(std::shared_ptr<const gguf::File> file);

  const gguf::File& file() const { return *file_; }
  // "<arch>.<name>". Whoever asks for it has to heed it: see refuse_unread.
  std::string key(std::string_view name) const;

  // Hyperparameters, by their name after "<arch>.". Values outside [1, max] (or [0, max]) are refused.
  uint32_t count(std::string_view name, uint64_t max) const;
  std::optional<uint32_t> optional_count(std::string_view name, uint64_t max, uint64_t min = 1) const;
  // One value for all layers, or an array with one for each. `fallback` replaces an absent key.
  std::vector<uint32_t> layer_counts(std::string_view name, uint32_t n_layers, uint64_t max,
                                     const std::vector<uint32_t>& fallback = {}) const;
  // Finite and above `above`.
  std::optional<double> positive(std::string_view name, double above = 0) const;
  float epsilon(std::string_view name) const;
  // Refuses the model where a key is present and not zero: something this build would compute wrongly.
  void refuse_if_set(std::string_view name, std::string_view why) const;
  // Refuses a window shorter than the context, for families whose files do not say which layers have it. HF's
  // configurations often name one and switch it off; one that is as long as the context changes nothing.
  void refuse_window(const ModelSpec& spec) const;

  // Architecture, name, layer count, dim, context length; token embedding, output norm and head (tied where
  // output.weight is absent); layers with their head counts, head_dim, ffn_dim and attention scale.
  ModelSpec start() const;

  // Counts of experts and their ffn_dim, for every layer. Refuses shared and grouped experts, and gates that
  // are not a softmax over the chosen experts.
  void read_expert_counts(ModelSpec& spec) const;

  // Tensors, checked for shape and type. `maybe_` gives an empty reference where the tensor is absent.
  TensorRef matrix(std::string_view name, uint64_t rows, uint64_t cols) const;
  TensorRef vector(std::string_view name, uint64_t n) const;
  TensorRef maybe_matrix(std::string_view name, uint64_t rows, uint64_t cols) const;
  TensorRef maybe_vector(std::string_view name, uint64_t n) const;
  // A matrix, or a bias, for each of n_experts: "<stem>.weight" [n_experts, rows, cols], "<stem>.bias"
  // [n_experts, n].
  TensorRef expert_matrices(std::string_view name, uint64_t rows, uint64_t cols, uint64_t n_experts) const;
  TensorRef expert_vectors(std::string_view name, uint64_t n, uint64_t n_experts) const;
  TensorRef maybe_expert_vectors(std::string_view name, uint64_t n, uint64_t n_experts) const;
  // A norm: "<stem>.weight", and "<stem>.bias" where present.
  NormSpec norm(std::string_view stem, uint64_t n) const;
  // Both of them.
  NormSpec layer_norm(std::string_view stem, uint64_t n) const;
  // Projections of every layer with optional biases, gate, up and down likewise (or a router and those of
  // experts), and the two norms before them.
  void read_blocks(ModelSpec& spec, const BlockForm& form = {}) const;
  static std::string block(uint32_t layer, std::string_view name);

  // The rope of a family: base, and the scaling that the file declares (linear, YaRN, or rope_freqs.weight).
  RopeSpec rope(RopeStyle style, const ModelSpec& spec) const;
  // [n] divisors of frequencies, each above 0. Empty where the tensor is absent.
  std::vector<float> frequency_factors(std::string_view name, uint32_t n) const;
  // Index of an equal table in spec.ropes, added where it is new.
  static int32_t add_rope(ModelSpec& spec, const RopeSpec& rope);

  // Refuses tensors that nothing has read, and those known hyperparameters that change the results in any
  // family: the model would be computed without them, and wrongly.
  void refuse_unread(const ModelSpec& spec) const;

  [[noreturn]] void fail(std::string_view name, std::string message, std::string hint = {}) const;
  [[noreturn]] void fail_tensor(const gguf::TensorInfo& tensor, std::string message,
                                std::string hint = {}) const;

 private:
  const gguf::TensorInfo* take(std::string_view name, bool needed) const;
  TensorRef checked_matrix(const gguf::TensorInfo& tensor, uint64_t rows, uint64_t cols,
                           uint64_t n_experts) const;
  TensorRef checked_vector(const gguf::TensorInfo& tensor, uint64_t n, uint64_t n_experts) const;
  void read_attention(uint32_t index, uint64_t dim, const BlockForm& form, LayerSpec& layer) const;
  void read_feed_forward(uint32_t index, uint64_t dim, const BlockForm& form, LayerSpec& layer) const;
  void read_experts(uint32_t index, uint64_t dim, const BlockForm& form, LayerSpec& layer) const;
  void check_vocabulary(const ModelSpec& spec) const;
  void scale_rope(RopeSpec& rope, const ModelSpec& spec) const;

  std::shared_ptr<const gguf::File> file_;
  std::string architecture_;
  mutable std::set<std::string, std::less<>> read_, asked_;
};

}  // namespace orcd::model
