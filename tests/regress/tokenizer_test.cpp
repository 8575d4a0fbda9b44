// Files and texts that once ended in something else than ids or one error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tokenizer/tokenizer.h"

namespace orcd::tokenizer {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& json) {
  try {
    Tokenizer::from_hf_json(json);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
    return error.line();
  }
  return "accepted";
}

// Another exception than the parser's usual one came through. Found by fuzz_hf_json.
TEST(TokenizerRegression, ANumberOutOfRangeIsOneError) {
  EXPECT_THAT(refusal("[9e399999999"), HasSubstr("tokenizer.json cannot be read"));
  EXPECT_THAT(refusal(R"({"model": {"vocab": {"a": 1e999}}})"), HasSubstr("tokenizer.json cannot be read"));
}

// Each level of a Sequence took a stack frame. Found by reading.
TEST(TokenizerRegression, NestedSequencesDoNotEndTheStack) {
  std::string json = R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "normalizer": )";
  constexpr int kLevels = 100'000;
  for (int i = 0; i < kLevels; ++i) json += R"({"type": "Sequence", "normalizers": [)";
  json += R"({"type": "NFC"})";
  for (int i = 0; i < kLevels; ++i) json += "]}";
  EXPECT_THAT(refusal(json + "}"), HasSubstr("nest too deeply"));
}

}  // namespace
}  // namespace orcd::tokenizer
