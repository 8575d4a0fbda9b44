#include "tokenizer/conformance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "tokenizer/pre_families.h"
#include "unit/tokenizer/vocabularies.h"

namespace orcd::tokenizer {
namespace {

PreTokenizer pre_tokenizer_of(const PreFamily& family) {
  return PreTokenizer(family.used_patterns(), family.used_byte_patterns());
}

class Families : public testing::TestWithParam<PreFamily> {};

TEST_P(Families, CutTheProbesAsTheirReferenceDoes) {
  const PreFamily& family = GetParam();
  const Conformance conformance =
      check_conformance(family.name, pre_tokenizer_of(family), family.normalize_nfc);
  EXPECT_GE(conformance.total, 10u);
  EXPECT_EQ(conformance.passed, conformance.total);
}

// One family's pre-tokenizer never passes for another's, so the probes tell the families apart.
TEST_P(Families, DifferFromEveryOtherInSomeProbe) {
  const PreFamily& family = GetParam();
  const PreTokenizer pre_tokenizer = pre_tokenizer_of(family);
  // bailingmoe's expression is another spelling of grok-2's; llama-bpe and dbrx differ in the merges alone.
  const std::set<std::set<std::string_view>> alike{{"bailingmoe", "grok-2"}, {"llama-bpe", "dbrx"}};
  for (const PreFamily& other : pre_families()) {
    if (other.name == family.name || alike.contains({family.name, other.name})) continue;
    EXPECT_THROW(check_conformance(other.name, pre_tokenizer, family.normalize_nfc), Error) << other.name;
  }
}

TEST_P(Families, TellHowManyProbesPassedAtLoad) {
  const auto tokenizer = test::make_tokenizer(test::small_bpe(std::string(GetParam().name)));
  EXPECT_EQ(tokenizer->conformance().passed, conformance_vectors(GetParam().name).size());
  EXPECT_EQ(tokenizer->conformance().total, tokenizer->conformance().passed);
}

INSTANTIATE_TEST_SUITE_P(All, Families, testing::ValuesIn(pre_families().begin(), pre_families().end()),
                         [](const auto& param_info) {
                           std::string name(param_info.param.name);
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(Conformance, AnErrorNamesThePieceThatDiffers) {
  const PreFamily* smollm = find_pre_family("smollm");
  try {
    check_conformance("gpt-2", pre_tokenizer_of(*smollm), false);
    FAIL() << "digits one by one passed for gpt-2";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
    EXPECT_THAT(error.line(), testing::HasSubstr("family=gpt-2"));
    EXPECT_THAT(error.line(), testing::HasSubstr("piece=1, expected= 42, got= )"));
  }
}

TEST(Conformance, ATextCutIntoFewerPiecesDiffersToo) {
  const PreTokenizer whole(std::span<const std::string_view>{});
  EXPECT_THROW(check_conformance("gpt-2", whole, false), Error);
}

TEST(Conformance, SentencePieceHasNothingToProbe) {
  const auto tokenizer = test::make_tokenizer(test::small_spm({"a"}, true));
  EXPECT_EQ(tokenizer->conformance().total, 0u);
}

TEST(Conformance, NamesAndAliasesAreUnique) {
  std::set<std::string_view> names;
  for (const PreFamily& family : pre_families()) {
    EXPECT_TRUE(names.insert(family.name).second) << family.name;
    for (const std::string_view alias : family.aliases)
      EXPECT_TRUE(alias.empty() || names.insert(alias).second) << alias;
  }
  EXPECT_GE(names.size(), 45u);
}

}  // namespace
}  // namespace orcd::tokenizer
