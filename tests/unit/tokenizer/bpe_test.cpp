#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "tokenizer/bpe_merger.h"
#include "tokenizer/special_matcher.h"
#include "unit/tokenizer/vocabularies.h"

namespace orcd::test {
namespace {

using Ids = std::vector<int32_t>;
using tokenizer::MergeTable;

// The rule itself: while any pair merges, merge the leftmost of the lowest rank.
Ids merge_by_definition(const MergeTable& table, Ids ids) {
  for (;;) {
    size_t best = ids.size();
    uint32_t rank = UINT32_MAX;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto merge = table.find(ids[i], ids[i + 1]);
      if (merge.id >= 0 && merge.rank < rank) {
        best = i;
        rank = merge.rank;
      }
    }
    if (best == ids.size()) return ids;
    ids[best] = table.find(ids[best], ids[best + 1]).id;
    ids.erase(ids.begin() + static_cast<long>(best) + 1);
  }
}

TEST(MergeSymbols, ShortAndLongWordsFollowTheDefinition) {
  std::mt19937 rng(7);
  for (int round = 0; round < 400; ++round) {
    MergeTable table(200);
    int32_t n_tokens = 3;
    for (uint32_t rank = 0; rank < 60; ++rank) {
      const auto left = static_cast<int32_t>(rng() % n_tokens);
      const auto right = static_cast<int32_t>(rng() % n_tokens);
      if (table.find(left, right).id < 0) table.add(left, right, {rank, n_tokens++});
    }
    Ids ids(rng() % 120);
    for (int32_t& id : ids) id = static_cast<int32_t>(rng() % 3);
    const Ids want = merge_by_definition(table, ids);
    ids.resize(merge_symbols(table, ids));
    ASSERT_EQ(ids, want) << round;
  }
}

TEST(SpecialMatcher, TakesTheLeftmostThenTheLongest) {
  tokenizer::SpecialMatcher matcher;
  matcher.add("ab", 1);
  matcher.add("abcd", 2);
  matcher.add("bcde", 3);
  matcher.add("", 4);
  matcher.add("ab", 5);
  const auto expect = [&](std::string_view text, size_t from, size_t offset, size_t n_bytes, int32_t id) {
    const auto match = matcher.find(text, from);
    EXPECT_EQ(match.offset, offset) << text;
    EXPECT_EQ(match.n_bytes, n_bytes) << text;
    EXPECT_EQ(match.id, id) << text;
  };
  expect("xabcde", 0, 1, 4, 2);
  expect("xabce", 0, 1, 2, 1);
  expect("xabcde", 2, 2, 4, 3);
  expect("xyz", 0, 0, 0, -1);
  expect("aabc", 0, 1, 2, 1);
  expect("", 0, 0, 0, -1);
}

TEST(GgufBpe, MergesByRank) {
  const auto t = make_tokenizer(small_bpe("gpt-2", {{"b", "c"}, {"a", "b"}, {"a", "bc"}}));
  EXPECT_EQ(t->encode("abc", kPlain), (Ids{258}));
  EXPECT_EQ(t->encode("ab", kPlain), (Ids{257}));
  EXPECT_EQ(t->encode("", kPlain), Ids{});
  EXPECT_EQ(t->kind(), "gguf-bpe");
  EXPECT_EQ(t->pre(), "gpt-2");
  EXPECT_EQ(t->token_bytes(258, false), "abc");
}

TEST(GgufBpe, OnlyLlamaIgnoresTheMergesOfAWholeWord) {
  // "abc" is a token, but its merges end at "ab" + "c".
  const std::vector<std::pair<std::string, std::string>> merges{{"a", "b"}, {"b", "c"}, {"a", "bc"}};
  EXPECT_EQ(make_tokenizer(small_bpe("gpt-2", merges))->encode("abc", kPlain), (Ids{256, 'c'}));
  EXPECT_EQ(make_tokenizer(small_bpe("llama-bpe", merges))->encode("abc", kPlain), (Ids{258}));
}

TEST(GgufBpe, EveryByteStringComesBackExactly) {
  std::mt19937 rng(3);
  for (const char* pre : {"gpt-2", "smollm", "llama-bpe", "default"}) {
    const auto t = make_tokenizer(small_bpe(pre, {{"a", "b"}, {"\xC3", "\xA9"}, {" ", "a"}}));
    for (int round = 0; round < 500; ++round) {
      std::string text(rng() % 60, '\0');
      for (char& c : text) c = rng() % 4 == 0 ? static_cast<char>(rng()) : "ab \xC3\xA9\n1'["[rng() % 9];
      ASSERT_EQ(decode_bytes(*t, t->encode(text, kPlain), true), text) << pre;
      ASSERT_EQ(decode_bytes(*t, t->encode(text, kSpecial), true), text) << pre;
    }
  }
}

TEST(GgufBpe, QwenNormalizesAndKeepsInvalidBytes) {
  const auto t = make_tokenizer(small_bpe("qwen2"));
  EXPECT_EQ(t->encode("e\u0301", kPlain), (Ids{0xC3, 0xA9}));
  EXPECT_EQ(t->encode("\xFF\xE2", kPlain), (Ids{0xFF, 0xE2}));
}

TEST(GgufBpe, ControlTokensComeFromTextOnlyOnRequest) {
  const auto t = make_tokenizer(small_bpe("gpt-2"));
  const Ids plain = t->encode("a<|bos|>b", kPlain);
  EXPECT_EQ(plain.size(), 9u);
  EXPECT_EQ(t->encode("a<|bos|>b", kSpecial), (Ids{'a', 256, 'b'}));
  EXPECT_EQ(t->encode("[UD][UD][UD]", kPlain), (Ids{259, 258}));
  EXPECT_TRUE(t->is_control(256));
  EXPECT_FALSE(t->is_control(258));
  EXPECT_TRUE(t->is_user_defined(258));
  EXPECT_EQ(t->token_bytes(256, false), "");
  EXPECT_EQ(t->token_bytes(256, true), "<|bos|>");
  EXPECT_EQ(t->token_id("<|im_end|>"), 257);
  EXPECT_EQ(t->token_id("nonesuch"), -1);
}

TEST(GgufBpe, BosFollowsTheFileThenTheFamily) {
  const tokenizer::EncodeOptions bos{.add_bos = true};
  EXPECT_EQ(make_tokenizer(small_bpe("gpt-2"))->encode("a", bos), (Ids{'a'}));
  EXPECT_EQ(make_tokenizer(small_bpe("llama-bpe"))->encode("a", bos), (Ids{256, 'a'}));
  auto file = small_bpe("llama-bpe");
  EXPECT_EQ(make_tokenizer(file.add("tokenizer.ggml.add_bos_token", false))->encode("a", bos), (Ids{'a'}));
  auto other = small_bpe("gpt-2");
  EXPECT_EQ(make_tokenizer(other.add("tokenizer.ggml.add_bos_token", true))->encode("", bos), (Ids{256}));
}

TEST(GgufBpe, EndIdsHoldEosAndTheTurnEnds) {
  auto file = small_bpe("gpt-2");
  file.add("tokenizer.ggml.eos_token_id", uint32_t{256}).add("tokenizer.ggml.eot_token_id", uint32_t{'x'});
  const auto t = make_tokenizer(file);
  EXPECT_EQ(Ids(t->end_ids().begin(), t->end_ids().end()), (Ids{'x', 256, 257}));
  EXPECT_EQ(t->eos_id(), 256);
}

TEST(GgufBpe, BytesWithoutATokenAreDroppedNotReplaced) {
  GgufWriter w = small_bpe("gpt-2");
  w.add("tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "a", "b", "ab"});
  w.add("tokenizer.ggml.token_type", std::vector<int32_t>{3, 1, 1, 1});
  w.add("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  w.add("tokenizer.ggml.bos_token_id", uint32_t{0}).add("tokenizer.ggml.eos_token_id", uint32_t{0});
  w.add("tokenizer.ggml.unknown_token_id", uint32_t{0});
  EXPECT_EQ(make_tokenizer(w)->encode("acb", kPlain), (Ids{3}));  // the rest merges over the gap
  EXPECT_EQ(make_tokenizer(w)->encode("a\xF1"
                                      "b",
                                      kPlain),
            (Ids{1, 2}));
}

TEST(GgufBpe, MergesMaySpellUserDefinedTokensAsBytes) {
  GgufWriter w = small_bpe("gpt-2");
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(spell(std::string(1, static_cast<char>(byte))));
  tokens.insert(tokens.end(), {"  ", spell("   ")});
  std::vector<int32_t> types(256, 1);
  types.insert(types.end(), {4, 1});
  w.add("tokenizer.ggml.tokens", tokens).add("tokenizer.ggml.token_type", types);
  w.add("tokenizer.ggml.merges",
        std::vector<std::string>{spell(" ") + " " + spell(" "), spell("  ") + " " + spell(" ")});
  w.remove("tokenizer.ggml.bos_token_id").remove("tokenizer.ggml.eos_token_id");
  EXPECT_EQ(make_tokenizer(w)->encode("a  ", kPlain), (Ids{'a', 256}));
}

std::string refusal(const GgufWriter& writer) {
  try {
    make_tokenizer(writer);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
    return error.line();
  }
  return "taken";
}

TEST(GgufBpe, BadFilesAreRefusedByField) {
  using testing::TestWithParam;
  const auto base = [] { return small_bpe("gpt-2", {{"a", "b"}}); };
  const auto expect = [](const GgufWriter& writer, std::initializer_list<std::string_view> words) {
    const std::string line = refusal(writer);
    for (const std::string_view word : words) EXPECT_NE(line.find(word), std::string::npos) << line;
  };
  expect(base().add("tokenizer.ggml.pre", "martian"), {"martian", "tokenizer.ggml.pre", "qwen2"});
  expect(base().remove("tokenizer.ggml.pre"), {"tokenizer.ggml.pre"});
  expect(base().add("tokenizer.ggml.model", "wordy"), {"wordy", "tokenizer.ggml.model"});
  expect(base().remove("tokenizer.ggml.model"), {"tokenizer.ggml.model"});
  expect(base().remove("tokenizer.ggml.tokens"), {"tokenizer.ggml.tokens"});
  expect(base().remove("tokenizer.ggml.merges"), {"tokenizer.ggml.merges"});
  expect(base().add("tokenizer.ggml.merges", std::vector<std::string>{"a b", "ab"}),
         {"tokenizer.ggml.merges[1]"});
  expect(base().add("tokenizer.ggml.merges", std::vector<std::string>{" b"}), {"tokenizer.ggml.merges[0]"});
  expect(base().add("tokenizer.ggml.merges", std::vector<std::string>{"a b c"}),
         {"tokenizer.ggml.merges[0]"});
  expect(base().add("tokenizer.ggml.merges", std::vector<std::string>{"b a"}), {"tokenizer.ggml.merges[0]"});
  expect(base().add("tokenizer.ggml.bos_token_id", uint32_t{999999}),
         {"tokenizer.ggml.bos_token_id", "999999"});
  expect(base().add("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1}), {"tokenizer.ggml.token_type"});
  expect(base().add("tokenizer.ggml.token_type", std::vector<int32_t>(261, 9)),
         {"tokenizer.ggml.token_type[0]", "9"});
  expect(base().add("tokenizer.ggml.tokens", std::vector<int32_t>{1, 2}), {"tokenizer.ggml.tokens"});
}

TEST(Tokenizer, IdsOutsideTheVocabularyAreNoText) {
  const auto t = make_tokenizer(small_bpe("gpt-2"));
  for (const int32_t id : {-1, 260, INT32_MAX}) {
    EXPECT_FALSE(t->is_control(id));
    EXPECT_FALSE(t->is_user_defined(id));
    EXPECT_EQ(t->token_bytes(id, false), "");
    EXPECT_EQ(t->token_bytes(id, true), "");
    EXPECT_EQ(t->token_text(id), "");
  }
  EXPECT_EQ(decode_bytes(*t, std::vector<int32_t>{-1, 68, 260, 69}, false), "DE");
}

// A quadratic step would take hours on these.
TEST(Tokenizer, AMegabyteOfAnythingIsTokenizedAndComesBack) {
  constexpr size_t kBytes = 1 << 20;
  std::mt19937 rng(5);
  std::vector<std::string> texts{std::string(kBytes, 'a'),    std::string(kBytes, ' '),
                                 std::string(kBytes, '\n'),   std::string(kBytes, ' ') + "\n",
                                 std::string(kBytes, '\x80'), std::string(kBytes, '[')};
  texts.emplace_back(kBytes, '\0');
  for (char& c : texts.back()) c = static_cast<char>('a' + rng() % 26);
  const std::vector<std::pair<std::string, std::string>> merges{
      {"a", "a"}, {" ", " "}, {"aa", "aa"}, {"aaaa", "aaaa"}, {"\n", "\n"}, {"[", "U"}, {"  ", "  "}};
  for (const char* pre : {"gpt-2", "qwen2"}) {
    const auto t = make_tokenizer(small_bpe(pre, merges));
    for (const std::string& text : texts) {
      ASSERT_TRUE(decode_bytes(*t, t->encode(text, kSpecial), true) == text)
          << pre << " " << text.substr(0, 4);
    }
  }
  const auto spm = make_tokenizer(small_spm({"aa", "a", "\u2581\u2581", "\u2581"}, true));
  for (const std::string& text : texts) {
    ASSERT_TRUE(decode_bytes(*spm, spm->encode(text, kSpecial), true) == text) << "spm " << text.substr(0, 4);
  }
}

}  // namespace
}  // namespace orcd::test
