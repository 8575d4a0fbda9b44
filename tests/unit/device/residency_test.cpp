// A residency check finds any flipped bit of any weight where it lies, and names the weight.
#include "device/residency.h"

#include <gtest/gtest.h>

#include "device/cpu/kernels.h"
#include "device/cpu/state.h"
#include "support/synthetic_model.h"

namespace orcd::device {
namespace {

TEST(Residency, EveryFlippedWeightIsFoundAndNamed) {
  test::SyntheticModel shape;
  shape.types = {TensorType::kQ4_1, TensorType::kQ6_K, TensorType::kF16};
  shape.biases = true;
  const test::LoadedModel model(shape);
  const ResolvedLimits limits = {
      .context = 64, .slots = 1, .batch_tokens = 8, .logits_rows = 1, .kv_pages = 1};
  cpu::State state(model.program, limits, 1, cpu::scalar_kernels(), {});
  const std::vector<numerics::Digest> loaded = cpu::load_weights(state, {});
  Executor::Residency same{};
  compare_weights(*model.program, cpu::digest_weights(state), loaded, &same);
  EXPECT_TRUE(same.holds());
  EXPECT_EQ(same.first_mismatch, "");
  std::mt19937 rng(1);
  for (size_t id = 0; id < model.program->weights.size(); ++id) {
    const uint32_t index = state.plan.weights[id];
    uint8_t& byte = state.item(index)[rng() % state.plan.plan.items()[index].bytes];
    const auto bit = static_cast<uint8_t>(1u << (rng() % 8));
    byte ^= bit;
    Executor::Residency found{};
    compare_weights(*model.program, cpu::digest_weights(state), loaded, &found);
    EXPECT_FALSE(found.holds());
    EXPECT_EQ(found.first_mismatch, model.program->weights[id].name);
    byte ^= bit;
  }
}

}  // namespace
}  // namespace orcd::device
