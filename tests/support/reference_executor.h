// The oracle of whole models: walks a Program with the scalar definitions of src/numerics, one op after the
// other. Slow and plain on purpose; every executor's logits equal these bit for bit.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/program.h"
#include "numerics/quantize.h"

namespace orcd::test {

class ReferenceExecutor {
 public:
  // Reads every weight of the program into host memory. The program must outlive this.
  explicit ReferenceExecutor(const model::Program& program);

  // Appends tokens to the one sequence; returns the logits of all of them, [n_tokens, n_vocab].
  std::vector<float> append(std::span<const int32_t> tokens);
  void reset() { position_ = 0; }

  // Activations of the last append(), by name: "x" [n, dim], "q", "a", "h"; what the last op of that name
  // left.
  const std::vector<float>& activation(const char* name) const { return activations_.at(name); }

  // y = W x (+ bias), x: [n, cols] f32, y: [n, rows]. Quantises the activations where the format asks for it.
  // expert: which of the weight's matrices, and of the bias's vectors.
  void linear(model::WeightId id, model::WeightId bias, std::span<const float> x, std::vector<float>* y,
              uint64_t expert = 0) const;

 private:
  struct LayerKv {
    std::vector<std::vector<uint16_t>> pages;  // each [n_kv_heads] x {K [head_dim][64], V [64][head_dim]}
  };
  const float* vector(model::WeightId id) const;  // nullptr for kNoWeight
  void norm(const model::Norm& norm, const std::vector<float>& x, uint32_t width,
            std::vector<float>* y) const;
  void run(const model::EmbedOp& op);
  void run(const model::QkvOp& op);
  void run(const model::AttentionOp& op);
  void run(const model::ProjectOp& op);
  void run(const model::GateUpOp& op);
  void run(const model::MoeGateUpOp& op);
  void run(const model::MoeDownOp& op);
  void run(const model::HeadOp& op);
  void rotate(const model::RopeSpec& rope, uint32_t index, uint32_t position, uint32_t head_dim, float* head);

  const model::Program& program_;
  std::vector<std::vector<uint8_t>> matrices_;  // by WeightId: bytes as in the file
  std::vector<std::vector<float>> vectors_;     // by WeightId: f32
  std::vector<LayerKv> kv_;
  std::map<uint32_t, std::vector<float>> rope_tables_;
  std::map<std::string, std::vector<float>> activations_;
  std::vector<uint32_t> experts_;      // [n, n_used] of the layer under way, by token and rank
  std::vector<float> expert_weights_;  // the same
  std::vector<int32_t> tokens_;
  uint32_t position_ = 0;
};

// Logits of all rows, [tokens.size(), n_vocab], of one sequence that starts at position 0.
std::vector<float> reference_logits(const model::Program& program, std::span<const int32_t> tokens);

}  // namespace orcd::test
