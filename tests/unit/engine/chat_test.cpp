#include "engine/chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/prompt.h"
#include "jinja/text.h"
#include "unit/tokenizer/vocabularies.h"

namespace orcd::engine {
namespace {

using jinja::Dict;
using jinja::Value;

// Control tokens <|bos|> and <|im_end|>; "[UD]" is always matched.
struct Chatting {
  explicit Chatting(const std::string& source)
      : file(test::parse_owned(test::small_bpe("qwen2").add("tokenizer.chat_template", source))),
        tokenizer(tokenizer::Tokenizer::from_gguf(file)),
        chat(*file, *tokenizer) {}

  GuardedPrompt prompt(Dict variables) const { return chat.prompt(std::move(variables)); }
  // How often a control token stands among the ids; their text must be the prompt's.
  int control_tokens(const GuardedPrompt& prompt) const {
    const std::vector<int32_t> ids = encode_prompt(*tokenizer, prompt.text, prompt.guards);
    EXPECT_EQ(decode_bytes(*tokenizer, ids, /*special=*/true), prompt.text);
    return static_cast<int>(
        std::ranges::count_if(ids, [&](int32_t id) { return tokenizer->is_control(id); }));
  }

  std::shared_ptr<const gguf::File> file;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  Chat chat;
};

Dict message(std::string_view role, const Value& content) {
  Dict message;
  message.set("role", role);
  message.set("content", content);
  return message;
}
Dict conversation(const Value& content, std::string_view role = "user") {
  Dict variables;
  variables.set("messages", Value::list({message(role, content)}));
  return variables;
}

constexpr const char* kTurns =
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content | trim }}<|im_end|>\n{% endfor %}";

TEST(ChatPrompt, ControlTokensThatPeopleWriteAreText) {
  const Chatting chatting(kTurns);
  const GuardedPrompt prompt = chatting.prompt(conversation("  a<|im_end|>b<|bos|> "));
  EXPECT_EQ(prompt.text, "<|bos|>user: a<|im_end|>b<|bos|><|im_end|>\n");
  EXPECT_EQ(prompt.guards, (std::vector<size_t>{15, 26}));
  EXPECT_EQ(chatting.control_tokens(prompt), 2);  // the template's own
}

// Hermes 3 and Command R carry two templates.
TEST(ChatPrompt, ToolsHaveTheirOwnTemplateWhereTheFileHasOne) {
  auto writer = test::small_bpe("qwen2");
  writer.add("tokenizer.chat_templates", std::vector<std::string>{"tool_use"});
  writer.add("tokenizer.chat_template", "plain {{ messages[0].content }}");
  writer.add("tokenizer.chat_template.tool_use", "{{ tools | length }} tools{{ bos_token }}");
  const auto file = test::parse_owned(writer);
  const auto tokenizer = tokenizer::Tokenizer::from_gguf(file);
  const Chat chat(*file, *tokenizer);
  Dict variables = conversation("hello");
  EXPECT_EQ(chat.prompt(variables).text, "plain hello");
  variables.set("tools", Value::list({}));
  EXPECT_EQ(chat.prompt(variables).text, "plain hello");
  variables.set("tools", Value::list({Value("a"), Value("b")}));
  EXPECT_EQ(chat.prompt(variables).text, "2 tools<|bos|>");
}

TEST(ChatPrompt, AToolTemplateThatCannotBeReadLeavesTheOtherOn) {
  auto writer = test::small_bpe("qwen2");
  writer.add("tokenizer.chat_template", "plain").add("tokenizer.chat_template.tool_use", "{% nonesuch %}");
  const auto file = test::parse_owned(writer);
  const auto tokenizer = tokenizer::Tokenizer::from_gguf(file);
  const Chat chat(*file, *tokenizer);
  EXPECT_FALSE(chat.why_off());
  Dict variables = conversation("hello");
  EXPECT_EQ(chat.prompt(variables).text, "plain");
  variables.set("tools", Value::list({Value("a")}));
  try {
    chat.prompt(variables);
    FAIL() << "the other template answered";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
  }
}

TEST(ChatPrompt, TextWithoutControlTokensIsLeftAlone) {
  const Chatting chatting(kTurns);
  const GuardedPrompt prompt = chatting.prompt(conversation("1 < 2, <|im, \uFDD0"));
  EXPECT_EQ(prompt.text, "<|bos|>user: 1 < 2, <|im, \uFDD0<|im_end|>\n");
  EXPECT_TRUE(prompt.guards.empty());
  EXPECT_EQ(chatting.control_tokens(prompt), 2);
}

TEST(ChatPrompt, RolesToolsAndKeysAreTextToo) {
  const Chatting chatting("{{ messages[0].role }}{{ tools | tojson }}{{ extra }}");
  Dict variables = conversation("", "<|bos|>"), tool;
  tool.set("<|im_end|>", Value::list({Value("<|im_end|>"), Value(1)}));
  variables.set("tools", Value::list({tool}));
  variables.set("extra", "<|bos|>");
  const GuardedPrompt prompt = chatting.prompt(variables);
  EXPECT_EQ(prompt.text, R"(<|bos|>[{"<|im_end|>": ["<|im_end|>", 1]}]<|bos|>)");
  EXPECT_EQ(prompt.guards.size(), 4u);
  EXPECT_EQ(chatting.control_tokens(prompt), 0);
}

TEST(ChatPrompt, ControlTokensSpelledAcrossTextsAreText) {
  const Chatting chatting("{% for part in messages[0].content %}{{ part }}{% endfor %}end|>|<|im_end|>");
  const Value parts =
      Value::list({Value("<"), Value("|im_"), Value("end|>"), Value("x<|im_end|"), Value("><|im_")});
  const GuardedPrompt prompt = chatting.prompt(conversation(parts));
  EXPECT_EQ(prompt.text, "<|im_end|>x<|im_end|><|im_end|>|<|im_end|>");
  EXPECT_EQ(chatting.control_tokens(prompt), 1);
}

TEST(ChatPrompt, OverlappingSpellingsAreText) {
  const Chatting chatting(kTurns);
  EXPECT_EQ(chatting.control_tokens(chatting.prompt(conversation("<|im_end<|im_end|>|><|bos|><|im_end|>"))),
            2);
}

TEST(ChatPrompt, AMarkThatTheTextHoldsIsNotUsed) {
  const Chatting chatting("\uFDD1{{ messages[0].content }}");
  const GuardedPrompt prompt = chatting.prompt(conversation("\uFDD0<|bos|>\uFDD2"));
  EXPECT_EQ(prompt.text, "\uFDD1\uFDD0<|bos|>\uFDD2");
  EXPECT_EQ(chatting.control_tokens(prompt), 0);
}

TEST(ChatPrompt, TextThatLeavesNoMarkIsRefused) {
  const Chatting chatting(kTurns);
  std::string text = "<|bos|>";
  for (uint32_t c = 0xFDD0; c <= 0xFDEF; ++c) jinja::append_code_point(c, text);
  try {
    chatting.prompt(conversation(text));
    FAIL() << "a mark was found";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
    EXPECT_THAT(error.message(), testing::HasSubstr("noncharacter"));
  }
}

TEST(ChatPrompt, UserDefinedTokensAreMatchedWhoeverWritesThem) {
  const Chatting chatting(kTurns);
  const GuardedPrompt prompt = chatting.prompt(conversation("[UD]<|im_end|>[UD][UD]"));
  const std::vector<int32_t> ids = encode_prompt(*chatting.tokenizer, prompt.text, prompt.guards);
  const auto count = [&](const char* text) {
    return std::ranges::count(ids, chatting.tokenizer->token_id(text));
  };
  EXPECT_EQ(count("[UD]"), 1);
  EXPECT_EQ(count("[UD][UD]"), 1);
  EXPECT_EQ(chatting.control_tokens(prompt), 2);
}

}  // namespace
}  // namespace orcd::engine
