#include "engine/harmony.h"

#include <algorithm>

namespace orcd::engine {
namespace {

constexpr std::string_view kRecipientMark = "to=";

std::string_view first_word(std::string_view& text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  const std::string_view word = text.substr(0, text.find_first_of(kBlanks));
  text.remove_prefix(word.size());
  return word;
}

}  // namespace

std::optional<HarmonyTokens> HarmonyTokens::find(const tokenizer::Tokenizer& tokenizer) {
  const auto id = [&](const char* text) {
    const int32_t found = tokenizer.token_id(text);
    return found >= 0 && tokenizer.is_control(found) ? found : -1;
  };
  const HarmonyTokens tokens{.start = id("<|start|>"),
                             .channel = id("<|channel|>"),
                             .message = id("<|message|>"),
                             .constrain = id("<|constrain|>"),
                             .end = id("<|end|>"),
                             .end_of_turn = id("<|return|>"),
                             .call = id("<|call|>")};
  const auto needed = {tokens.start, tokens.channel,     tokens.message,
                       tokens.end,   tokens.end_of_turn, tokens.call};
  if (std::ranges::find(needed, -1) != needed.end()) return std::nullopt;
  return tokens;
}

TextKind HarmonyParser::Header::kind() const {
  if (!recipient.empty()) return TextKind::kCommentary;
  if (channel.empty() || channel == "final") return TextKind::kAnswer;
  return channel == "analysis" ? TextKind::kReasoning : TextKind::kCommentary;
}

HarmonyParser::HarmonyParser(const tokenizer::Tokenizer& tokenizer, const HarmonyTokens& tokens,
                             std::span<const int32_t> prompt)
    : tokenizer_(&tokenizer), tokens_(tokens), text_(tokenizer) {
  const auto last = std::find(prompt.rbegin(), prompt.rend(), tokens.start);
  if (last == prompt.rend()) {
    place_ = Place::kMessage;
    text_ = tokenizer::Detokenizer(tokenizer, prompt, /*special=*/false);
    return;
  }
  for (auto id = last.base() - 1; id != prompt.end(); ++id) push(*id);
}

std::string HarmonyParser::push(int32_t id) {
  const bool ends_message = id == tokens_.end || id == tokens_.end_of_turn || id == tokens_.call;
  const bool is_mark = ends_message || id == tokens_.start || id == tokens_.channel ||
                       id == tokens_.message || (id == tokens_.constrain && place_ != Place::kMessage);
  if (!is_mark) {
    if (place_ == Place::kMessage) return text_.push(id);
    if (place_ != Place::kOutside) word_ += tokenizer_->token_bytes(id, /*special=*/false);
    return {};
  }
  std::string rest = place_ == Place::kMessage ? text_.finish() : std::string();
  if (ends_message) {
    place_ = Place::kOutside;
  } else if (id == tokens_.start) {
    begin_header(Place::kRole);
  } else if (id == tokens_.channel) {
    // A channel without a <|start|> opens a header of its own: models leave it out.
    if (place_ == Place::kMessage || place_ == Place::kOutside) begin_header(Place::kRole);
    take_header_word(next_.role);
    place_ = Place::kChannel;
  } else if (id == tokens_.constrain) {
    take_header_word(place_ == Place::kChannel ? next_.channel : next_.role);
    place_ = Place::kContentType;
  } else {
    open_message();
  }
  return rest;
}

std::string HarmonyParser::finish() { return place_ == Place::kMessage ? text_.finish() : std::string(); }

void HarmonyParser::begin_header(Place place) {
  place_ = place;
  next_ = {};
  word_.clear();
}

// Takes what was written since the last mark apart: the first word that is no recipient goes into `to`.
void HarmonyParser::take_header_word(std::string& to) {
  std::string_view left = word_;
  for (std::string_view word = first_word(left); !word.empty(); word = first_word(left)) {
    if (word.starts_with(kRecipientMark)) {
      next_.recipient = word.substr(kRecipientMark.size());
    } else if (to.empty()) {
      to = word;
    } else if (next_.content_type.empty() && place_ == Place::kChannel) {
      next_.content_type = word;  // "commentary to=functions.f json": the mark before it is left out at times
    }
  }
  word_.clear();
}

void HarmonyParser::open_message() {
  if (place_ == Place::kMessage || place_ == Place::kOutside) begin_header(Place::kRole);
  take_header_word(place_ == Place::kChannel       ? next_.channel
                   : place_ == Place::kContentType ? next_.content_type
                                                   : next_.role);
  header_ = std::move(next_);
  place_ = Place::kMessage;
}

}  // namespace orcd::engine
