// Whole models on a CUDA device: the reference's bits in every format, odd shape, chunking and batch; the CPU
// device's tokens; the plan to the byte.
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "device/cpu/cpu_device.h"
#include "device/cuda_device.h"
#include "gpu/environment.h"
#include "gpu/logits.h"
#include "kv/layout.h"
#include "support/reference_executor.h"
#include "support/synthetic_model.h"

namespace orcd::device {
namespace {

using test::all_logits;
using test::Environment;
using test::Loaded;
using test::LoadedModel;
using test::n_different;
using test::pages_of;
using test::SyntheticModel;

Limits small_limits(uint32_t logits_rows) {
  Limits limits;
  limits.context = 768;
  limits.slots = 4;
  limits.batch_tokens = 512;
  limits.logits_rows = logits_rows;
  return limits;
}

SyntheticModel shape_of(const char* family, std::vector<TensorType> types, uint32_t dim, uint32_t ffn) {
  SyntheticModel shape;
  shape.family = family;
  shape.types = std::move(types);
  shape.dim = dim;
  shape.ffn_dim = ffn;
  return shape;
}

constexpr TensorType kAll[] = {
    TensorType::kF32,  TensorType::kF16,    TensorType::kBF16,   TensorType::kQ4_0,
    TensorType::kQ4_1, TensorType::kQ5_0,   TensorType::kQ5_1,   TensorType::kQ8_0,
    TensorType::kQ4_K, TensorType::kQ5_K,   TensorType::kQ6_K,   TensorType::kQ2_K,
    TensorType::kQ3_K, TensorType::kIQ4_NL, TensorType::kIQ4_XS, TensorType::kMXFP4};

bool is_k(TensorType type) { return find_format(type)->block_elements == 256; }

TEST(CudaExecutor, EveryFormatGivesTheReferencesBitsInEveryChunking) {
  for (const TensorType type : kAll) {
    SyntheticModel shape = shape_of("llama", {type}, is_k(type) ? 768 : 576, is_k(type) ? 1280 : 1504);
    shape.n_heads = is_k(type) ? 12 : 9;
    shape.n_kv_heads = 3;
    shape.n_vocab = 333;
    shape.biases = true;
    const LoadedModel model(shape);
    const std::vector<int32_t> tokens = test::random_tokens(75, shape.n_vocab, 3);
    const std::vector<float> want = test::reference_logits(*model.program, tokens);
    for (const char* kernels : {"", "portable"}) {
      const Environment forced("ORCD_CUDA_KERNELS", kernels);
      Loaded loaded(model, small_limits(75));
      for (const uint32_t chunk : {75u, 1u, 7u, 16u, 64u})
        EXPECT_EQ(n_different(want, all_logits(loaded, tokens, chunk)), 0u)
            << tensor_type_name(type) << " chunk " << chunk << " " << kernels;
    }
  }
}

TEST(CudaExecutor, MixedFormatsWindowsAndWideShapesGiveTheReferencesBits) {
  SyntheticModel mixed =
      shape_of("llama", {kAll[10], kAll[1], kAll[8], kAll[2], kAll[9], kAll[0], kAll[5], kAll[7]}, 256, 768);
  mixed.n_heads = 16;
  mixed.head_dim = 48;
  mixed.tied = false;
  SyntheticModel gemma = shape_of("gemma3", {kAll[5], kAll[7], kAll[8], kAll[10]}, 256, 512);
  gemma.n_layers = 7;
  gemma.window = 70;
  gemma.n_kv_heads = 1;
  gemma.head_dim = 256;
  SyntheticModel wide =
      shape_of("llama", {TensorType::kQ4_K, TensorType::kQ4_K, TensorType::kQ6_K}, 2048, 2304);
  wide.n_layers = 1;
  wide.n_heads = 32;
  wide.n_kv_heads = 8;
  // Slices of fused matrices and of their biases; LayerNorm and learned positions.
  SyntheticModel phi = shape_of("phi3", {kAll[7], kAll[8], kAll[1]}, 256, 512);
  phi.biases = true;
  SyntheticModel gpt2 = phi;
  gpt2.family = "gpt2";
  for (const SyntheticModel& shape : {mixed, gemma, wide, phi, gpt2}) {
    const LoadedModel model(shape);
    const std::vector<int32_t> tokens = test::random_tokens(shape.dim > 1024 ? 40 : 600, shape.n_vocab, 5);
    const std::vector<float> want = test::reference_logits(*model.program, tokens);
    Limits limits = small_limits(512);
    Loaded loaded(model, limits);
    for (const uint32_t chunk : {512u, 1u, 5u, 200u})
      EXPECT_EQ(n_different(want, all_logits(loaded, tokens, chunk)), 0u)
          << shape.family << shape.dim << " chunk " << chunk;
  }
}

// Experts pair by pair and sorted, on every matrix kernel; sinks past one split; the windows of gpt-oss.
TEST(CudaExecutor, ExpertsAndSinksGiveTheReferencesBits) {
  SyntheticModel oss =
      shape_of("gpt-oss", {TensorType::kQ8_0, TensorType::kMXFP4, TensorType::kMXFP4}, 288, 320);
  oss.n_experts = 8;
  oss.n_experts_used = 4;
  oss.n_heads = 8;
  oss.window = 128;
  SyntheticModel qwen =
      shape_of("qwen3moe", {TensorType::kQ4_K, TensorType::kQ4_K, TensorType::kQ6_K}, 256, 256);
  qwen.n_experts = 12;
  qwen.n_experts_used = 3;
  SyntheticModel mixtral = shape_of("llama", {kAll[7], kAll[3], kAll[0], kAll[12], kAll[11]}, 256, 512);
  mixtral.n_experts = 4;
  SyntheticModel floats = shape_of("llama", {kAll[1], kAll[7], kAll[2], kAll[8], kAll[0]}, 256, 256);
  floats.n_experts = 40;
  floats.n_experts_used = 5;
  SyntheticModel routed = floats;  // a quantised router leaves the norm to experts of floats
  routed.router = TensorType::kQ8_0;
  SyntheticModel single = shape_of("llama", {kAll[7]}, 256, 1024);
  single.n_experts = single.n_experts_used = 1;
  for (const SyntheticModel& shape : {oss, qwen, mixtral, floats, routed, single}) {
    const LoadedModel model(shape);
    const std::vector<int32_t> tokens = test::random_tokens(420, shape.n_vocab, 6);
    const std::vector<float> want = test::reference_logits(*model.program, tokens);
    for (const char* kernels : {"", "portable"}) {
      const Environment forced("ORCD_CUDA_KERNELS", kernels);
      Loaded loaded(model, small_limits(420));
      for (const uint32_t chunk : {420u, 1u, 6u, 13u, 90u})
        EXPECT_EQ(n_different(want, all_logits(loaded, tokens, chunk)), 0u)
            << shape.family << " chunk " << chunk << " " << kernels;
    }
  }
}

// Experts in every block format.
TEST(CudaExecutor, ExpertsOfEveryFormatGiveTheReferencesBits) {
  for (const TensorType type : kAll) {
    SyntheticModel shape = shape_of("llama", {type}, 256, 512);
    shape.n_layers = 1;
    shape.n_experts = 5;
    const LoadedModel model(shape);
    const std::vector<int32_t> tokens = test::random_tokens(130, shape.n_vocab, 4);
    const std::vector<float> want = test::reference_logits(*model.program, tokens);
    Loaded loaded(model, small_limits(130));
    for (const uint32_t chunk : {130u, 1u, 12u})
      EXPECT_EQ(n_different(want, all_logits(loaded, tokens, chunk)), 0u)
          << tensor_type_name(type) << " " << chunk;
  }
}

TEST(CudaExecutor, AResidualScaleGivesTheReferencesBits) {
  const LoadedModel model(shape_of("granite", {kAll[8], kAll[1], kAll[7]}, 256, 512));
  const std::vector<int32_t> tokens = test::random_tokens(100, 300, 7);
  const std::vector<float> want = test::reference_logits(*model.program, tokens);
  Loaded loaded(model, small_limits(100));
  for (const uint32_t chunk : {100u, 1u, 9u})
    EXPECT_EQ(n_different(want, all_logits(loaded, tokens, chunk)), 0u) << chunk;
}

// As in llama.cpp's Q4_K_M and Q5_K_M mixes; heads of 128 dimensions, three of them on one of keys, past one
// split.
TEST(CudaExecutor, AFinerValueProjectionGivesTheReferencesBits) {
  constexpr std::pair<TensorType, TensorType> kMixes[] = {{TensorType::kQ4_K, TensorType::kQ6_K},
                                                          {TensorType::kQ5_K, TensorType::kQ6_K},
                                                          {TensorType::kQ5_0, TensorType::kQ8_0},
                                                          {TensorType::kQ5_1, TensorType::kQ8_0},
                                                          {TensorType::kQ6_K, TensorType::kQ4_K}};
  for (const auto& [type, finer] : kMixes) {
    SyntheticModel shape = shape_of("llama", {type, type, type, finer, type, type, type, finer}, 768, 1280);
    shape.n_layers = 1;
    shape.n_heads = 6;
    shape.head_dim = 128;
    const LoadedModel model(shape);
    const std::vector<int32_t> tokens = test::random_tokens(300, shape.n_vocab, 8);
    const std::vector<float> want = test::reference_logits(*model.program, tokens);
    Loaded loaded(model, small_limits(300));
    for (const uint32_t chunk : {1u, 299u})
      EXPECT_EQ(n_different(want, all_logits(loaded, tokens, chunk)), 0u)
          << tensor_type_name(type) << " chunk " << chunk;
  }
}

TEST(CudaExecutor, HeadsOfAnySizeGiveTheReferencesBits) {
  for (const uint32_t head_dim : {16u, 80u, 96u, 128u, 192u, 36u}) {
    SyntheticModel shape = shape_of("phi3", {TensorType::kQ8_0, TensorType::kQ5_0}, 256, 256);
    shape.n_layers = 1;
    shape.n_heads = 8;
    shape.head_dim = head_dim;
    shape.window = 300;
    const LoadedModel model(shape);
    const std::vector<int32_t> tokens = test::random_tokens(400, shape.n_vocab, 9);
    const std::vector<float> want = test::reference_logits(*model.program, tokens);
    Loaded loaded(model, small_limits(400));
    for (const uint32_t chunk : {1u, 70u, 400u})
      EXPECT_EQ(n_different(want, all_logits(loaded, tokens, chunk)), 0u) << head_dim << " chunk " << chunk;
  }
}

struct Sequence {
  std::vector<int32_t> tokens, drawn;
  std::vector<uint32_t> pages;
  numerics::Digest digest;
};

constexpr uint32_t kMembers = 8;

// Prefills and decodes the members, all at once, with the sampling that belongs to each.
std::vector<Sequence> generate(Loaded& loaded, const std::vector<uint32_t>& members, uint32_t chunk,
                               uint32_t n_vocab, size_t n_draws = 40) {
  std::vector<Sequence> sequences(kMembers);
  for (const uint32_t i : members) {
    sequences[i].tokens = test::random_tokens(30 + 41 * i, n_vocab, 50 + i);
    sequences[i].pages = pages_of(loaded.resolved, i);
    sampling::SamplingParams params;
    params.temperature = i % 2 ? 0.8f : (i == 2 ? 1.3f : 0.0f);
    params.top_k = i == 1 ? 20 : 0;
    params.top_p = i >= 2 ? 0.9f : 1.0f;
    params.min_p = i == 3 ? 0.02f : 0.0f;
    params.seed = i;
    params.repetition_penalty = 1.1f;
    loaded.executor->begin_sequence(i, params, sequences[i].tokens);
  }
  std::vector<uint32_t> done(kMembers, 0);
  for (int round = 0; round < 300; ++round) {
    std::vector<SequenceStep> steps;
    for (const uint32_t i : members) {
      Sequence& s = sequences[i];
      if (s.drawn.size() == n_draws) continue;
      SequenceStep step;
      step.slot = i;
      step.pages = s.pages;
      step.first_position = done[i];
      if (done[i] < s.tokens.size()) {
        const auto n = std::min<uint32_t>(chunk + i, static_cast<uint32_t>(s.tokens.size()) - done[i]);
        step.tokens = std::span(s.tokens).subspan(done[i], n);
        done[i] += n;
      } else {
        ++done[i];
      }
      step.sample = done[i] >= s.tokens.size();
      step.logits = step.sample ? LogitsMode::kLast : LogitsMode::kNone;
      steps.push_back(step);
    }
    if (steps.empty()) break;
    loaded.executor->submit(steps);
    for (const SequenceResult& result : loaded.executor->collect()) {
      if (result.token < 0) continue;
      sequences[result.slot].drawn.push_back(result.token);
      numerics::digest_chain(&sequences[result.slot].digest, result.logits_digest);
    }
  }
  return sequences;
}

void expect_same(const Sequence& want, const Sequence& got, uint32_t index) {
  EXPECT_EQ(want.drawn, got.drawn) << index;
  EXPECT_EQ(want.digest, got.digest) << index;
}

TEST(CudaExecutor, SampledTokensAndDigestsEqualTheCpusAloneAndInABatch) {
  SyntheticModel shape = shape_of("llama", {TensorType::kQ4_K, TensorType::kQ6_K}, 512, 1024);
  shape.n_heads = 8;
  shape.n_vocab = 5000;
  const LoadedModel model(shape);
  Loaded cpu(cpu::open_cpu_device(0), model, small_limits(0));
  Loaded cuda(model, small_limits(0));
  const std::vector<Sequence> want = generate(cpu, {0, 1, 2, 3}, 500, shape.n_vocab);
  const std::vector<Sequence> together = generate(cuda, {0, 1, 2, 3}, 9, shape.n_vocab);
  for (uint32_t i = 0; i < 4; ++i) {
    const std::vector<Sequence> alone = generate(cuda, {i}, 64, shape.n_vocab);
    EXPECT_EQ(want[i].drawn.size(), 40u);
    expect_same(want[i], together[i], i);
    expect_same(want[i], alone[i], i);
  }
}

// Every family, in formats that go round its matrices: one sequence alone and eight at once, by chunks of
// many sizes, with the sampling that belongs to each.
TEST(CudaExecutor, EveryFamilyGivesTheCpusTokensAndDigestsAloneAndInABatch) {
  for (const char* family : {"llama", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3", "granite",
                             "smollm3", "gpt2", "starcoder2", "gpt-oss", "qwen3moe"}) {
    SyntheticModel shape = shape_of(family, {std::begin(kAll), std::end(kAll)}, 256, 512);
    shape.n_layers = 4;
    shape.n_vocab = 1000;
    if (shape.family == "gpt-oss" || shape.family == "qwen3moe") shape.n_experts = 6;
    if (shape.family == "gpt-oss" || shape.family == "gemma2" || shape.family == "gemma3") shape.window = 100;
    const LoadedModel model(shape);
    Limits limits = small_limits(0);
    limits.slots = kMembers;
    limits.batch_tokens = 2048;
    Loaded cpu(cpu::open_cpu_device(0), model, limits);
    Loaded cuda(model, limits);
    const std::vector<uint32_t> all = {0, 1, 2, 3, 4, 5, 6, 7};
    const std::vector<Sequence> want = generate(cpu, all, 500, shape.n_vocab, 10);
    const std::vector<Sequence> together = generate(cuda, all, 17, shape.n_vocab, 10);
    for (const uint32_t i : all) {
      SCOPED_TRACE(family);
      EXPECT_EQ(want[i].drawn.size(), 10u);
      expect_same(want[i], together[i], i);
    }
    for (const uint32_t i : {0u, 7u}) expect_same(want[i], generate(cuda, {i}, 500, shape.n_vocab, 10)[i], i);
  }
}

// Little enough for tools that record every access: a prompt past 64 tokens, shorter ones, decoding alone and
// together; with experts, both ways that tokens go to them.
TEST(CudaExecutor, SmallRunThroughEveryKindOfStep) {
  SyntheticModel dense = shape_of("llama", {TensorType::kQ4_K, TensorType::kQ6_K}, 256, 256);
  dense.n_layers = 2;  // of which the second takes the first one's place in shared memory
  SyntheticModel experts = shape_of("gpt-oss", {TensorType::kMXFP4}, 256, 256);
  experts.n_layers = 1;
  experts.n_experts = 4;
  experts.window = 64;
  for (const SyntheticModel& shape : {dense, experts}) {
    const LoadedModel model(shape);
    Loaded cpu(cpu::open_cpu_device(0), model, small_limits(0));
    Loaded cuda(model, small_limits(0));
    for (const std::vector<uint32_t>& members : {std::vector<uint32_t>{1}, std::vector<uint32_t>{0, 1, 2}}) {
      const std::vector<Sequence> want = generate(cpu, members, 500, shape.n_vocab, 3);
      const std::vector<Sequence> got = generate(cuda, members, 80, shape.n_vocab, 3);
      for (const uint32_t i : members) {
        EXPECT_EQ(want[i].drawn.size(), 3u);
        expect_same(want[i], got[i], i);
      }
    }
  }
}

// More sequences than the graphs are made for, each with one token in a step.
TEST(CudaExecutor, ManySequencesAtOnceGiveTheBitsOfEachAlone) {
  SyntheticModel shape = shape_of("llama", {TensorType::kQ4_K, TensorType::kQ6_K}, 256, 512);
  shape.n_vocab = 500;
  const LoadedModel model(shape);
  Limits limits = small_limits(0);
  limits.slots = limits.logits_rows = 24;
  limits.context = 128;
  Loaded loaded(model, limits);
  const auto first_tokens = [&](const std::vector<uint32_t>& members) {
    std::vector<numerics::Digest> digests(24);
    for (uint32_t position = 0; position < 70; ++position) {
      std::vector<int32_t> tokens(24);
      std::vector<std::vector<uint32_t>> pages(24);
      std::vector<SequenceStep> steps;
      for (const uint32_t i : members) {
        if (position == 0) loaded.executor->begin_sequence(i, {}, {});
        tokens[i] = static_cast<int32_t>((position * 31 + i * 7) % shape.n_vocab);
        pages[i] = pages_of(loaded.resolved, i);
        SequenceStep step;
        step.slot = i;
        step.first_position = position;
        step.tokens = std::span(tokens).subspan(i, 1);
        step.pages = pages[i];
        step.logits = LogitsMode::kLast;
        steps.push_back(step);
      }
      loaded.executor->submit(steps);
      for (const SequenceResult& result : loaded.executor->collect())
        numerics::digest_chain(&digests[result.slot], result.logits_digest);
    }
    return digests;
  };
  std::vector<uint32_t> all(24);
  for (uint32_t i = 0; i < 24; ++i) all[i] = i;
  const std::vector<numerics::Digest> together = first_tokens(all);
  for (const uint32_t i : {0u, 7u, 8u, 15u, 23u}) EXPECT_EQ(first_tokens({i})[i], together[i]) << i;
}

TEST(CudaExecutor, PlanEqualsLedgerAndNothingIsAllocatedAfterLoad) {
  const LoadedModel model(shape_of("llama", {TensorType::kQ4_K}, 512, 1024));
  Loaded loaded(model, small_limits(0));
  const memory::Plan plan = loaded.device->plan(*model.program, loaded.resolved);
  for (int c = 0; c < memory::kCategoryCount; ++c) {
    const auto category = static_cast<memory::Category>(c);
    EXPECT_EQ(plan.arena_bytes(category), loaded.executor->ledger().bytes(category))
        << memory::category_name(category);
  }
  const uint64_t before = loaded.executor->ledger().n_allocations(), free = loaded.device->free_bytes();
  all_logits(loaded, test::random_tokens(4, 300, 9), 1);
  generate(loaded, {0, 1, 2, 3}, 64, 300);
  EXPECT_EQ(before, loaded.executor->ledger().n_allocations());
  EXPECT_EQ(free, loaded.device->free_bytes());
}

TEST(CudaExecutor, ResidencyIsOnTheDeviceWithTheDigestsOfLoading) {
  const LoadedModel model(shape_of("llama", {TensorType::kQ5_K}, 512, 1024));
  Loaded loaded(model, small_limits(0));
  const std::vector<Executor::Residency> arenas = loaded.executor->check_residency();
  EXPECT_FALSE(arenas.empty());
  for (const Executor::Residency& residency : arenas) {
    EXPECT_EQ(residency.pointer_type, "device") << residency.arena;
    EXPECT_EQ(residency.digest, residency.expected);
    EXPECT_EQ(residency.first_mismatch, "");
  }
}

TEST(CudaDevice, AHundredDevicesComeAndGoWithoutGrowth) {
  const LoadedModel model(shape_of("llama", {TensorType::kQ8_0}, 256, 512));
  { Loaded first(model, small_limits(0)); }
  const uint64_t free = open_cuda_device(0)->free_bytes();
  for (int i = 0; i < 100; ++i) Loaded again(model, small_limits(0));
  EXPECT_EQ(free, open_cuda_device(0)->free_bytes());
}

TEST(CudaDevice, ANumberThatDoesNotExistIsRefused) {
  try {
    open_cuda_device(99);
    FAIL() << "cuda:99 was opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCudaError);
  }
}

}  // namespace
}  // namespace orcd::device
