// The host side over the played runtime, which does work as late as it may: what the host waits for, and for
// what it must not.
#include <gtest/gtest.h>

#include <map>

#include "device/cuda/experts.h"
#include "device/cuda/persistent.h"
#include "device/cuda/plan.h"
#include "device/cuda/state.h"
#include "device/cuda_device.h"
#include "gpu/environment.h"
#include "gpu/fake_cudart.h"
#include "gpu/rig.h"

namespace orcd::cuda {
namespace {

using test::fake_operations_queued;
using test::fake_operations_run;
using test::Rig;
using test::SyntheticModel;

// A prompt of 20 tokens in slot 0.
struct FirstStep {
  FirstStep() {
    step.tokens = prompt;
    step.pages = pages;
  }
  const std::vector<int32_t> prompt = test::random_tokens(20, 300, 1);
  const std::vector<uint32_t> pages = {0};
  device::SequenceStep step;
};

TEST(HostSide, BeginningASequenceWaitsForNoStep) {
  Rig rig;
  const auto executor = rig.load();
  FirstStep first;
  executor->begin_sequence(0, {}, first.prompt);
  executor->submit({&first.step, 1});
  const uint64_t run = fake_operations_run();
  EXPECT_LT(run, fake_operations_queued());
  executor->begin_sequence(1, {}, first.prompt);
  EXPECT_EQ(fake_operations_run(), run) << "the step under way was waited for";
  // The slot's own staging is: it would be overwritten before its copy is made.
  executor->begin_sequence(1, {}, std::span(first.prompt).first(3));
  EXPECT_GT(fake_operations_run(), run);
  executor->collect();
}

// The streams of copies: what the runtime has not been asked to wait for, it has not done.
TEST(HostSide, AStepWaitsForItsWordsAndItsResultsForTheStepButNotForThoseOfTheNext) {
  Rig rig;
  const auto executor = rig.load();
  FirstStep first;
  executor->begin_sequence(0, {}, first.prompt);
  executor->submit({&first.step, 1});
  const uint64_t of_first = fake_operations_queued();
  first.step.tokens = {};
  first.step.first_position = 20;
  executor->submit({&first.step, 1});
  executor->collect();
  EXPECT_EQ(fake_operations_run(), of_first);
  executor->collect();
  EXPECT_EQ(fake_operations_run(), fake_operations_queued());
}

TEST(HostSide, SlotsAreBegunAgainAtAnyTimeWithoutLosingTheirStaging) {
  Rig rig;
  const auto executor = rig.load();
  for (uint32_t i = 0; i < 50; ++i)
    executor->begin_sequence(i % 3, {}, test::random_tokens(1 + i, 300, i));  // the runtime checks the copies
  EXPECT_EQ(executor->check_residency().size(), 4u);
}

TEST(HostSide, WhichProgramsOneKernelCanTakeThroughAllLayers) {
  const auto is_taken = [](const SyntheticModel& shape) {
    const test::LoadedModel model(shape);
    const device::ResolvedLimits limits = Rig(shape).device->resolve(*model.program, {});
    EXPECT_FALSE(CudaPlan(*model.program, limits, {}).persistent);
    return CudaPlan(*model.program, limits, {.n = 132}).persistent.has_value();
  };
  for (const char* family : {"llama", "qwen2", "qwen3", "granite", "smollm3", "phi3", "gemma"})
    EXPECT_TRUE(is_taken({.family = family})) << family;
  for (const char* family : {"gemma2", "gemma3"})
    EXPECT_FALSE(is_taken({.family = family, .window = 64})) << family;
  for (const char* family : {"gpt2", "starcoder2"}) EXPECT_FALSE(is_taken({.family = family})) << family;
  EXPECT_FALSE(is_taken({.family = "gpt-oss", .window = 64, .n_experts = 4}));
  EXPECT_FALSE(is_taken({.family = "qwen3moe", .n_experts = 4}));
  EXPECT_FALSE(is_taken({.head_dim = 96}));
  EXPECT_FALSE(is_taken({.biases = true}));  // of the gate
  EXPECT_FALSE(is_taken({.types = {TensorType::kQ8_0, TensorType::kF16}}));
}

TEST(HostSide, KernelsAreChosenByNameAndOthersRefused) {
  EXPECT_EQ(Context(0).persistent.n, 132u);
  EXPECT_FALSE(Context(0).persistent.streams);
  EXPECT_TRUE(Context(0).has_clusters);
  {
    const test::Environment wanted("ORCD_CUDA_KERNELS", "portable");
    EXPECT_EQ(Context(0).persistent.n, 0u);
    EXPECT_FALSE(Context(0).has_clusters);
    EXPECT_FALSE(Context(0).has_wgmma);
  }
  {
    const test::Environment wanted("ORCD_CUDA_KERNELS", "launches");
    EXPECT_EQ(Context(0).persistent.n, 0u);
    EXPECT_TRUE(Context(0).has_clusters);
    // One request through the executor, with what the plan has for it.
    Rig rig;
    const auto executor = rig.load();
    EXPECT_EQ(executor->plan().arena_bytes(memory::Category::kActivations),
              executor->ledger().bytes(memory::Category::kActivations));
    test::run_request(*executor);
  }
  {
    const test::Environment wanted("ORCD_CUDA_KERNELS", "streamed");
    EXPECT_EQ(Context(0).persistent.n, 132u);
    EXPECT_TRUE(Context(0).persistent.streams);
  }
  const test::Environment wanted("ORCD_CUDA_KERNELS", "fastest");
  EXPECT_THROW(Context(0), Error);
}

TEST(HostSide, TheKernelOfAllLayersTakesWhatFitsABlocksSharedMemory) {
  const auto persistent = [](const SyntheticModel& shape) {
    Rig rig(shape);
    rig.limits.context = shape.context;
    rig.limits.kv_cache_bytes = 0;
    State state(rig.context, rig.model.program, rig.device->resolve(*rig.model.program, rig.limits));
    return make_persistent(state);
  };
  // The shape of Qwen2.5-0.5B: 132 blocks, of which 56 have rows of the residual.
  SyntheticModel narrow = {.family = "qwen2", .n_layers = 1, .dim = 896, .ffn_dim = 4864, .n_heads = 14};
  narrow.context = 8192;
  narrow.types = {TensorType::kQ5_0};
  const std::optional<Persistent> taken = persistent(narrow);
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->n_blocks, 132u);
  EXPECT_EQ(taken->args.max_splits, 9u) << "76 blocks are left for eight pairs of heads";
  EXPECT_EQ(taken->args.n_attending, 76u);
  EXPECT_EQ(taken->args.stream.n_slots, 0u) << "its weights are resident";
  EXPECT_LE(taken->args.shared.bytes, kMostResidentShared);
  // Parts follow one another; the pages stand where the projections' weights do.
  const PersistentShared& at = taken->args.shared;
  EXPECT_LT(at.red_at, at.codes_at);
  EXPECT_GE(at.scales_at, at.codes_at + 4864 + 256);
  EXPECT_LT(at.scales_at, at.parts_at);
  EXPECT_LE(at.parts_at + kAttentionShared, at.slots_at[kQkvStage]);
  EXPECT_EQ(at.pages_at, at.slots_at[kProjectStage]);
  EXPECT_GT(taken->args.prefetch.n_ranges, 0u);
  // Nothing is asked for early of a head in floats, which is the embedding here.
  SyntheticModel floats = {.n_layers = 1};
  floats.types.assign(8, TensorType::kQ8_0);
  floats.types[0] = TensorType::kF16;
  const std::optional<Persistent> without = persistent(floats);
  ASSERT_TRUE(without);
  EXPECT_EQ(without->args.prefetch.n_ranges, 0u);
}

TEST(HostSide, ThroughTheKernelOfAllLayersStreamWeightsThatAreNoBlocksShare) {
  const auto persistent = [](const SyntheticModel& shape, bool streams = true) {
    const test::LoadedModel model(shape);
    return persistent_shape(*model.program, {.n = 132, .streams = streams});
  };
  // A layer of the 1B shape is 38 MB: more than all blocks together have.
  SyntheticModel wide = {.n_layers = 1, .dim = 2048, .ffn_dim = 8192, .n_heads = 32, .n_kv_heads = 8};
  wide.types = {TensorType::kQ4_K};
  const std::optional<PersistentShape> taken = persistent(wide);
  ASSERT_TRUE(taken);
  EXPECT_EQ(persistent(wide, false)->stream.n_slots, taken->stream.n_slots) << "without being asked too";
  const StreamShared& at = taken->stream;
  EXPECT_EQ(at.slot_bytes, 2u * (4 * 576 + 64)) << "four units of two tiles, and what 256 elements share";
  EXPECT_EQ(at.n_slots, 2u);
  EXPECT_GE(at.row_at, at.n_slots * 16 * at.slot_bytes);
  EXPECT_GE(at.row_at, 4u * 64 * 64 * 2 * 2) << "the pages of a split in the slots' place";
  EXPECT_TRUE(at.pages_beside) << "64 KiB beside one slot of each warp, and warps take as many sets";
  EXPECT_GE(at.parts_at, at.row_at + (2048 + 256) * 4) << "a row and its sums";
  EXPECT_LT(at.parts_at, at.codes_at);
  EXPECT_GE(at.scales_at, at.codes_at + 8192 + 256);
  EXPECT_GE(at.bytes, at.scales_at + 8192 / 32 * 8);
  EXPECT_LE(at.bytes, kMostStreamShared);
  EXPECT_EQ(taken->n_attending, 132u);
  EXPECT_EQ(taken->max_splits, 132u * kMostItems / 16) << "of eight KV heads with two pairs of heads each";
  // Sevens of units in sets of four: two sets or three; pages of 128 KiB.
  wide.ffn_dim = 7168;
  EXPECT_FALSE(persistent(wide)->stream.pages_beside);
  wide.ffn_dim = 8192;
  wide.head_dim = 128;
  EXPECT_FALSE(persistent(wide)->stream.pages_beside);
  wide.head_dim = 64;
  // Small sets leave room for more of them; launches are faster with these formats.
  for (const TensorType type : {TensorType::kQ2_K, TensorType::kQ3_K}) {
    wide.types = {type};
    EXPECT_EQ(persistent(wide)->stream.n_slots, kMostSlots);
    EXPECT_FALSE(persistent(wide, false));
  }
  // What a block could keep streams too.
  SyntheticModel narrow = {.n_layers = 1};
  narrow.types = {TensorType::kQ8_0};
  EXPECT_EQ(persistent(narrow, false)->stream.n_slots, 0u);
  EXPECT_NE(persistent(narrow)->stream.n_slots, 0u);
  // Rows of the residual are kept by their block, at most 64.
  SyntheticModel widest = {.n_layers = 1, .dim = 132 * 64 + 256, .ffn_dim = 256, .n_heads = 4};
  widest.types = {TensorType::kQ4_K};
  EXPECT_FALSE(persistent(widest));
}

TEST(HostSide, SharesOfBlocksThroughWhichWeightsStreamAreAllRowsOnce) {
  // 128 blocks have one tile of the residual, four have none; steps of the gate and up: two of 124 blocks,
  // one of eight.
  SyntheticModel shape = {.n_layers = 2, .dim = 2048, .ffn_dim = 8192, .n_heads = 32, .n_kv_heads = 8};
  shape.family = "qwen2";  // with biases of q, k and v
  shape.types = {TensorType::kQ4_K};
  Rig rig(shape);
  rig.limits.kv_cache_bytes = 0;
  State state(rig.context, rig.model.program, rig.device->resolve(*rig.model.program, rig.limits));
  const std::optional<Persistent> taken = make_persistent(state);
  ASSERT_TRUE(taken);
  ASSERT_NE(taken->args.stream.n_slots, 0u);
  const uint32_t cols[kLinearStages] = {2048, 2048, 2048, 8192};
  for (uint32_t layer = 0; layer < 2; ++layer) {
    const PersistentLayer& placed = taken->args.layers[layer];
    for (uint32_t stage = 0; stage < kLinearStages; ++stage) {
      std::map<const uint64_t*, uint32_t> rows;  // of each output, GLU: of nullptr; by the blocks so far
      for (uint32_t block = 0; block < taken->n_blocks; ++block) {
        const StageShare& share = taken->args.shares[layer * taken->n_blocks + block].stages[stage];
        // A block without a share of the down projection publishes groups of the row that it reads.
        EXPECT_EQ(share.n_groups, cols[stage] / 32) << stage << " " << block;
        EXPECT_EQ(share.n_units, cols[stage] / 64);
        if (share.n_tiles == 0) continue;
        const uint64_t* begin = share.out ? share.out - share.first_row : nullptr;
        EXPECT_EQ(share.first_row, rows[begin]) << "blocks follow one another";
        rows[begin] += share.n_rows;
        EXPECT_EQ(share.n_tiles, (share.n_rows + 15) / 16);
        EXPECT_EQ(share.type, TensorType::kQ4_K);
        EXPECT_EQ(share.bias != nullptr, stage == kQkvStage);
        EXPECT_EQ(share.units[1] != nullptr, stage == kGateUpStage);
        const Segment& first = placed.linears[stage].segments[0];
        if (begin == placed.linears[stage].outputs[0] || stage == kGateUpStage) {
          EXPECT_EQ(share.units[0], first.data + uint64_t{share.first_row} / 16 * share.n_units * 576);
          EXPECT_EQ(share.super[0],
                    first.data + first.super_at + uint64_t{share.first_row} / 16 * share.super_stride);
        }
      }
      if (stage == kQkvStage) {
        const auto& words = taken->args.exchange;
        EXPECT_EQ(rows,
                  (std::map<const uint64_t*, uint32_t>{{words.q, 2048}, {words.k, 512}, {words.v, 512}}));
      } else {
        ASSERT_EQ(rows.size(), 1u);
        EXPECT_EQ(rows.begin()->second, stage == kGateUpStage ? 8192u : 2048u);
      }
    }
  }
}

TEST(HostSide, ModelsOfExpertsTakeWhatTheirPlanSays) {
  const SyntheticModel shapes[] = {{.family = "gpt-oss", .window = 128, .n_experts = 4},
                                   {.family = "qwen3moe", .n_experts = 9, .n_experts_used = 3},
                                   {.family = "granite"}};
  for (const SyntheticModel& shape : shapes) {
    Rig rig(shape);
    const auto executor = rig.load();
    for (int c = 0; c < memory::kCategoryCount; ++c) {
      const auto category = static_cast<memory::Category>(c);
      EXPECT_EQ(executor->plan().arena_bytes(category), executor->ledger().bytes(category))
          << shape.family << " " << memory::category_name(category);
    }
    test::run_request(*executor);
  }
}

TEST(HostSide, StepsAreLargeWhereNobodyNamedANumberAndNothingElseShrinks) {
  Rig rig;
  rig.limits.batch_tokens = 0;
  const auto bytes = [&](const device::ResolvedLimits& limits) {
    return rig.device->plan(*rig.model.program, limits).total_bytes();
  };
  const device::ResolvedLimits large = rig.device->resolve(*rig.model.program, rig.limits);
  EXPECT_EQ(large.batch_tokens, 2048u);
  rig.limits.budget_bytes = bytes(large);
  EXPECT_EQ(rig.device->resolve(*rig.model.program, rig.limits).batch_tokens, 2048u);
  rig.limits.budget_bytes = bytes(large) - 1;
  const device::ResolvedLimits small = rig.device->resolve(*rig.model.program, rig.limits);
  EXPECT_EQ(small.batch_tokens, 512u);
  EXPECT_EQ(small.context, large.context);
  EXPECT_EQ(small.kv_pages, large.kv_pages);
  rig.limits.budget_bytes = 0;
  rig.limits.batch_tokens = 512;
  EXPECT_EQ(rig.device->resolve(*rig.model.program, rig.limits).batch_tokens, 512u);
}

TEST(HostSide, OneExpertTakesTheRoomOfAnyOther) {
  // In wide tiles of tokens, as steps of that many go.
  SyntheticModel shape{.ffn_dim = 2048, .n_experts = 1, .n_experts_used = 1};
  Rig rig(shape);
  rig.limits.batch_tokens = 128;
  const CudaPlan plan(*rig.model.program, rig.device->resolve(*rig.model.program, rig.limits), {});
  const uint64_t codes = plan.plan.items()[plan.xq].bytes;
  EXPECT_GE(codes, (most_places(128, 1) + kWideExpertTokens) * uint64_t{shape.ffn_dim});
}

TEST(HostSide, StepsOfFloatExpertsKeepToWhatAGridHas) {
  Rig rig({.types = {TensorType::kF16}, .n_experts = 24, .n_experts_used = 24});
  const model::Program& program = *rig.model.program;
  rig.limits.batch_tokens = 65535 / 24;
  EXPECT_EQ(rig.device->resolve(program, rig.limits).batch_tokens, 2730u);
  ++rig.limits.batch_tokens;
  try {
    rig.device->resolve(program, rig.limits);
    FAIL() << "65,544 pairs were taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
    EXPECT_NE(error.line().find("most=2730"), std::string::npos) << error.line();
  }
}

TEST(HostSide, DevicesAreCountedWithoutOpeningOne) {
  const uint64_t chosen = test::fake_devices_chosen();
  const device::CudaDevices found = device::count_cuda_devices();
  EXPECT_GE(found.n, 1u);
  EXPECT_EQ(found.why_none, "");
  EXPECT_EQ(device::device_count(), 1 + found.n);
  EXPECT_EQ(device::device_name(found.n), "cuda:" + std::to_string(found.n - 1));
  EXPECT_EQ(test::fake_devices_chosen(), chosen) << "a device was touched";
  EXPECT_EQ(device::device_info(found.n).refusal, "");
  EXPECT_GT(test::fake_devices_chosen(), chosen);
}

}  // namespace
}  // namespace orcd::cuda
