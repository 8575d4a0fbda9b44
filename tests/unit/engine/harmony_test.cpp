#include "engine/harmony.h"

#include <gtest/gtest.h>

#include "support/core_harness.h"
#include "support/fake_tokenizer.h"

namespace orcd::engine {
namespace {

const std::vector<std::string> kPieces{
    "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>", "<|constrain|>",
    "<|other|>", "assistant",   "analysis",    "final",   "commentary", "diary",    " to=functions",
    ".f",        "json",        " ",           "Hel",     "lo",         "{}",       "\xC3",
    "\xA9"};

struct Said {
  std::string text;
  TextKind kind;
  std::string recipient = {};
  bool operator==(const Said&) const = default;
};
void PrintTo(const Said& said, std::ostream* out) {
  *out << '"' << said.text << "\" kind " << static_cast<int>(said.kind) << " to " << said.recipient;
}

class Harmony : public testing::Test {
 protected:
  // Pieces with '|' between them, as in "<|start|>/assistant".
  std::vector<int32_t> ids(std::string_view pieces) const {
    std::vector<int32_t> out;
    while (!pieces.empty()) {
      const size_t slash = std::min(pieces.find('/'), pieces.size());
      out.push_back(tokenizer.token_id(pieces.substr(0, slash)));
      EXPECT_GE(out.back(), 0) << pieces;
      pieces.remove_prefix(std::min(slash + 1, pieces.size()));
    }
    return out;
  }
  HarmonyParser parser(std::string_view prompt) const {
    return {tokenizer, *HarmonyTokens::find(tokenizer), ids(prompt)};
  }
  // What a turn says, neighbours of one message joined.
  std::vector<Said> said(std::string_view prompt, std::span<const int32_t> turn) const {
    HarmonyParser reader = parser(prompt);
    std::vector<Said> all;
    bool joins = false;
    const auto add = [&](const std::string& text) {
      const Said next{text, reader.header().kind(), reader.header().recipient};
      if (!text.empty() && joins) all.back().text += text;
      if (!text.empty() && !joins) all.push_back(next);
      joins = reader.in_message() && (joins || !text.empty());
    };
    for (const int32_t id : turn) add(reader.push(id));
    add(reader.finish());
    return all;
  }
  std::vector<Said> said(std::string_view prompt, std::string_view turn) const {
    return said(prompt, ids(turn));
  }

  test::FakeTokenizer tokenizer{100, kPieces, 4};
};

constexpr auto kAnswer = TextKind::kAnswer;
constexpr auto kReasoning = TextKind::kReasoning;
constexpr auto kCommentary = TextKind::kCommentary;
using All = std::vector<Said>;

TEST_F(Harmony, ATurnIsSplitIntoItsMessages) {
  EXPECT_EQ(said("<|start|>/assistant",
                 "<|channel|>/analysis/<|message|>/Hel/lo/<|end|>/<|start|>/assistant/<|channel|>/final/"
                 "<|message|>/lo/"
                 "<|return|>"),
            (All{{"Hello", kReasoning}, {"lo", kAnswer}}));
}

TEST_F(Harmony, ThePromptMayEndAnywhere) {
  EXPECT_EQ(said("<|start|>/assistant/<|channel|>", "analysis/<|message|>/lo"), (All{{"lo", kReasoning}}));
  EXPECT_EQ(said("<|start|>/assistant/<|channel|>/analysis/<|message|>", "lo"), (All{{"lo", kReasoning}}));
  EXPECT_EQ(said("<|start|>/assistant/<|channel|>/final/<|message|>/Hel", "lo"), (All{{"lo", kAnswer}}));
  EXPECT_EQ(said("<|start|>/assistant/<|message|>/Hel/<|end|>", "<|start|>/assistant/<|message|>/lo"),
            (All{{"lo", kAnswer}}));
  EXPECT_EQ(said("", "Hel/lo"), (All{{"Hello", kAnswer}}));
}

TEST_F(Harmony, ToolCallsAreCommentaryWithTheirRecipient) {
  const All call{{"{}", kCommentary, "functions.f"}};
  EXPECT_EQ(said("<|start|>/assistant",
                 "<|channel|>/commentary/ to=functions/.f/ /<|constrain|>/json/<|message|>/{}/<|call|>"),
            call);
  EXPECT_EQ(
      said("<|start|>/assistant", " to=functions/.f/<|channel|>/commentary/ /json/<|message|>/{}/<|call|>"),
      call);
  EXPECT_EQ(said("<|start|>/assistant", "<|channel|>/analysis/ to=functions/.f/<|message|>/{}/<|call|>"),
            call);
  HarmonyParser reader =
      parser("<|start|>/assistant/<|channel|>/commentary/ to=functions/.f/ /json/<|message|>");
  EXPECT_EQ(reader.header().role, "assistant");
  EXPECT_EQ(reader.header().channel, "commentary");
  EXPECT_EQ(reader.header().content_type, "json");
}

TEST_F(Harmony, OtherChannelsAreCommentary) {
  EXPECT_EQ(said("<|start|>/assistant", "<|channel|>/commentary/<|message|>/lo/<|end|>"),
            (All{{"lo", kCommentary}}));
  EXPECT_EQ(said("<|start|>/assistant", "<|channel|>/diary/<|message|>/lo/<|end|>"),
            (All{{"lo", kCommentary}}));
}

TEST_F(Harmony, AMessageWithoutAChannelIsTheAnswer) {
  EXPECT_EQ(said("<|start|>/assistant", "<|message|>/lo/<|return|>"), (All{{"lo", kAnswer}}));
}

TEST_F(Harmony, AMissingEndOrStartIsForgiven) {
  EXPECT_EQ(
      said("<|start|>/assistant", "<|channel|>/analysis/<|message|>/Hel/<|channel|>/final/<|message|>/lo"),
      (All{{"Hel", kReasoning}, {"lo", kAnswer}}));
  EXPECT_EQ(said("<|start|>/assistant",
                 "<|channel|>/analysis/<|message|>/Hel/<|end|>/assistant/<|channel|>/final/<|message|>/lo"),
            (All{{"Hel", kReasoning}, {"lo", kAnswer}}));
  EXPECT_EQ(
      said("<|start|>/assistant", "<|channel|>/analysis/<|message|>/Hel/<|start|>/assistant/<|message|>/lo"),
      (All{{"Hel", kReasoning}, {"lo", kAnswer}}));
}

TEST_F(Harmony, OtherSpecialTokensInAMessageHaveNoText) {
  EXPECT_EQ(said("<|start|>/assistant", "<|message|>/Hel/<|other|>/<|constrain|>/lo"),
            (All{{"Hello", kAnswer}}));
}

TEST_F(Harmony, CharactersAreWholeAndEndWithTheirMessage) {
  EXPECT_EQ(said("<|start|>/assistant", "<|message|>/\xC3/\xA9"), (All{{"é", kAnswer}}));
  EXPECT_EQ(said("<|start|>/assistant", "<|message|>/lo/\xC3"), (All{{"lo\uFFFD", kAnswer}}));
  EXPECT_EQ(
      said("<|start|>/assistant", "<|channel|>/analysis/<|message|>/\xC3/<|end|>/<|start|>/<|message|>/\xA9"),
      (All{{"\uFFFD", kReasoning}, {"\uFFFD", kAnswer}}));
}

// Wherever a stream stops, what was said until then is said, and nothing else.
TEST_F(Harmony, ATurnCutAnywhereSaysItsBeginning) {
  const std::vector<int32_t> turn =
      ids("<|channel|>/analysis/<|message|>/Hel/lo/<|end|>/<|start|>/assistant/<|channel|>/commentary/ "
          "to=functions/.f/ /"
          "<|constrain|>/json/<|message|>/{}/<|end|>/<|start|>/assistant/<|channel|>/final/<|message|>/lo/"
          "Hel/<|return|>");
  const All whole = said("<|start|>/assistant", turn);
  ASSERT_EQ(whole, (All{{"Hello", kReasoning}, {"{}", kCommentary, "functions.f"}, {"loHel", kAnswer}}));
  for (size_t n = 0; n <= turn.size(); ++n) {
    const All part = said("<|start|>/assistant", std::span(turn).first(n));
    ASSERT_LE(part.size(), whole.size());
    for (size_t i = 0; i < part.size(); ++i) {
      EXPECT_EQ(part[i].kind, whole[i].kind) << n;
      EXPECT_TRUE(whole[i].text.starts_with(part[i].text)) << n;
      EXPECT_TRUE(i + 1 == part.size() || part[i] == whole[i]) << n;
    }
  }
}

TEST(HarmonyVocabulary, IsFoundByItsTokensAlone) {
  const auto found = HarmonyTokens::find(test::FakeTokenizer(100, kPieces));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->start, 0);
  EXPECT_EQ(found->call, 5);
  for (size_t i = 0; i < 6; ++i) {
    std::vector<std::string> pieces = kPieces;
    pieces[i] = "text";
    EXPECT_FALSE(HarmonyTokens::find(test::FakeTokenizer(100, pieces))) << kPieces[i];
  }
  std::vector<std::string> pieces = kPieces;
  pieces[6] = "text";
  EXPECT_EQ(HarmonyTokens::find(test::FakeTokenizer(100, pieces))->constrain, -1);
}

// The engine hands each token's text on with its kind, and looks for stop strings in the answer alone.
TEST(HarmonyInTheEngine, EventsCarryTheKindAndStopsAreThoseOfTheAnswer) {
  test::FakeOptions options;
  options.n_vocab = 25;  // 3 to 24: often a mark
  options.end_id = 5;
  int n_reasoning = 0, n_answer = 0, n_stopped = 0;
  for (uint32_t i = 0; i < 200; ++i) {
    test::CoreHarness h(options, kPieces);
    Request request = h.request({0, 8, 1, i % 2 ? 9 : 10, 2, static_cast<int32_t>(8 + i % 14)}, 30);
    request.split_channels = true;
    request.stop = {"lo"};
    test::Reader reader = h.add(request);
    HarmonyParser parser(h.tokenizer, *HarmonyTokens::find(h.tokenizer), request.prompt_tokens);
    h.run();
    StopMatcher stops(request.stop);
    std::string answer, seen;
    while (const auto event = reader.job->channel->try_pop()) {
      if (const auto* token = std::get_if<TokenEvent>(&*event)) {
        const std::string text = parser.push(token->id);
        EXPECT_EQ(token->kind, parser.header().kind());
        n_reasoning += token->kind == TextKind::kReasoning && !text.empty();
        if (token->kind != TextKind::kAnswer) {
          EXPECT_EQ(token->text, text);
          continue;
        }
        n_answer += !text.empty();
        seen += token->text;
        answer += text;
      } else if (const auto* end = std::get_if<EndEvent>(&*event)) {
        if (end->tail_kind == TextKind::kAnswer) seen += end->tail;
        if (end->tail_kind == TextKind::kAnswer) answer += parser.finish();
        const bool stopped = end->reason == StopReason::kStopString;
        n_stopped += stopped;
        EXPECT_EQ(stopped, answer.find("lo") != answer.npos);
      }
    }
    EXPECT_EQ(seen, answer.substr(0, answer.find("lo")));
  }
  EXPECT_GT(n_reasoning, 20);
  EXPECT_GT(n_answer, 20);
  EXPECT_GT(n_stopped, 5);
}

}  // namespace
}  // namespace orcd::engine
