// The kernels that take one token through all layers, resident weights and streamed ones, and the launches in
// whose place they stand: the reference's bits, and that they are used.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "device/cpu/cpu_device.h"
#include "device/cuda/device.h"
#include "device/cuda/persistent.h"
#include "device/cuda/state.h"
#include "device/cuda_device.h"
#include "gpu/environment.h"
#include "gpu/logits.h"
#include "support/synthetic_model.h"

namespace orcd::cuda {
namespace {

using test::all_logits;
using test::Environment;
using test::Loaded;
using test::LoadedModel;
using test::n_different;
using test::SyntheticModel;

constexpr TensorType kBlockFormats[] = {
    TensorType::kQ4_0,   TensorType::kQ4_1,   TensorType::kQ5_0, TensorType::kQ5_1, TensorType::kQ8_0,
    TensorType::kQ2_K,   TensorType::kQ3_K,   TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K,
    TensorType::kIQ4_NL, TensorType::kIQ4_XS, TensorType::kMXFP4};

device::Limits limits_of(uint32_t context) {
  device::Limits limits;
  limits.context = context;
  limits.slots = 2;
  limits.batch_tokens = 64;
  return limits;
}

// What the kernel takes of a model on the device here.
std::optional<Persistent> taken(const LoadedModel& model, uint32_t context) {
  const auto device = device::open_cuda_device(0);
  State state(std::make_shared<Context>(0), model.program,
              device->resolve(*model.program, limits_of(context)));
  return make_persistent(state);
}

// Those that the tests were started with, as ORCD_CUDA_KERNELS=streamed; else all.
std::vector<std::string> compared_kernels() {
  const char* chosen = std::getenv("ORCD_CUDA_KERNELS");
  if (chosen && *chosen) return {chosen};
  return {"", "streamed", "launches"};
}

// Tokens drawn one by one behind a prompt, and the digest of the rows that they were drawn from.
struct Drawn {
  std::vector<int32_t> tokens;
  numerics::Digest digest;
  bool operator==(const Drawn&) const = default;
};
Drawn draw(Loaded& loaded, std::span<const int32_t> prompt, float temperature) {
  sampling::SamplingParams params;
  params.temperature = temperature;
  params.repetition_penalty = 1.1f;
  params.seed = 7;
  loaded.executor->begin_sequence(0, params, prompt);
  const std::vector<uint32_t> pages = test::pages_of(loaded.resolved, 0);
  Drawn out;
  device::SequenceStep step;
  step.pages = pages;
  step.tokens = prompt;
  step.sample = true;
  step.logits = device::LogitsMode::kLast;
  while (out.tokens.size() < 8) {
    loaded.executor->submit({&step, 1});
    const device::SequenceResult result = loaded.executor->collect()[0];
    out.tokens.push_back(result.token);
    numerics::digest_chain(&out.digest, result.logits_digest);
    step.first_position += step.tokens.empty() ? 1 : static_cast<uint32_t>(step.tokens.size());
    step.tokens = {};
  }
  return out;
}

void expect_cpu_bits(const SyntheticModel& shape, uint32_t n_tokens, const std::string& what,
                     bool narrow = true) {
  const LoadedModel model(shape);
  const uint32_t context = (n_tokens + 63) / 64 * 64;
  const std::vector<int32_t> tokens = test::random_tokens(n_tokens, shape.n_vocab, 5);
  Loaded cpu(cpu::open_cpu_device(0), model, limits_of(context));
  const std::vector<float> want = all_logits(cpu, tokens, 1);
  const std::span<const int32_t> prompt = std::span(tokens).first(20);
  for (const std::string& kernels : compared_kernels()) {
    const Environment wanted("ORCD_CUDA_KERNELS", kernels.c_str());
    const PersistentBlocks blocks = Context(0).persistent;
    if (blocks.n != 0) {
      const std::optional<Persistent> persistent = taken(model, context);
      ASSERT_TRUE(persistent) << what << " " << kernels;
      const bool streams = persistent->args.stream.n_slots != 0;
      EXPECT_EQ(streams, blocks.streams || !narrow) << what << " " << kernels;
      EXPECT_EQ(persistent->has_head(), streams && numerics::is_block_format(shape.types[0]))
          << what << kernels;
    }
    Loaded cuda(model, limits_of(context));
    // On the GPU each token is a decode step.
    EXPECT_EQ(n_different(want, all_logits(cuda, tokens, 1)), 0u) << what << " " << kernels;
    for (const float temperature : {0.0f, 0.8f})
      EXPECT_EQ(draw(cuda, prompt, temperature), draw(cpu, prompt, temperature)) << what << " " << kernels;
  }
}

class PersistentFormat : public testing::TestWithParam<TensorType> {};

TEST_P(PersistentFormat, GivesTheCpusBits) {
  const bool wide_blocks = find_format(GetParam())->block_elements == 256;
  SyntheticModel shape;
  shape.types = {GetParam()};
  // Where blocks allow it, an odd number of groups; most blocks of the device have nothing to do.
  shape.dim = wide_blocks ? 512 : 544;
  shape.ffn_dim = wide_blocks ? 1280 : 1312;
  shape.n_heads = wide_blocks ? 8 : 6;
  shape.n_layers = 5;
  expect_cpu_bits(shape, 70, tensor_type_name(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(All, PersistentFormat, testing::ValuesIn(kBlockFormats),
                         [](const auto& one) { return std::string(tensor_type_name(one.param)); });

// Biases of q, k and v, norms of heads, scales of what is added, layers without rotation, slices of fused
// matrices, a window; many formats in one model, so that layers are dealt otherwise; past one split.
class PersistentFamily : public testing::TestWithParam<const char*> {};

TEST_P(PersistentFamily, GivesTheCpusBits) {
  SyntheticModel shape;
  shape.family = GetParam();
  // The embedding and every other down projection; then q, k, v, output, gate, up (one format) and down.
  shape.types = {TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ4_K, TensorType::kQ6_K,
                 TensorType::kQ5_0, TensorType::kQ4_K, TensorType::kQ4_K, TensorType::kQ6_K,
                 TensorType::kQ5_0, TensorType::kQ5_0, TensorType::kQ8_0, TensorType::kQ4_1,
                 TensorType::kQ5_1, TensorType::kQ5_1};
  shape.n_layers = 5;
  shape.n_heads = 12;
  shape.n_kv_heads = 4;
  if (shape.family == "phi3") {
    shape.window = 200;
    shape.types = {TensorType::kQ4_K, TensorType::kQ5_0};
  }
  expect_cpu_bits(shape, 600, "heads of 64");
  shape.head_dim = 128;
  expect_cpu_bits(shape, 300, "heads of 128");
}

INSTANTIATE_TEST_SUITE_P(All, PersistentFamily,
                         testing::Values("llama", "qwen2", "qwen3", "granite", "smollm3", "phi3", "gemma"),
                         [](const auto& one) { return std::string(one.param); });

// Two steps of gate and up for some blocks and one for others, as Qwen2.5-0.5B has them.
TEST(PersistentKernel, BlocksWithMoreToDoThanOthersGiveTheCpusBits) {
  SyntheticModel shape;
  shape.types = {TensorType::kQ5_0};
  shape.family = "qwen2";
  shape.dim = 896;
  shape.ffn_dim = 4864;
  shape.n_heads = 14;
  expect_cpu_bits(shape, 40, "0.5B");
}

// Layers that are no block's share, heads of 128, whose pages stand in the place of the weights, and formats
// of sets of two units and of four.
TEST(PersistentKernel, WeightsThatStreamGiveTheCpusBits) {
  SyntheticModel shape;
  shape.n_layers = 3;
  // The embedding; then q, k, v, output, gate, up and down of each layer.
  using enum TensorType;
  shape.types = {kQ6_K};
  for (uint32_t layer = 0; layer < shape.n_layers; ++layer)
    shape.types.insert(shape.types.end(),
                       {kQ4_K, kQ4_K, kQ6_K, kQ4_K, kQ4_K, kQ4_K, layer == 1 ? kQ4_K : kQ6_K});
  shape.dim = 2048;
  shape.ffn_dim = 7168;
  shape.n_heads = 16;
  shape.n_kv_heads = 4;
  shape.n_vocab = 70'001;  // more rows of the head than a block has threads; half a word of the row's digest
  expect_cpu_bits(shape, 40, "2048 x 7168", false);
}

// Pages leave room for sets of the projection that are on their way during attention; one split and two.
TEST(PersistentKernel, WeightsThatComeBesideThePagesGiveTheCpusBits) {
  SyntheticModel shape;
  shape.n_layers = 2;
  shape.types = {TensorType::kQ4_K};
  shape.dim = 2048;
  shape.ffn_dim = 8192;
  shape.n_heads = 32;
  shape.n_kv_heads = 8;
  if (Context(0).persistent.n == 132) {
    EXPECT_TRUE(taken(LoadedModel(shape), 320)->args.stream.pages_beside);
  }
  expect_cpu_bits(shape, 300, "2048 x 8192", false);
}

// The head is no stage of the kernel then, and a launch of its own.
TEST(PersistentKernel, AHeadInFloatsGivesTheCpusBits) {
  SyntheticModel shape;
  shape.types = {TensorType::kF16};
  shape.types.insert(shape.types.end(), 7 * shape.n_layers, TensorType::kQ8_0);
  shape.n_vocab = 333;
  expect_cpu_bits(shape, 40, "F16");
}

TEST(PersistentKernel, ContextsThatAreTooLongForItGoOnWithTheSameBits) {
  SyntheticModel shape;
  shape.types = {TensorType::kQ8_0};
  shape.n_heads = 64;
  shape.n_kv_heads = 32;
  shape.n_layers = 1;
  shape.context = 2048;
  const LoadedModel model(shape);
  const PersistentBlocks blocks = Context(0).persistent;
  if (blocks.n != 0 && !blocks.streams) {
    EXPECT_LT(taken(model, 1024)->args.max_splits, 4u) << "of 256 keys";
  }
  // Streamed, blocks have two items each from the fifth split on.
  expect_cpu_bits(shape, 1100, "three splits and then five");
}

}  // namespace
}  // namespace orcd::cuda
