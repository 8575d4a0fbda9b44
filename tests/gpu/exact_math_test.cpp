// Quotients, roots and exponentials without branches: the bits of those that they stand for, for all operands
// that they are used for.
#include "gpu/exact_math.h"

#include <gtest/gtest.h>

namespace orcd::test {
namespace {

TEST(ExactMath, ScalesOfCodesForEveryMaximum) { EXPECT_EQ(different_code_scales(0), 0u); }

TEST(ExactMath, InverseRootsOfEveryMean) { EXPECT_EQ(different_inverse_roots(0), 0u); }

TEST(ExactMath, ExponentialsOfAllThatIsNotPositive) { EXPECT_EQ(different_exponentials(0), 0u); }

TEST(ExactMath, ReciprocalsOfAllThatIsNotNegative) { EXPECT_EQ(different_reciprocals(0), 0u); }

TEST(ExactMath, HalvesOfEveryFloat) { EXPECT_EQ(different_halves(0), 0u); }

TEST(ExactMath, MeansOfRowsOfAnyWidth) {
  for (uint32_t n = 32; n <= 4096; n += 32) EXPECT_EQ(different_quotients(0, n), 0u) << n;
}

}  // namespace
}  // namespace orcd::test
