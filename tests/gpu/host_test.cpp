// The host side over the played runtime, which does work as late as it may: what the host waits for, and for
// what it must not.
#include <gtest/gtest.h>

#include "gpu/fake_cudart.h"
#include "gpu/rig.h"

namespace orcd::cuda {
namespace {

using test::fake_operations_queued;
using test::fake_operations_run;
using test::Rig;
using test::SyntheticModel;

TEST(HostSide, BeginningASequenceWaitsForNoStep) {
  Rig rig;
  const auto executor = rig.load();
  const std::vector<int32_t> prompt = test::random_tokens(20, 300, 1);
  const std::vector<uint32_t> pages = {0};
  executor->begin_sequence(0, {}, prompt);
  device::SequenceStep step;
  step.tokens = prompt;
  step.pages = pages;
  executor->submit({&step, 1});
  const uint64_t run = fake_operations_run();
  EXPECT_LT(run, fake_operations_queued());
  executor->begin_sequence(1, {}, prompt);
  EXPECT_EQ(fake_operations_run(), run) << "the step under way was waited for";
  // The slot's own staging is: it would be overwritten before its copy is made.
  executor->begin_sequence(1, {}, std::span(prompt).first(3));
  EXPECT_GT(fake_operations_run(), run);
  executor->collect();
}

TEST(HostSide, SlotsAreBegunAgainAtAnyTimeWithoutLosingTheirStaging) {
  Rig rig;
  const auto executor = rig.load();
  for (uint32_t i = 0; i < 50; ++i)
    executor->begin_sequence(i % 3, {}, test::random_tokens(1 + i, 300, i));  // the runtime checks the copies
  EXPECT_EQ(executor->check_residency().size(), 4u);
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

}  // namespace
}  // namespace orcd::cuda
