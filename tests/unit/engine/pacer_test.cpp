#include "engine/pacer.h"

#include <gtest/gtest.h>

namespace orcd::engine {
namespace {

TEST(StepPacer, SettlesWhereAStepTakesTheTarget) {
  StepPacer pacer(4, 512, 0.05);
  for (int i = 0; i < 20; ++i) {
    const double seconds = 0.0005 * pacer.budget();  // 100 tokens in 50 ms
    if (i > 3) {
      EXPECT_LT(seconds, 0.055);
    }
    pacer.measured(pacer.budget(), seconds);
  }
  EXPECT_GE(pacer.budget(), 88u);
  EXPECT_LE(pacer.budget(), 104u);
}

TEST(StepPacer, GrowsToTheLimitOnAFastDevice) {
  StepPacer pacer(4, 512, 0.05);
  for (int i = 0; i < 5; ++i) pacer.measured(pacer.budget(), 0.001);
  EXPECT_EQ(pacer.budget(), 512u);
}

TEST(StepPacer, NeverHoldsDecodingBack) {
  StepPacer pacer(8, 512, 0.05);
  for (int i = 0; i < 5; ++i) pacer.measured(pacer.budget(), 10.0);
  EXPECT_EQ(pacer.budget(), 8u);
  StepPacer small(8, 2, 0.05);
  EXPECT_EQ(small.budget(), 2u);
}

TEST(StepPacer, StepsThatWereNotFullSayNothingAboutLargerOnes) {
  StepPacer pacer(4, 512, 0.05);
  const uint32_t before = pacer.budget();
  pacer.measured(1, 0.001);
  EXPECT_EQ(pacer.budget(), before);
}

}  // namespace
}  // namespace orcd::engine
