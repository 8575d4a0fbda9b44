// Whole models on the CPU device: the reference's bits for every instruction set, thread count, chunking and
// batch.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "device/cpu/cpu_device.h"
#include "device/cpu/isa.h"
#include "kv/layout.h"
#include "support/reference_executor.h"
#include "support/synthetic_model.h"

namespace orcd::device {
namespace {

using test::LoadedModel;
using test::SyntheticModel;

// Sets ORCD_ISA for its lifetime.
class ForcedIsa {
 public:
  explicit ForcedIsa(cpu::Isa isa) { setenv("ORCD_ISA", std::string(cpu::isa_name(isa)).c_str(), 1); }
  ~ForcedIsa() { unsetenv("ORCD_ISA"); }
};

Limits small_limits(uint32_t logits_rows) {
  Limits limits;
  limits.context = 768;
  limits.slots = 4;
  limits.batch_tokens = 512;
  limits.logits_rows = logits_rows;
  return limits;
}

struct Loaded {
  Loaded(const LoadedModel& model, uint32_t n_threads, const Limits& limits)
      : device(cpu::open_cpu_device(n_threads)),
        resolved(device->resolve(*model.program, limits)),
        executor(device->load(model.program, resolved, {})) {}
  std::unique_ptr<Device> device;
  ResolvedLimits resolved;
  std::unique_ptr<Executor> executor;
};

// Pages of sequence `index`: a shuffled share of the pool, so that block tables are not the identity.
std::vector<uint32_t> pages_of(const ResolvedLimits& limits, uint32_t index) {
  std::vector<uint32_t> pages;
  for (uint32_t page = index; page < limits.kv_pages; page += limits.slots)
    pages.push_back(limits.kv_pages - 1 - page);
  return pages;
}

// All logits of one sequence in slot 0, in chunks.
std::vector<float> all_logits(Loaded& loaded, std::span<const int32_t> tokens, uint32_t chunk) {
  const std::vector<uint32_t> pages = pages_of(loaded.resolved, 0);
  std::vector<float> logits;
  for (uint32_t at = 0; at < tokens.size(); at += chunk) {
    SequenceStep step;
    step.first_position = at;
    step.tokens = tokens.subspan(at, std::min<size_t>(chunk, tokens.size() - at));
    step.pages = pages;
    step.logits = LogitsMode::kAll;
    step.want_rows = true;
    loaded.executor->submit({&step, 1});
    const auto results = loaded.executor->collect();
    EXPECT_FALSE(results[0].non_finite);
    logits.insert(logits.end(), results[0].rows.begin(), results[0].rows.end());
  }
  return logits;
}

void expect_same_bits(const std::vector<float>& want, const std::vector<float>& got,
                      const std::string& what) {
  ASSERT_EQ(want.size(), got.size()) << what;
  EXPECT_EQ(0, std::memcmp(want.data(), got.data(), want.size() * 4)) << what;
}

std::vector<SyntheticModel> shapes() {
  SyntheticModel llama;
  llama.types = {TensorType::kQ4_1, TensorType::kQ8_0, TensorType::kQ4_0, TensorType::kQ5_1};
  SyntheticModel mixed =
      llama;  // every format, heads of 80, five query heads to a KV head, biases, untied head
  mixed.types = {TensorType::kQ6_K,  TensorType::kF16,  TensorType::kQ4_K,   TensorType::kBF16,
                 TensorType::kQ5_K,  TensorType::kF32,  TensorType::kQ5_0,   TensorType::kQ8_0,
                 TensorType::kQ2_K,  TensorType::kQ3_K, TensorType::kIQ4_NL, TensorType::kIQ4_XS,
                 TensorType::kMXFP4, TensorType::kQ4_0, TensorType::kQ4_1,   TensorType::kQ5_1};
  mixed.n_heads = 16;
  mixed.head_dim = 48;
  mixed.n_kv_heads = 2;
  mixed.tied = false;
  mixed.biases = true;
  mixed.ffn_dim = 768;
  mixed.n_vocab = 333;
  mixed.n_heads = 16;
  SyntheticModel gemma = llama;
  gemma.family = "gemma3";
  gemma.n_layers = 7;
  gemma.window = 70;
  gemma.n_kv_heads = 1;
  gemma.head_dim = 128;
  gemma.types = {TensorType::kQ5_0, TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ6_K};
  SyntheticModel gpt_oss = llama;  // more experts than the rows of a tile, a window that two pages hold
  gpt_oss.family = "gpt-oss";
  gpt_oss.n_experts = 20;
  gpt_oss.n_experts_used = 4;
  gpt_oss.window = 70;
  gpt_oss.ffn_dim = 160;
  gpt_oss.types = {TensorType::kQ8_0, TensorType::kQ8_0,  TensorType::kQ8_0,  TensorType::kQ8_0,
                   TensorType::kQ8_0, TensorType::kMXFP4, TensorType::kMXFP4, TensorType::kMXFP4};
  SyntheticModel qwen = llama;  // the gate's experts are quantised, those of up are not
  qwen.family = "qwen3moe";
  qwen.n_experts = 8;
  qwen.n_experts_used = 3;
  qwen.ffn_dim = 256;
  qwen.types = {TensorType::kQ6_K, TensorType::kQ4_K, TensorType::kQ5_0, TensorType::kQ4_K,
                TensorType::kBF16, TensorType::kQ4_K, TensorType::kF16,  TensorType::kQ6_K};
  SyntheticModel mixtral = llama;  // as many experts as are used: all of them, in the router's order
  mixtral.n_experts = mixtral.n_experts_used = 2;
  mixtral.biases = true;
  mixtral.types = {TensorType::kF32, TensorType::kQ2_K, TensorType::kQ3_K};
  SyntheticModel single = llama;  // one expert, whose matrices are laid out as those of several are
  single.n_experts = single.n_experts_used = 1;
  single.ffn_dim = 4 * single.dim;
  single.types = {TensorType::kQ4_0};
  SyntheticModel routed = single;  // a quantised router before experts that are not
  routed.n_experts = 5;
  routed.n_experts_used = 2;
  routed.router = TensorType::kQ8_0;
  routed.types = {TensorType::kF16};
  SyntheticModel gpt2 =
      mixtral;  // LayerNorm, learned positions, no gate, slices of fused matrices and biases
  gpt2.family = "gpt2";
  gpt2.n_experts = 0;
  gpt2.types = {TensorType::kQ8_0, TensorType::kF16, TensorType::kQ4_K};
  SyntheticModel phi = gpt2;  // fused gate and up, with biases
  phi.family = "phi3";
  phi.window = 70;
  SyntheticModel granite = llama;  // a residual scale
  granite.family = "granite";
  SyntheticModel gemma2 = gemma;  // softcap of the scores
  gemma2.family = "gemma2";
  gemma2.n_layers = 2;
  return {llama, mixed, gemma, gpt_oss, qwen, mixtral, single, routed, gpt2, phi, granite, gemma2};
}

// Instrumented builds run the same body over fewer tokens: past one KV page, in one chunking.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr uint32_t kTokens = 70;
const std::vector<uint32_t> kChunks = {64};
const std::vector<uint32_t> kThreads = {2};
#else
constexpr uint32_t kTokens = 140;
const std::vector<uint32_t> kChunks = {1, 7, 64, kTokens};
const std::vector<uint32_t> kThreads = {1, 2, 3};
#endif

TEST(CpuExecutor, EveryIsaThreadCountAndChunkGivesTheReferencesBits) {
  for (const SyntheticModel& shape : shapes()) {
    const LoadedModel model(shape);
    const std::vector<int32_t> tokens = test::random_tokens(kTokens, shape.n_vocab, 3);
    const std::vector<float> want = test::reference_logits(*model.program, tokens);
    for (const cpu::Isa isa : cpu::available_isas()) {
      const ForcedIsa forced(isa);
      for (const uint32_t n_threads : kThreads) {
        Loaded loaded(model, n_threads, small_limits(kTokens));
        ASSERT_EQ(loaded.device->info().isa, cpu::isa_name(isa));
        for (const uint32_t chunk : kChunks) {
          if (n_threads != 2 && chunk != 64) continue;
          if (isa == cpu::Isa::kScalar && chunk == 7) continue;
          expect_same_bits(want, all_logits(loaded, tokens, chunk),
                           shape.family + " " + std::string(cpu::isa_name(isa)) + " threads " +
                               std::to_string(n_threads) + " chunk " + std::to_string(chunk));
        }
      }
    }
  }
}

void expect_batch_equals_alone(const SyntheticModel& shape) {
  const LoadedModel model(shape);
  Loaded loaded(model, 2, small_limits(0));
  // Four sequences of different lengths, prefilled in mixed chunks and decoded together.
  struct Sequence {
    std::vector<int32_t> tokens;
    std::vector<uint32_t> pages;
    numerics::Digest digest;
    std::vector<int32_t> drawn;
  };
  const auto generate = [&](std::vector<uint32_t> members, uint32_t chunk) {
    std::vector<Sequence> sequences(4);
    for (const uint32_t i : members) {
      sequences[i].tokens = test::random_tokens(30 + 41 * i, 300, 50 + i);
      sequences[i].pages = pages_of(loaded.resolved, i);
      sampling::SamplingParams params;
      params.temperature = i % 2 ? 0.8f : 0.0f;
      params.seed = i;
      params.repetition_penalty = 1.1f;
      loaded.executor->begin_sequence(i, params, sequences[i].tokens);
    }
    std::vector<uint32_t> done(4, 0);
    for (int round = 0; round < 200; ++round) {
      std::vector<SequenceStep> steps;
      for (const uint32_t i : members) {
        Sequence& s = sequences[i];
        if (s.drawn.size() == 12) continue;
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
  };
  const std::vector<Sequence> together = generate({0, 1, 2, 3}, 9);
  for (uint32_t i = 0; i < 4; ++i) {
    const std::vector<Sequence> alone = generate({i}, 500);
    EXPECT_EQ(alone[i].drawn.size(), 12u);
    EXPECT_EQ(alone[i].drawn, together[i].drawn) << i;
    EXPECT_EQ(alone[i].digest, together[i].digest) << i;
  }
}

TEST(CpuExecutor, SequencesInABatchGetTheBitsTheyGetAlone) { expect_batch_equals_alone(shapes()[2]); }

TEST(CpuExecutor, SequencesThatShareExpertsGetTheBitsTheyGetAlone) {
  expect_batch_equals_alone(shapes()[3]);
  expect_batch_equals_alone(shapes()[4]);
}

TEST(CpuExecutor, PlanEqualsLedgerAndNothingIsAllocatedAfterLoad) {
  for (const size_t shape : {0, 3}) {
    const LoadedModel model(shapes()[shape]);
    Loaded loaded(model, 2, small_limits(0));
    const memory::Plan plan = loaded.device->plan(*model.program, loaded.resolved);
    EXPECT_EQ(plan.total_bytes(), loaded.executor->ledger().total_bytes());
    for (int c = 0; c < memory::kCategoryCount; ++c) {
      const auto category = static_cast<memory::Category>(c);
      EXPECT_EQ(plan.arena_bytes(category), loaded.executor->ledger().bytes(category))
          << memory::category_name(category);
    }
    const uint64_t before = loaded.executor->ledger().n_allocations();
    all_logits(loaded, test::random_tokens(4, 300, 9), 1);
    EXPECT_EQ(before, loaded.executor->ledger().n_allocations());
  }
}

TEST(CpuExecutor, ABudgetOneByteTooSmallIsRefusedWithTheNumbers) {
  const LoadedModel model(shapes()[0]);
  const auto device = cpu::open_cpu_device(1);
  Limits limits = small_limits(0);
  const uint64_t needed = device->plan(*model.program, device->resolve(*model.program, limits)).total_bytes();
  limits.budget_bytes = needed;
  EXPECT_EQ(device->resolve(*model.program, limits).context, 768u);
  limits.budget_bytes = needed - 1;
  try {
    device->resolve(*model.program, limits);
    FAIL() << "a budget of " << limits.budget_bytes << " was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInsufficientVram);
    EXPECT_EQ(std::get<uint64_t>(error.values()[0].second), needed);
    EXPECT_EQ(std::get<uint64_t>(error.values()[1].second), needed - 1);
    const uint64_t max_context = std::get<uint64_t>(error.values()[4].second);
    EXPECT_GT(max_context, 0u);
    limits.context = static_cast<uint32_t>(max_context);
    EXPECT_EQ(device->resolve(*model.program, limits).context, max_context);
  }
}

TEST(CpuExecutor, ADefaultContextShrinksToTheBudget) {
  const LoadedModel model(shapes()[0]);
  const auto device = cpu::open_cpu_device(1);
  Limits limits = small_limits(0);
  const uint64_t budget = device->plan(*model.program, device->resolve(*model.program, limits)).total_bytes();
  limits.context = 0;
  limits.budget_bytes = budget;
  const ResolvedLimits resolved = device->resolve(*model.program, limits);
  EXPECT_EQ(resolved.context, 768u);
  EXPECT_LE(device->plan(*model.program, resolved).total_bytes(), budget);
}

TEST(CpuExecutor, ResidencyDigestsEqualThoseAtLoad) {
  const LoadedModel model(shapes()[0]);
  Loaded loaded(model, 2, small_limits(0));
  const auto residency = loaded.executor->check_residency();
  ASSERT_EQ(residency.size(), 1u);
  EXPECT_EQ(residency[0].digest, residency[0].expected);
  EXPECT_EQ(residency[0].first_mismatch, "");
  EXPECT_EQ(residency[0].bytes, loaded.executor->plan().arena_bytes(memory::Category::kWeights));
}

TEST(CpuExecutor, ABrokenModelIsReportedNotSampled) {
  SyntheticModel shape;
  LoadedModel model(shape);
  // The output norm gets a NaN.
  const model::Weight* norm = nullptr;
  for (const model::Weight& weight : model.program->weights) {
    if (weight.name == "output_norm.weight") norm = &weight;
  }
  ASSERT_NE(norm, nullptr);
  const uint32_t nan = 0x7fc00000u;
  std::memcpy(&model.bytes[norm->tensor->offset], &nan, 4);
  Loaded loaded(model, 1, small_limits(0));
  const std::vector<int32_t> tokens = {1, 2, 3};
  const std::vector<uint32_t> pages = pages_of(loaded.resolved, 0);
  loaded.executor->begin_sequence(0, {}, tokens);
  SequenceStep step;
  step.tokens = tokens;
  step.pages = pages;
  step.logits = LogitsMode::kLast;
  step.sample = true;
  loaded.executor->submit({&step, 1});
  const auto results = loaded.executor->collect();
  EXPECT_TRUE(results[0].non_finite);
  EXPECT_EQ(results[0].token, -1);
}

TEST(CpuExecutor, UnknownInstructionSetIsRefusedByName) {
  setenv("ORCD_ISA", "sse9", 1);
  EXPECT_THROW(cpu::open_cpu_device(1), Error);
  unsetenv("ORCD_ISA");
}

}  // namespace
}  // namespace orcd::device
