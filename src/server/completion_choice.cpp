#include "server/completion_choice.h"

#include <utility>

namespace orcd::server {
namespace {

using engine::TextKind;
using engine::TurnPart;
using Kind = TurnPart::Kind;

constexpr std::string_view kFunctions = "functions.";

}  // namespace

CompletionChoice::CompletionChoice(const CompletionRequest& request)
    : is_chat_(request.is_chat),
      is_harmony_(request.is_harmony),
      offers_tools_(request.offers_tools),
      parallel_tool_calls_(request.parallel_tool_calls),
      splitter_(request.turn) {}

void CompletionChoice::add(const engine::TokenEvent& event, Parts* parts) {
  const bool was_thinking = splitter_.in_thought();
  add_text(event.text, event.kind, event.recipient, parts);
  const bool reasons =
      is_harmony_ ? event.kind == TextKind::kReasoning : was_thinking || splitter_.in_thought();
  ++n_tokens_;
  if (reasons) ++n_reasoning_tokens_;
}

void CompletionChoice::add_text(const std::string& text, TextKind kind, const std::string& recipient,
                                Parts* parts) {
  digest_.update(text);
  output_bytes_ += text.size();
  const size_t from = parts->size();
  const bool calls = is_harmony_ && kind == TextKind::kCommentary && !recipient.empty() && offers_tools_;
  if (is_harmony_ && !calls) recipient_.clear();
  if (text.empty() && !calls) return;
  if (!is_chat_) {
    parts->push_back({Kind::kContent, text});
  } else if (!is_harmony_) {
    splitter_.push(text, parts);
  } else if (calls) {
    add_call(recipient, parts);
    if (!text.empty()) parts->push_back({Kind::kArguments, text});
  } else {  // commentary to nobody is a preamble, written for the user
    parts->push_back({kind == TextKind::kReasoning ? Kind::kReasoning : Kind::kContent, text});
  }
  keep_calls(from, parts);
}

void CompletionChoice::add_call(const std::string& recipient, Parts* parts) {
  if (recipient == recipient_) return;
  recipient_ = recipient;
  const std::string_view name = recipient;
  parts->push_back(
      {Kind::kCall, std::string(name.starts_with(kFunctions) ? name.substr(kFunctions.size()) : name)});
}

// Counts them; of a client that takes one call at a time the others are kept.
void CompletionChoice::keep_calls(size_t from, Parts* parts) {
  for (size_t i = from; i < parts->size(); ++i) {
    const Kind kind = (*parts)[i].kind;
    if (kind == Kind::kCall) ++n_calls_;
    const bool is_call = kind == Kind::kCall || kind == Kind::kArguments;
    if (is_call && n_calls_ > 1 && !parallel_tool_calls_)
      parts->erase(parts->begin() + static_cast<ptrdiff_t>(i--));
  }
}

void CompletionChoice::end(const engine::EndEvent& event, Parts* parts) {
  add_text(event.tail, event.tail_kind, recipient_, parts);
  const size_t from = parts->size();
  splitter_.finish(parts);
  keep_calls(from, parts);
  end_ = event;
}

const char* CompletionChoice::finish_reason() const {
  switch (end_->reason) {
    case engine::StopReason::kMaxTokens:
    case engine::StopReason::kContext:
      return "length";
    default:
      return n_calls_ > 0 ? "tool_calls" : "stop";
  }
}

}  // namespace orcd::server
