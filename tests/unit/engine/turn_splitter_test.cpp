#include "engine/turn_splitter.h"

#include <gtest/gtest.h>

namespace orcd::engine {
namespace {

using Kind = TurnPart::Kind;
using Parts = std::vector<TurnPart>;
using Options = TurnSplitter::Options;

// Neighbours of one kind joined.
Parts joined(const Parts& parts) {
  Parts out;
  for (const TurnPart& part : parts) {
    EXPECT_TRUE(!part.text.empty() || part.kind == Kind::kCall) << "an empty part";
    if (!out.empty() && out.back().kind == part.kind && part.kind != Kind::kCall)
      out.back().text += part.text;
    else
      out.push_back(part);
  }
  return out;
}

Parts read(Options options, const std::vector<std::string>& pieces) {
  TurnSplitter splitter(options);
  Parts parts;
  for (const std::string& piece : pieces) splitter.push(piece, &parts);
  splitter.finish(&parts);
  return joined(parts);
}

// The parts of `text`, which must be the same however it is cut.
Parts split(Options options, const std::string& text) {
  const Parts whole = read(options, {text});
  std::vector<std::string> bytes;
  for (const char c : text) bytes.emplace_back(1, c);
  EXPECT_EQ(read(options, bytes), whole) << "byte by byte: " << text;
  for (size_t i = 0; i <= text.size(); ++i) {
    for (size_t j = i; j <= text.size(); ++j) {
      const Parts cut = read(options, {text.substr(0, i), text.substr(i, j - i), text.substr(j)});
      EXPECT_EQ(cut, whole) << "cut at " << i << " and " << j << ": " << text;
      if (cut != whole) return cut;
    }
  }
  return whole;
}

constexpr Options kThinks{.thinks = true}, kCalls{.calls = true}, kBoth{.thinks = true, .calls = true};

TEST(TurnSplitter, AnAnswerIsLeftAsItIs) {
  for (const char* text :
       {"", "a", "  a b\n", "x <think>y</think>", "a < b <tool_cal", "<", "</think>", "\n\n"}) {
    const Parts expected = *text ? Parts{{Kind::kContent, text}} : Parts{};
    EXPECT_EQ(split({}, text), expected);
    EXPECT_EQ(split(kBoth, text), expected) << text;
  }
}

TEST(TurnSplitter, MarksAreTextWhereTheModelHasNoUseForThem) {
  for (const char* text : {"<think>a</think>b", "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>"})
    EXPECT_EQ(split({}, text), (Parts{{Kind::kContent, text}}));
}

TEST(TurnSplitter, AThoughtAtTheBeginningIsReasoning) {
  EXPECT_EQ(split(kThinks, "<think>\nHm, 2 < 3.\n\nSo?\n</think>\n\nYes. \n"),
            (Parts{{Kind::kReasoning, "Hm, 2 < 3.\n\nSo?"}, {Kind::kContent, "Yes. \n"}}));
  EXPECT_EQ(split(kThinks, "\n <think>é</think>ö"), (Parts{{Kind::kReasoning, "é"}, {Kind::kContent, "ö"}}));
  EXPECT_EQ(split(kThinks, "<think>\n\n</think>\n\nYes"), (Parts{{Kind::kContent, "Yes"}}));
  EXPECT_EQ(split(kThinks, "<think>a</think>  "), (Parts{{Kind::kReasoning, "a"}}));
  EXPECT_EQ(split(kThinks, "<think>a</think>b</think>c"),
            (Parts{{Kind::kReasoning, "a"}, {Kind::kContent, "b</think>c"}}));
}

TEST(TurnSplitter, AThoughtThatDoesNotEndIsReasoningToTheEnd) {
  EXPECT_EQ(split(kThinks, "<think>a </thin"), (Parts{{Kind::kReasoning, "a </thin"}}));
  EXPECT_EQ(split(kThinks, "<think>"), Parts{});
  EXPECT_EQ(split(kThinks, "<thin"), (Parts{{Kind::kContent, "<thin"}}));
}

TEST(TurnSplitter, ThePromptMayHaveOpenedTheThought) {
  const Options opened{.thinks = true, .in_thought = true};
  EXPECT_EQ(split(opened, "\na\n</think>\nb"), (Parts{{Kind::kReasoning, "a"}, {Kind::kContent, "b"}}));
  EXPECT_EQ(split(opened, "a"), (Parts{{Kind::kReasoning, "a"}}));
}

TEST(TurnSplitter, ACallHasNameAndArguments) {
  const std::string arguments = R"({"city": "Köln", "days": [1, {"a": null}], "s": "}\"</tool_call>\\"})";
  EXPECT_EQ(split(kCalls, "<tool_call>\n{\"name\": \"get\", \"arguments\": " + arguments + "}\n</tool_call>"),
            (Parts{{Kind::kCall, "get"}, {Kind::kArguments, arguments}}));
}

TEST(TurnSplitter, CallsMayBeMany) {
  EXPECT_EQ(
      split(kBoth,
            "<think>x</think>\nLet me see.\n\n<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call>\n"
            "<tool_call>{\"name\":\"a\",\"arguments\":{\"b\":1}}</tool_call>\ndone"),
      (Parts{{Kind::kReasoning, "x"},
             {Kind::kContent, "Let me see."},
             {Kind::kCall, "a"},
             {Kind::kArguments, "{}"},
             {Kind::kCall, "a"},
             {Kind::kArguments, "{\"b\":1}"},
             {Kind::kContent, "done"}}));
}

struct CallCase {
  const char* body;
  Parts expected;
};
class ToolCalls : public testing::TestWithParam<CallCase> {};

TEST_P(ToolCalls, AreReadAsModelsWriteThem) {
  EXPECT_EQ(split(kCalls, std::string("<tool_call>") + GetParam().body), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, ToolCalls,
    testing::Values(
        CallCase{R"({"arguments":{"a":1},"name":"f"}</tool_call>)",
                 {{Kind::kCall, "f"}, {Kind::kArguments, R"({"a":1})"}}},
        CallCase{R"({"name":"f","parameters":{"a":1}}</tool_call>)",
                 {{Kind::kCall, "f"}, {Kind::kArguments, R"({"a":1})"}}},
        CallCase{R"({"id":[{"name":"x"}],"name":"f","type":null,"arguments":{}}</tool_call>)",
                 {{Kind::kCall, "f"}, {Kind::kArguments, "{}"}}},
        CallCase{R"({"name":"f"}</tool_call>)", {{Kind::kCall, "f"}, {Kind::kArguments, "{}"}}},
        CallCase{R"({"name":"f","arguments":"{\"a\":\"\u00e9\"}"}</tool_call>)",
                 {{Kind::kCall, "f"}, {Kind::kArguments, R"({"a":"é"})"}}},
        CallCase{R"({"name":"\u0066","arguments":7}</tool_call>)",
                 {{Kind::kCall, "f"}, {Kind::kArguments, "7"}}},
        // The last bracket is missing; nothing but the arguments came; the mark's end is missing.
        CallCase{R"({"name":"f","arguments":{"a":1}</tool_call>x)",
                 {{Kind::kCall, "f"}, {Kind::kArguments, R"({"a":1})"}, {Kind::kContent, "x"}}},
        CallCase{R"({"name":"f","arguments":{"a":)", {{Kind::kCall, "f"}, {Kind::kArguments, R"({"a":)"}}},
        CallCase{R"({"name":"f","arguments":{}} </tool_)", {{Kind::kCall, "f"}, {Kind::kArguments, "{}"}}},
        CallCase{R"({"name":"f","arguments":{}}]</</tool_call>x)",
                 {{Kind::kCall, "f"}, {Kind::kArguments, "{}"}, {Kind::kContent, "x"}}}));

TEST(TurnSplitter, WhatIsNoCallStaysText) {
  for (const char* body :
       {"", "f(1)", "{", "{}</tool_call>", R"({"name":"f)", R"({"name":"","arguments":{}}</tool_call>)",
        R"({"name":5}</tool_call>)", R"({"arguments":{"a":1}}</tool_call>)", R"({name:"f"}</tool_call>)",
        R"({"name" "f"})", R"({"name":"f"</tool_call>)", R"([{"name":"f","arguments":{}}])"}) {
    const std::string text = std::string("So: \n<tool_call>") + body;
    EXPECT_EQ(split(kCalls, text), (Parts{{Kind::kContent, text}}));
  }
}

TEST(TurnSplitter, ArgumentsComeAsTheyAreWritten) {
  TurnSplitter splitter(kCalls);
  Parts parts;
  splitter.push(R"(<tool_call>{"name":"f","arguments":{"a)", &parts);
  EXPECT_EQ(parts, (Parts{{Kind::kCall, "f"}, {Kind::kArguments, "{\"a"}}));
  splitter.push("\":1", &parts);
  EXPECT_EQ(joined(parts), (Parts{{Kind::kCall, "f"}, {Kind::kArguments, "{\"a\":1"}}));
}

TEST(TurnSplitter, OnlyWhatMayBecomeAMarkIsHeldBack) {
  TurnSplitter splitter(kBoth);
  Parts parts;
  splitter.push("a <b <tool", &parts);
  EXPECT_EQ(parts, (Parts{{Kind::kContent, "a <b"}}));
  splitter.push("box", &parts);
  EXPECT_EQ(joined(parts), (Parts{{Kind::kContent, "a <b <toolbox"}}));
}

TEST(TurnSplitter, KnowsWhetherItIsInAThought) {
  TurnSplitter splitter(kThinks);
  Parts parts;
  EXPECT_FALSE(splitter.in_thought());
  splitter.push("<think>", &parts);
  EXPECT_TRUE(splitter.in_thought());
  splitter.push("a</think>", &parts);
  EXPECT_FALSE(splitter.in_thought());
}

}  // namespace
}  // namespace orcd::engine
