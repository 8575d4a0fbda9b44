#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "base/error.h"
#include "unit/tokenizer/vocabularies.h"

namespace orcd::test {
namespace {

using Ids = std::vector<int32_t>;
constexpr int32_t kByte = 3;     // id of <0x00>
constexpr int32_t kPiece = 259;  // id of the first piece

TEST(GgufSpm, MergesTheBestScoreFirst) {
  // "bc" scores better than "ab", so a bc and not ab c.
  const auto t = make_tokenizer(small_spm({"bc", "ab", "a", "b", "c"}, false));
  EXPECT_EQ(t->encode("abc", kPlain), (Ids{kPiece + 2, kPiece}));
  EXPECT_EQ(t->encode("ab", kPlain), (Ids{kPiece + 1}));
  EXPECT_EQ(t->kind(), "gguf-spm");
  EXPECT_EQ(t->pre(), "");
}

TEST(GgufSpm, OfEqualScoresTheLeftmostMergesFirst) {
  auto file = small_spm({"ab", "bc", "a", "b", "c"}, false);
  std::vector<float> scores(kPiece + 7, 0.0f);
  for (int i = 0; i < 5; ++i) scores[kPiece + i] = i < 2 ? -1.0f : -2.0f;
  const auto t = make_tokenizer(file.add("tokenizer.ggml.scores", scores));
  EXPECT_EQ(t->encode("abc", kPlain), (Ids{kPiece, kPiece + 4}));
  const std::vector<double> doubles(scores.begin(), scores.end());
  EXPECT_EQ(make_tokenizer(file.add("tokenizer.ggml.scores", doubles))->encode("abc", kPlain),
            (Ids{kPiece, kPiece + 4}));
}

TEST(GgufSpm, SpacesAreEscapedAndThePrefixIsTheFilesChoice) {
  const std::vector<std::string> pieces{"\u2581a", "\u2581", "a"};
  EXPECT_EQ(make_tokenizer(small_spm(pieces, true))->encode("a a", kPlain), (Ids{kPiece, kPiece}));
  EXPECT_EQ(make_tokenizer(small_spm(pieces, false))->encode("a a", kPlain), (Ids{kPiece + 2, kPiece}));
  EXPECT_EQ(make_tokenizer(small_spm(pieces, true))->encode("", kPlain), Ids{});
  auto silent = small_spm(pieces, false);
  EXPECT_TRUE(make_tokenizer(silent.remove("tokenizer.ggml.add_space_prefix"))->adds_space_prefix());
}

TEST(GgufSpm, UnknownCharactersFallBackToBytes) {
  const auto t = make_tokenizer(small_spm({"a"}, false));
  EXPECT_EQ(t->encode("aé\xFF", kPlain), (Ids{kPiece, kByte + 0xC3, kByte + 0xA9, kByte + 0xFF}));
  EXPECT_EQ(t->token_bytes(kByte + 0xC3, false), "\xC3");
}

TEST(GgufSpm, WithoutItsByteTokenACharacterIsUnknown) {
  GgufWriter w = small_model();  // holds <0x41> alone
  const auto t = make_tokenizer(w.add("tokenizer.ggml.add_space_prefix", false));
  EXPECT_EQ(t->encode("aAz", kPlain), (Ids{4, 3, 0}));
}

TEST(GgufSpm, ControlAndByteTokensAreNeverSpelledByText) {
  const auto t = make_tokenizer(small_spm({"<s", ">", "<", "s", "<0x41", "<0", "x", "4", "1", "0"}, false));
  for (const int32_t id : t->encode("<s><unk></s><0x41>", kPlain)) {
    EXPECT_FALSE(t->is_control(id)) << id;
    EXPECT_NE(id, kByte + 0x41);
  }
  EXPECT_EQ(t->encode("<s>", kSpecial), (Ids{1}));
  EXPECT_EQ(t->encode("</s>", kSpecial), (Ids{2}));
}

TEST(GgufSpm, UserDefinedTokensAreTakenFromTheTextFirst) {
  const auto t = make_tokenizer(small_spm({"\u2581a", "\u2581", "a"}, false));
  EXPECT_EQ(t->encode("a   a\n\n", kPlain), (Ids{kPiece + 2, kPiece + 4, kPiece, kPiece + 3}));
}

TEST(GgufSpm, EveryByteStringComesBackExactly) {
  std::mt19937 rng(11);
  for (const bool prefix : {false, true}) {
    const auto t = make_tokenizer(small_spm({"\u2581a", "ab", "\u2581", "a", "b", "é"}, prefix));
    for (int round = 0; round < 1000; ++round) {
      std::string text(rng() % 40, '\0');
      for (char& c : text) c = rng() % 4 == 0 ? static_cast<char>(rng()) : "ab \xC3\xA9\n<s>"[rng() % 9];
      if (text.find("\u2581") != std::string::npos) continue;
      ASSERT_EQ(decode_bytes(*t, t->encode(text, kPlain), true), text);
      ASSERT_EQ(decode_bytes(*t, t->encode(text, kSpecial), true), text);
    }
    const std::string turns = "<s> a</s>b<s>\n\n ab";
    EXPECT_EQ(decode_bytes(*t, t->encode(turns, kSpecial), true), turns);
    EXPECT_EQ(decode_bytes(*t, t->encode(turns, kSpecial), false), " ab\n\n ab");
  }
}

TEST(GgufSpm, BosIsAddedUnlessTheFileSaysNo) {
  const tokenizer::EncodeOptions bos{.add_bos = true};
  auto file = small_spm({"a"}, false);
  EXPECT_EQ(make_tokenizer(file)->encode("a", bos), (Ids{1, kPiece}));
  EXPECT_EQ(make_tokenizer(file.add("tokenizer.ggml.add_bos_token", false))->encode("a", bos), (Ids{kPiece}));
  EXPECT_EQ(make_tokenizer(file)->eos_id(), 2);
}

TEST(GgufSpm, BadFilesAreRefusedByField) {
  const auto refused = [](const GgufWriter& writer, std::string_view word) {
    try {
      make_tokenizer(writer);
      ADD_FAILURE() << word << ": taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
      EXPECT_NE(error.line().find(word), std::string::npos) << error.line();
    }
  };
  const auto base = [] { return small_spm({"a"}, false); };
  refused(base().remove("tokenizer.ggml.scores"), "tokenizer.ggml.scores");
  refused(base().add("tokenizer.ggml.scores", std::vector<float>{1}), "tokenizer.ggml.scores");
  refused(base().add("tokenizer.ggml.scores", std::vector<int32_t>(kPiece + 3, 1)), "tokenizer.ggml.scores");
  std::vector<float> scores(kPiece + 3, 0.0f);
  scores[7] = std::numeric_limits<float>::quiet_NaN();
  refused(base().add("tokenizer.ggml.scores", scores), "tokenizer.ggml.scores[7]");
  std::vector<int32_t> types(kPiece + 3, 1);
  types[0] = 6;  // "<unk>" is no byte
  refused(base().add("tokenizer.ggml.token_type", types), "tokenizer.ggml.tokens[0]");
}

}  // namespace
}  // namespace orcd::test
