// Which GPUs a build serves, and what is said to the others. No GPU is needed.
#include "device/cuda/architecture.h"

#include <gtest/gtest.h>

namespace orcd::cuda {
namespace {

TEST(Architecture, CodeRunsOnTheSameMajorAndALaterMinor) {
  EXPECT_TRUE(has_code_for("80", 8, 0));
  EXPECT_TRUE(has_code_for("80", 8, 9));
  EXPECT_FALSE(has_code_for("86", 8, 0));
  EXPECT_FALSE(has_code_for("80", 9, 0));
  EXPECT_TRUE(has_code_for("80,86,89,90a,100,120", 12, 1));
  EXPECT_FALSE(has_code_for("80,86,89,90a,100,120", 11, 0));
}

TEST(Architecture, SpecificCodeRunsOnItsOwnDeviceAlone) {
  EXPECT_TRUE(has_code_for("90a", 9, 0));
  EXPECT_FALSE(has_code_for("100a", 10, 3));
  EXPECT_TRUE(has_code_for("100a,100", 10, 3));
}

TEST(Architecture, RefusalsGiveTheReason) {
  EXPECT_FALSE(refusal(false, 9, 0, "80,90a", 232448).has_value());
  EXPECT_NE(refusal(true, 8, 7, "80", 166912)->message.find("integrated"), std::string::npos);
  EXPECT_NE(refusal(false, 7, 5, "80", 65536)->message.find("7.5"), std::string::npos);
  EXPECT_NE(refusal(false, 8, 9, "80", 101376)->message.find("101376 bytes of shared memory"),
            std::string::npos);
  const auto no_code = refusal(false, 8, 6, "90a", 101376);
  EXPECT_NE(no_code->message.find("8.6, only for 90a"), std::string::npos);
  EXPECT_NE(no_code->hint.find("=86"), std::string::npos);
}

}  // namespace
}  // namespace orcd::cuda
