// The bodies of /v1/chat/completions and /v1/completions.
#include <gtest/gtest.h>

#include "engine/prompt.h"
#include "server/chat_request.h"
#include "server/error_reply.h"
#include "server/text_completion_request.h"
#include "unit/server/small_tokenizer.h"
#include "unit/tokenizer/vocabularies.h"

namespace orcd::server {
namespace {

using test::ByteTokenizer;
using Params = std::vector<std::string>;

constexpr const char* kTemplate =
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ tools | tojson if tools }}"
    "{{ reasoning_effort }}{% if add_generation_prompt %}[assistant]{{ '<think>\\n' if thinking }}{% endif "
    "%}";

struct Chatting {
  explicit Chatting(const std::string& source = kTemplate)
      : file(test::parse_owned(test::small_bpe("gpt-2").add("tokenizer.chat_template", source))),
        chat(*file, tokenizer) {}
  ByteTokenizer tokenizer;
  std::shared_ptr<const gguf::File> file;
  engine::Chat chat;
};

CompletionContext context_of(const ByteTokenizer& tokenizer) {
  return {tokenizer, "tiny", 4096, {.max_tokens_out = 2048}};
}

CompletionRequest chat(const std::string& body, const std::string& source = kTemplate) {
  const Chatting c(source);
  return parse_chat(body, c.chat, context_of(c.tokenizer));
}

CompletionRequest text(const std::string& body) {
  const ByteTokenizer tokenizer;
  return parse_text_completion(body, context_of(tokenizer));
}

// A chat with these fields beside one message.
std::string with(const std::string& fields) {
  return R"({"messages":[{"role":"user","content":"hi"}])" + (fields.empty() ? "" : "," + fields) + "}";
}

std::string prompt_of(const CompletionRequest& request) {
  std::string out;
  for (const int32_t id : request.choices.front().prompt_tokens)
    if (id < 256) out += static_cast<char>(id);
  return out;
}

template <class Parse>
Params refused(Parse parse, const std::string& body) {
  try {
    parse(body);
  } catch (const InvalidRequest& error) {
    Params params;
    for (const Problem& problem : error.problems()) params.push_back(problem.param);
    return params;
  }
  return {"accepted"};
}
Params refused_chat(const std::string& body) {
  return refused([](const std::string& b) { chat(b); }, body);
}
Params refused_text(const std::string& body) { return refused(text, body); }

TEST(ChatRequest, DefaultsAreThoseOfOpenAi) {
  const CompletionRequest request = chat(with(""));
  EXPECT_TRUE(request.is_chat);
  EXPECT_FALSE(request.stream || request.include_usage || request.offers_tools || request.is_harmony);
  EXPECT_EQ(prompt_of(request), "[user]hi[assistant]");
  EXPECT_EQ(request.prompt_tokens, prompt_of(request).size() + 1);  // BOS
  ASSERT_EQ(request.choices.size(), 1u);
  const engine::Request& choice = request.choices[0];
  EXPECT_EQ(choice.max_tokens, 2048u);
  sampling::SamplingParams expected;
  expected.seed = choice.sampling.seed;
  EXPECT_EQ(choice.sampling, expected);
  EXPECT_TRUE(choice.stop.empty());
}

TEST(ChatRequest, EveryFieldReachesTheEngine) {
  const CompletionRequest request = chat(with(
      R"("model":"tiny","max_tokens":9,"max_completion_tokens":7,"temperature":0.5,"top_p":0.25,"top_k":3,"min_p":0.125,
         "repetition_penalty":1.5,"stop":["x","yz"],"seed":18446744073709551615,"n":3,"stream":true,
         "stream_options":{"include_usage":true,"include_obfuscation":false},"ignore_eos":true)"));
  EXPECT_TRUE(request.stream && request.include_usage);
  ASSERT_EQ(request.choices.size(), 3u);
  for (uint32_t i = 0; i < 3; ++i) {
    const engine::Request& choice = request.choices[i];
    EXPECT_EQ(choice.max_tokens, 7u);
    EXPECT_EQ(choice.sampling, (sampling::SamplingParams{0.5f, 0.25f, 3, 0.125f, 1.5f, ~uint64_t{0}, i}));
    EXPECT_EQ(choice.stop, (std::vector<std::string>{"x", "yz"}));
    EXPECT_TRUE(choice.ignore_end);
    EXPECT_EQ(choice.prompt_tokens, request.choices[0].prompt_tokens);
  }
}

TEST(ChatRequest, WhatSaysNothingAboutTheAnswerIsTaken) {
  EXPECT_NO_THROW(chat(with(
      R"("user":"u","store":true,"metadata":{"a":"b"},"service_tier":"auto","safety_identifier":"s","prompt_cache_key":"k",
         "parallel_tool_calls":true,"frequency_penalty":0,"presence_penalty":0.0,"logit_bias":{},"logprobs":false,
         "top_logprobs":0,"response_format":{"type":"text"},"modalities":["text"],"verbosity":"medium","tool_choice":"none",
         "functions":[],"function_call":"none","top_k":-1,"min_tokens":0,"skip_special_tokens":true)")));
}

TEST(ChatRequest, NullIsAsIfTheFieldWereNotThere) {
  const CompletionRequest request = chat(with(
      R"("model":null,"temperature":null,"max_tokens":null,"stop":null,"seed":null,"n":null,"stream":null,"tools":null,
         "stream_options":null,"tool_choice":null,"logprobs":null,"response_format":null,"logit_bias":null,"top_k":null,
         "reasoning_effort":null,"chat_template_kwargs":null,"parallel_tool_calls":null,"frequency_penalty":null)"));
  EXPECT_EQ(request.choices[0].sampling.temperature, 1);
  EXPECT_EQ(prompt_of(request), "[user]hi[assistant]");
}

TEST(ChatRequest, SeedsAreIntegersOf64Bits) {
  const auto seed = [](const char* value) {
    return chat(with(std::string("\"seed\":") + value)).choices[0].sampling.seed;
  };
  EXPECT_EQ(seed("7"), 7u);
  EXPECT_EQ(seed("-2"), ~uint64_t{0} - 1);
  EXPECT_EQ(seed("-9223372036854775808"), uint64_t{1} << 63);
  EXPECT_NE(seed("-1"), seed("-1"));
}

TEST(ChatRequest, AStopMayBeOneString) {
  EXPECT_EQ(chat(with(R"("stop":"x")")).choices[0].stop, std::vector<std::string>{"x"});
}

struct Refusal {
  const char* fields;
  const char* param;
};
class ChatRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(ChatRefusal, NamesTheField) {
  EXPECT_EQ(refused_chat(with(GetParam().fields)), Params{GetParam().param}) << GetParam().fields;
}

INSTANTIATE_TEST_SUITE_P(
    Fields, ChatRefusal,
    testing::Values(
        Refusal{R"("frequency_penalty":0.1)", "frequency_penalty"},
        Refusal{R"("presence_penalty":-1)", "presence_penalty"},
        Refusal{R"("logit_bias":{"5":1})", "logit_bias"}, Refusal{R"("logprobs":1)", "logprobs"},
        Refusal{R"("top_logprobs":2)", "top_logprobs"},
        Refusal{R"("response_format":{"type":"json_object"})", "response_format"},
        Refusal{R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format"},
        Refusal{R"("response_format":"text")", "response_format"},
        Refusal{R"("tool_choice":"required")", "tool_choice"},
        Refusal{R"("tool_choice":{"type":"function","function":{"name":"f"}})", "tool_choice"},
        Refusal{R"("tool_choice":"sometimes")", "tool_choice"},
        Refusal{R"("modalities":["audio"])", "modalities"}, Refusal{R"("audio":{"voice":"a"})", "audio"},
        Refusal{R"("prediction":{})", "prediction"},
        Refusal{R"("web_search_options":{})", "web_search_options"},
        Refusal{R"("functions":[{"name":"f"}])", "functions"}, Refusal{R"("verbosity":"low")", "verbosity"},
        Refusal{R"("guided_json":{})", "guided_json"}, Refusal{R"("temprature":1)", "temprature"},
        Refusal{R"("temperature":2.5)", "temperature"}, Refusal{R"("temperature":"1")", "temperature"},
        Refusal{R"("top_p":-0.1)", "top_p"}, Refusal{R"("top_k":-2)", "top_k"},
        Refusal{R"("top_k":259)", "top_k"}, Refusal{R"("max_tokens":0)", "max_tokens"},
        Refusal{R"("max_tokens":2049)", "max_tokens"},
        Refusal{R"("max_completion_tokens":1.5)", "max_completion_tokens"}, Refusal{R"("n":0)", "n"},
        Refusal{R"("n":129)", "n"}, Refusal{R"("seed":1.5)", "seed"}, Refusal{R"("seed":"1")", "seed"},
        Refusal{R"("stop":5)", "stop"}, Refusal{R"("stop":"")", "stop"},
        Refusal{R"("stop":["a","b","c","d","e"])", "stop"}, Refusal{R"("stop":["a",1])", "stop[1]"},
        Refusal{R"("stream":1)", "stream"},
        Refusal{R"("stream_options":{"include_usage":true})", "stream_options"},
        Refusal{R"("stream":true,"stream_options":{"include_usage":1})", "stream_options.include_usage"},
        Refusal{R"("stream":true,"stream_options":{"x":1})", "stream_options.x"},
        Refusal{R"("stream":true,"stream_options":[])", "stream_options"}, Refusal{R"("tools":{})", "tools"},
        Refusal{R"("tools":["f"])", "tools[0]"},
        Refusal{R"("tools":[{"type":"web_search"}])", "tools[0].type"},
        Refusal{R"("tools":[{"type":"function","function":{"name":""}}])", "tools[0].function"},
        Refusal{R"("tools":[{"type":"function"}])", "tools[0].function"}, Refusal{R"("model":5)", "model"},
        Refusal{R"("reasoning_effort":1)", "reasoning_effort"},
        Refusal{R"("parallel_tool_calls":0)", "parallel_tool_calls"},
        Refusal{R"("chat_template_kwargs":1)", "chat_template_kwargs"}));

TEST(ChatRequest, MessagesAreRefusedByName) {
  const auto messages = [](const std::string& list) { return refused_chat("{\"messages\":" + list + "}"); };
  EXPECT_EQ(refused_chat("{}"), Params{"messages"});
  EXPECT_EQ(messages("null"), Params{"messages"});
  EXPECT_EQ(messages("\"hi\""), Params{"messages"});
  EXPECT_EQ(messages("[]"), Params{"messages"});
  EXPECT_EQ(messages("[1]"), Params{"messages[0]"});
  EXPECT_EQ(messages(R"([{"content":"x"}])"), Params{"messages[0].role"});
  EXPECT_EQ(messages(R"([{"role":"robot","content":"x"}])"), Params{"messages[0].role"});
  EXPECT_EQ(messages(R"([{"role":"user"}])"), Params{"messages[0].content"});
  EXPECT_EQ(messages(R"([{"role":"user","content":null}])"), Params{"messages[0].content"});
  EXPECT_EQ(messages(R"([{"role":"user","content":5}])"), Params{"messages[0].content"});
  EXPECT_EQ(
      messages(
          R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]}])"),
      Params{"messages[0].content[1].type"});
  EXPECT_EQ(messages(R"([{"role":"user","content":["a"]}])"), Params{"messages[0].content[0]"});
  EXPECT_EQ(messages(R"([{"role":"user","content":[{"type":"text"}]}])"),
            Params{"messages[0].content[0].text"});
  EXPECT_EQ(messages(R"([{"role":"assistant","tool_calls":[{"id":"a"}]}])"),
            Params{"messages[0].tool_calls[0]"});
  EXPECT_EQ(messages(R"([{"role":"assistant","tool_calls":7}])"), Params{"messages[0].tool_calls"});
  EXPECT_EQ(messages(R"([{"role":"assistant","content":null}])"), Params{"accepted"});
  std::string many = "[";
  for (size_t i = 0; i <= kMaxMessages; ++i) many += R"({"role":"user","content":"x"},)";
  many.back() = ']';
  EXPECT_EQ(messages(many), Params{"messages"});
}

TEST(ChatRequest, AllProblemsAreToldAtOnce) {
  EXPECT_EQ(
      refused_chat(
          R"({"messages":[{"role":"user","content":[{"type":"input_audio"}]}],"n":0,"presence_penalty":1,"x":1})"),
      (Params{"messages[0].content[0].type", "n", "presence_penalty", "x"}));
}

TEST(ChatRequest, PartsOfTextAreOneText) {
  EXPECT_EQ(
      prompt_of(chat(
          R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]})")),
      "[user]ab[assistant]");
}

TEST(ChatRequest, DevelopersAreSystemsWhereTheTemplateKnowsNone) {
  const std::string body = R"({"messages":[{"role":"developer","content":"x"}]})";
  EXPECT_EQ(prompt_of(chat(body)), "[system]x[assistant]");
  EXPECT_EQ(prompt_of(chat(body, "{# developer #}{{ messages[0].role }}")), "developer");
}

TEST(ChatRequest, ToolsReachTheTemplateUnlessNoneIsAskedFor) {
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"f","strict":true}}])";
  const CompletionRequest offered = chat(with(tools));
  EXPECT_TRUE(offered.offers_tools && offered.turn.calls);
  EXPECT_EQ(prompt_of(offered),
            R"([user]hi[{"type": "function", "function": {"name": "f", "strict": true}}][assistant])");
  const CompletionRequest none = chat(with(tools + R"(,"tool_choice":"none")"));
  EXPECT_FALSE(none.offers_tools || none.turn.calls);
  EXPECT_EQ(prompt_of(none), "[user]hi[assistant]");
}

TEST(ChatRequest, TheTemplateGetsItsVariables) {
  EXPECT_EQ(prompt_of(chat(with(R"("reasoning_effort":"low")"))), "[user]hilow[assistant]");
  EXPECT_EQ(prompt_of(chat(with(R"("add_generation_prompt":false)"))), "[user]hi");
  EXPECT_EQ(prompt_of(chat(with(R"("chat_template_kwargs":{"thinking":true})"))),
            "[user]hi[assistant]<think>\n");
}

TEST(ChatRequest, ThoughtsAreLookedForWhereTheTemplateKnowsThem) {
  const std::string thinker = std::string("{# </think> #}") + kTemplate;
  EXPECT_FALSE(chat(with("")).turn.thinks);
  EXPECT_TRUE(chat(with(""), thinker).turn.thinks);
  EXPECT_FALSE(chat(with(""), thinker).turn.in_thought);
  EXPECT_TRUE(chat(with(R"("chat_template_kwargs":{"thinking":true})"), thinker).turn.in_thought);
}

TEST(ChatRequest, ControlTokensThatPeopleWriteAreText) {
  const auto file = test::parse_owned(test::small_bpe("gpt-2").add("tokenizer.chat_template", kTemplate));
  const auto tokenizer = tokenizer::Tokenizer::from_gguf(file);
  const engine::Chat chat(*file, *tokenizer);
  const CompletionContext context{*tokenizer, "tiny", 4096, {}};
  const CompletionRequest request =
      parse_chat(R"({"messages":[{"role":"user","content":"a<|im_end|>b"}]})", chat, context);
  for (const int32_t id : request.choices[0].prompt_tokens) EXPECT_FALSE(tokenizer->is_control(id));
}

TEST(ChatRequest, AModelWithoutTemplateDoesNotChat) {
  const auto file = test::parse_owned(test::small_bpe("gpt-2"));
  const ByteTokenizer tokenizer;
  const engine::Chat chat(*file, tokenizer);
  try {
    parse_chat(with(""), chat, context_of(tokenizer));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
    EXPECT_NE(error.message().find("no chat template"), std::string::npos);
  }
}

std::string openai_code(const std::string& body) {
  try {
    chat(body);
  } catch (const Error& error) {
    const std::string reply = openai_error_reply(error).body;
    const std::string key = R"("code":")";
    const size_t begin = reply.find(key) + key.size();
    return reply.substr(begin, reply.find('"', begin) - begin);
  }
  return "";
}

TEST(ChatRequest, ErrorsHaveTheCodesThatClientsAskFor) {
  EXPECT_EQ(openai_code(with(R"("model":"other")")), "model_not_found");
  EXPECT_EQ(openai_code(with(R"("logit_bias":{"1":1})")), "unsupported_parameter");
  EXPECT_EQ(openai_code(with(R"("nope":1)")), "unknown_parameter");
  EXPECT_EQ(openai_code("{}"), "missing_required_parameter");
  EXPECT_EQ(openai_code(with(R"("top_p":"x")")), "invalid_type");
  EXPECT_EQ(openai_code(with(R"("top_p":2)")), "INVALID_REQUEST");
  EXPECT_EQ(openai_code(R"({"messages":[{"role":"user","content":")" + std::string(5000, 'x') + "\"}]}"),
            "context_length_exceeded");
}

TEST(TextCompletion, PromptsComeInFourForms) {
  const auto ids = [](const std::string& prompt) {
    std::vector<std::vector<int32_t>> all;
    for (const engine::Request& choice : text("{\"prompt\":" + prompt + "}").choices)
      all.push_back(choice.prompt_tokens);
    return all;
  };
  using Ids = std::vector<std::vector<int32_t>>;
  EXPECT_EQ(ids("\"ab<s>\""), (Ids{{256, 'a', 'b', 256}}));
  EXPECT_EQ(ids(R"(["a","b"])"), (Ids{{256, 'a'}, {256, 'b'}}));
  EXPECT_EQ(ids("[1,2]"), (Ids{{1, 2}}));
  EXPECT_EQ(ids("[[1,2],[3]]"), (Ids{{1, 2}, {3}}));
}

TEST(TextCompletion, ChoicesAreThoseOfEachPromptInTurn) {
  const CompletionRequest request = text(R"({"prompt":["a","bc"],"n":2,"seed":5,"echo":true})");
  ASSERT_EQ(request.choices.size(), 4u);
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(request.choices[i].sampling.choice, i % 2);
    EXPECT_EQ(request.choices[i].sampling.seed, 5u);
    EXPECT_EQ(request.choices[i].prompt_tokens.size(), i < 2 ? 2u : 3u);
    EXPECT_EQ(request.choices[i].max_tokens, 16u);
  }
  EXPECT_EQ(request.echoes, (std::vector<std::string>{"a", "bc"}));
  EXPECT_EQ(request.prompt_tokens, 5u);
  EXPECT_EQ(request.prompt_bytes, 3u);
}

class TextRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(TextRefusal, NamesTheField) {
  EXPECT_EQ(refused_text("{" + std::string(GetParam().fields) + "}"), Params{GetParam().param})
      << GetParam().fields;
}

INSTANTIATE_TEST_SUITE_P(
    Fields, TextRefusal,
    testing::Values(
        Refusal{"", "prompt"}, Refusal{R"("prompt":5)", "prompt"}, Refusal{R"("prompt":[])", "prompt"},
        Refusal{R"("prompt":["a",1])", "prompt[1]"}, Refusal{R"("prompt":[1,"a"])", "prompt[0]"},
        Refusal{R"("prompt":[[]])", "prompt[0]"}, Refusal{R"("prompt":[1,258])", "prompt[1]"},
        Refusal{R"("prompt":[[1,-1]])", "prompt[0][1]"}, Refusal{R"("prompt":[1.5])", "prompt[0]"},
        Refusal{R"("prompt":"a","suffix":"b")", "suffix"},
        Refusal{R"("prompt":"a","logprobs":21)", "logprobs"},
        Refusal{R"("prompt":"a","logprobs":0,"echo":true)", "logprobs"},
        Refusal{R"("prompt":"a","best_of":2)", "best_of"}, Refusal{R"("prompt":"a","echo":1)", "echo"},
        Refusal{R"("prompt":["a","b"],"n":65)", "n"}, Refusal{R"("prompt":"a","messages":[])", "messages"}));

TEST(ChatRequest, LogprobsReachTheEngineWhenAskedFor) {
  const auto asked = [](const char* fields) { return chat(with(fields)).choices[0].top_logprobs; };
  EXPECT_EQ(asked(""), std::nullopt);
  EXPECT_EQ(asked(R"("logprobs":false,"top_logprobs":0)"), std::nullopt);
  EXPECT_EQ(asked(R"("logprobs":true)"), 0u);
  EXPECT_EQ(asked(R"("logprobs":true,"top_logprobs":20)"), 20u);
  EXPECT_EQ(text(R"({"prompt":"a"})").choices[0].top_logprobs, std::nullopt);
  EXPECT_EQ(text(R"({"prompt":"a","logprobs":0})").choices[0].top_logprobs, 0u);
  EXPECT_EQ(text(R"({"prompt":"a","logprobs":5})").choices[0].top_logprobs, 5u);
}

TEST(TextCompletion, WhatAsksForNothingIsTaken) {
  EXPECT_NO_THROW(text(R"({"prompt":"a","suffix":"","best_of":1,"logprobs":null,"user":"u"})"));
  EXPECT_EQ(text(R"({"prompt":"a","best_of":2,"n":2})").choices.size(), 2u);
}

}  // namespace
}  // namespace orcd::server
