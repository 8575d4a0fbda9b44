#include "memory/plan.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/error.h"
#include "memory/ledger.h"

namespace orcd::memory {
namespace {

TEST(Plan, ItemsAreAlignedAndFollowEachOtherInTheirArena) {
  Plan plan;
  EXPECT_EQ(plan.add("a", Category::kWeights, 1), 0u);
  EXPECT_EQ(plan.add("kv", Category::kKv, 512), 1u);
  EXPECT_EQ(plan.add("b", Category::kWeights, 257), 2u);
  EXPECT_EQ(plan.add("empty", Category::kWeights, 0), 3u);
  EXPECT_EQ(plan.add("c", Category::kWeights, 256), 4u);
  const std::vector<uint64_t> offsets = {0, 0, 256, 768, 768};
  for (size_t i = 0; i < offsets.size(); ++i) EXPECT_EQ(plan.items()[i].offset, offsets[i]) << i;
  EXPECT_EQ(plan.items()[2].bytes, 257u);
  EXPECT_EQ(plan.items()[2].name, "b");
  EXPECT_EQ(plan.arena_bytes(Category::kWeights), 1024u);
  EXPECT_EQ(plan.arena_bytes(Category::kKv), 512u);
  EXPECT_EQ(plan.arena_bytes(Category::kGraphs), 0u);
  EXPECT_EQ(plan.total_bytes(), 1536u);
}

TEST(Plan, OverflowIsRefusedAndChangesNothing) {
  Plan plan;
  plan.add("most", Category::kWeights, (uint64_t{1} << 63) + 7);
  for (const uint64_t bytes : {uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0} - 255}) {
    for (const Category category : {Category::kWeights, Category::kKv}) {
      try {
        plan.add("too much", category, bytes);
        FAIL() << bytes;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kInsufficientVram);
        EXPECT_NE(error.line().find("too much"), std::string::npos);
      }
    }
  }
  EXPECT_EQ(plan.items().size(), 1u);
  EXPECT_EQ(plan.total_bytes(), (uint64_t{1} << 63) + 256);
}

TEST(Plan, CategoriesHaveTheNamesOfTheContract) {
  EXPECT_EQ(category_name(Category::kWeights), "weights");
  EXPECT_EQ(category_name(Category::kKv), "kv");
  EXPECT_EQ(category_name(Category::kActivations), "activations");
  EXPECT_EQ(category_name(Category::kSampling), "sampling");
  EXPECT_EQ(category_name(Category::kStaging), "staging");
  EXPECT_EQ(category_name(Category::kGraphs), "graphs");
}

TEST(Ledger, CountsByCategoryAndForgetsNothing) {
  Ledger ledger;
  ledger.allocated(Category::kWeights, 1000);
  ledger.allocated(Category::kKv, 24);
  ledger.allocated(Category::kWeights, 1);
  EXPECT_EQ(ledger.bytes(Category::kWeights), 1001u);
  EXPECT_EQ(ledger.total_bytes(), 1025u);
  ledger.freed(Category::kWeights, 1000);
  EXPECT_EQ(ledger.bytes(Category::kWeights), 1u);
  EXPECT_EQ(ledger.total_bytes(), 25u);
  EXPECT_EQ(ledger.n_allocations(), 3u);
}

TEST(Ledger, FreeingMoreThanIsHeldIsAnErrorAndChangesNothing) {
  Ledger ledger;
  ledger.allocated(Category::kKv, 10);
  EXPECT_THROW(ledger.freed(Category::kKv, 11), Error);
  EXPECT_THROW(ledger.freed(Category::kWeights, 1), Error);
  EXPECT_EQ(ledger.total_bytes(), 10u);
}

TEST(Plan, PinnedHostMemoryStandsBesideTheArenas) {
  Plan plan;
  plan.add("x", Category::kKv, 10);
  plan.add_host("host.step", 100);
  plan.add_host("host.load", 1000, true);
  EXPECT_EQ(plan.total_bytes(), 256u);
  EXPECT_EQ(plan.host_bytes(), 100u);
  EXPECT_EQ(plan.host_peak_bytes(), 1100u);
  Ledger ledger;
  ledger.host_allocated(1100);
  ledger.host_freed(1000);
  EXPECT_EQ(ledger.host_bytes(), plan.host_bytes());
  EXPECT_EQ(ledger.total_bytes(), 0u);
  EXPECT_THROW(ledger.host_freed(101), Error);
}

TEST(Ledger, ThreadsLoseNoCount) {
  Ledger ledger;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&ledger] {
      for (uint64_t i = 0; i < 2000; ++i) {
        ledger.allocated(Category::kStaging, i + 1);
        ledger.freed(Category::kStaging, i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ledger.bytes(Category::kStaging), 8000u);
  EXPECT_EQ(ledger.n_allocations(), 8000u);
}

TEST(Ledger, TheProcessKnowsWhatEveryLedgerHolds) {
  const uint64_t bytes = Ledger::process_bytes(), host_bytes = Ledger::process_host_bytes();
  Ledger kept;
  kept.allocated(Category::kKv, 100);
  {
    Ledger forgotten;
    forgotten.allocated(Category::kWeights, 50);
    forgotten.host_allocated(7);
  }
  EXPECT_EQ(Ledger::process_bytes(), bytes + 150);
  EXPECT_EQ(Ledger::process_host_bytes(), host_bytes + 7);
  kept.freed(Category::kKv, 100);
  EXPECT_THROW(kept.freed(Category::kKv, 1), Error);
  EXPECT_EQ(Ledger::process_bytes(), bytes + 50);
}

}  // namespace
}  // namespace orcd::memory
