// The kernel that takes one token through all layers, and the launches in whose place it stands: the
// reference's bits, and that it is used.
#include <gtest/gtest.h>

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

void expect_cpu_bits(const SyntheticModel& shape, uint32_t n_tokens, const std::string& what) {
  const LoadedModel model(shape);
  const uint32_t context = (n_tokens + 63) / 64 * 64;
  if (Context(0).persistent_blocks != 0) {
    ASSERT_TRUE(taken(model, context)) << what;
  }
  const std::vector<int32_t> tokens = test::random_tokens(n_tokens, shape.n_vocab, 5);
  Loaded cpu(cpu::open_cpu_device(0), model, limits_of(context));
  const std::vector<float> want = all_logits(cpu, tokens, 1);
  for (const char* kernels : {"", "launches"}) {
    const Environment wanted("ORCD_CUDA_KERNELS", kernels);
    Loaded cuda(model, limits_of(context));
    // On the GPU each token is a decode step.
    EXPECT_EQ(n_different(want, all_logits(cuda, tokens, 1)), 0u) << what << " " << kernels;
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

TEST(PersistentKernel, ContextsThatAreTooLongForItGoOnWithTheSameBits) {
  SyntheticModel shape;
  shape.types = {TensorType::kQ8_0};
  shape.n_heads = 64;
  shape.n_kv_heads = 32;
  shape.n_layers = 1;
  const LoadedModel model(shape);
  if (Context(0).persistent_blocks != 0) {
    EXPECT_LT(taken(model, 1024)->args.max_splits, 4u) << "of 256 keys";
  }
  expect_cpu_bits(shape, 900, "three splits and then four");
}

}  // namespace
}  // namespace orcd::cuda
