// The harmony format of gpt-oss: a turn is made of messages, each in a channel, and special tokens part them:
//   <|start|>assistant<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...<|return|>
//   <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{...}<|call|>
// (OpenAI, harmony response format)
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "engine/request.h"
#include "tokenizer/tokenizer.h"

namespace orcd::engine {

// The special tokens of the format.
struct HarmonyTokens {
  int32_t start, channel, message, constrain;  // constrain: -1 if there is none
  int32_t end, end_of_turn, call;

  // Nothing for a vocabulary without them: the name of the model decides nothing.
  static std::optional<HarmonyTokens> find(const tokenizer::Tokenizer& tokenizer);
};

// Follows a turn token by token. The text of a message is what lies between <|message|> and the token that
// ends it; headers, and what stands outside of messages, are nobody's text.
class HarmonyParser {
 public:
  struct Header {
    std::string role, channel;
    std::string recipient;     // "functions.f" of a tool call, else ""
    std::string content_type;  // "json"
    TextKind kind() const;     // a message without a channel is an answer; an unknown channel is commentary
  };

  // `prompt`: what stands before the turn; it may end inside a header or inside a message. A prompt without
  // <|start|> is no conversation: all text is answer.
  HarmonyParser(const tokenizer::Tokenizer& tokenizer, const HarmonyTokens& tokens,
                std::span<const int32_t> prompt);

  // The text that this token completes, whole UTF-8; header() tells whose it is, also for the token that ends
  // the message.
  std::string push(int32_t id);
  // What is left of a turn that stops inside a message: an incomplete character becomes one U+FFFD.
  std::string finish();
  const Header& header() const { return header_; }
  bool in_message() const { return place_ == Place::kMessage; }

 private:
  enum class Place : uint8_t { kOutside, kRole, kChannel, kContentType, kMessage };
  void begin_header(Place place);
  void take_header_word(std::string& to);
  void open_message();

  const tokenizer::Tokenizer* tokenizer_;
  HarmonyTokens tokens_;
  Place place_ = Place::kOutside;
  Header header_, next_;  // of the message, and the one being read
  std::string word_;      // of the header: what stands since its last special token
  tokenizer::Detokenizer text_;
};

}  // namespace orcd::engine
