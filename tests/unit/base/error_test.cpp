#include "base/error.h"

#include <gtest/gtest.h>

#include "base/sha256.h"
#include "base/units.h"

namespace orcd {
namespace {

TEST(Error, LineCarriesCodeMessageValuesAndHint) {
  const Error error(ErrorCode::kInsufficientVram, "model does not fit",
                    {{"required", uint64_t{12}}, {"device", "cpu"}}, "lower --ctx");
  EXPECT_EQ(error.line(), "INSUFFICIENT_VRAM: model does not fit (required=12, device=cpu); lower --ctx");
  EXPECT_STREQ(error.what(), error.line().c_str());
}

TEST(Error, CodesKeepTheirWireNamesAndStatuses) {
  EXPECT_EQ(error_code_name(ErrorCode::kInvalidRequest), "INVALID_REQUEST");
  EXPECT_EQ(error_http_status(ErrorCode::kInvalidRequest), 400);
  EXPECT_EQ(error_code_name(ErrorCode::kShuttingDown), "SHUTTING_DOWN");
  EXPECT_EQ(error_http_status(ErrorCode::kShuttingDown), 503);
  EXPECT_EQ(error_http_status(ErrorCode::kCancelled), 499);
  EXPECT_FALSE(error_retriable(ErrorCode::kInvalidRequest));
  EXPECT_TRUE(error_retriable(ErrorCode::kOverloaded));
}

TEST(Sha256, MatchesTheStandardsExamples) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Units, CheckedArithmeticRefusesOverflow) {
  EXPECT_EQ(checked_mul(1u << 31, 4), uint64_t{1} << 33);
  EXPECT_FALSE(checked_mul(uint64_t{1} << 63, 2));
  EXPECT_FALSE(checked_add(~uint64_t{0}, 1));
  EXPECT_EQ(align_up(257, 256), 512u);
}

}  // namespace
}  // namespace orcd
