#include "engine/prompt_guard.h"

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "jinja/text.h"

namespace orcd::engine {
namespace {

using jinja::Dict;
using jinja::Value;

// Noncharacters: for use inside a program, never in text that is exchanged (Unicode 23.7).
constexpr uint32_t kFirstMark = 0xFDD0;
constexpr uint32_t kLastMark = 0xFDEF;

// Calls `see` with every string below `value`, keys too; true as soon as it says so.
bool any_string(const Value& value, const std::function<bool(const std::string&)>& see) {
  if (value.is_string()) return see(*value.as_string());
  if (const Dict* dict = value.as_dict()) {
    return std::ranges::any_of(dict->entries(), [&](const auto& entry) {
      return any_string(entry.first, see) || any_string(entry.second, see);
    });
  }
  if (!value.is_sequence(jinja::SequenceKind::kList)) return false;
  return std::ranges::any_of(value.as_sequence()->items,
                             [&](const Value& item) { return any_string(item, see); });
}

bool any_string(const Dict& dict, const std::function<bool(const std::string&)>& see) {
  return std::ranges::any_of(dict.entries(), [&](const auto& entry) {
    return any_string(entry.first, see) || any_string(entry.second, see);
  });
}

Dict changed(const Dict& dict, const std::function<Value(const std::string&)>& change);

Value changed(const Value& value, const std::function<Value(const std::string&)>& change) {
  if (value.is_string()) return change(*value.as_string());
  if (const Dict* dict = value.as_dict()) return changed(*dict, change);
  if (!value.is_sequence(jinja::SequenceKind::kList)) return value;
  std::vector<Value> items;
  for (const Value& item : value.as_sequence()->items) items.push_back(changed(item, change));
  return Value::list(std::move(items));
}

Dict changed(const Dict& dict, const std::function<Value(const std::string&)>& change) {
  Dict out;
  for (const auto& [key, value] : dict.entries()) out.set(changed(key, change), changed(value, change));
  return out;
}

size_t first_character(std::string_view text) { return jinja::code_point_at(text, 0).n_bytes; }

}  // namespace

PromptGuard::PromptGuard(const tokenizer::Tokenizer& tokenizer, std::string_view source) {
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_control(id)) control_.add(tokenizer.token_text(id), id);
  }
  for (uint32_t c = kFirstMark; c <= kLastMark; ++c) {
    std::string mark;
    jinja::append_code_point(c, mark);
    if (source.find(mark) == source.npos) marks_.push_back(std::move(mark));
  }
}

// Where marks belong, ascending: behind the first character of each control token that the text spells. One
// may stand inside another, so every place of the text is looked at.
std::vector<size_t> PromptGuard::places(std::string_view text) const {
  std::vector<size_t> places;
  const auto add = [&](size_t begin, size_t n_bytes) {
    const size_t first = first_character(text.substr(begin));
    places.push_back(n_bytes == first ? begin : begin + first);  // a token of one character: before it
  };
  size_t from = 0;
  for (auto match = control_.find(text, from); match.n_bytes != 0; match = control_.find(text, from)) {
    add(match.offset, match.n_bytes);
    from = match.offset + 1;
  }
  // The beginning of one at the very end, which text behind could complete.
  for (size_t begin = text.size() - std::min(text.size(), control_.max_bytes()); begin < text.size();
       ++begin) {
    if (control_.is_beginning(text.substr(begin))) add(begin, 0);
  }
  std::ranges::sort(places);
  places.erase(std::unique(places.begin(), places.end()), places.end());
  return places;
}

bool PromptGuard::needs_mark(std::string_view text) const { return !places(text).empty(); }

std::string PromptGuard::marked(std::string_view text, std::string_view mark) const {
  std::string out;
  size_t at = 0;
  for (const size_t place : places(text)) {
    out.append(text, at, place - at).append(mark);
    at = place;
  }
  return out.append(text, at);
}

std::optional<std::string> PromptGuard::mark(jinja::Dict* variables) const {
  if (!any_string(*variables, [&](const std::string& text) { return needs_mark(text); })) return std::nullopt;
  const auto is_free = [&](const std::string& mark) {
    return !any_string(*variables, [&](const std::string& text) { return text.find(mark) != text.npos; });
  };
  const auto mark = std::ranges::find_if(marks_, is_free);
  if (mark == marks_.end()) {
    throw Error(ErrorCode::kInvalidRequest, "the messages use every noncharacter from U+FDD0 to U+FDEF", {},
                "take them out: they are not for texts");
  }
  *variables = changed(*variables, [&](const std::string& text) { return Value(marked(text, *mark)); });
  return *mark;
}

GuardedPrompt PromptGuard::unmark(std::string text, const std::optional<std::string>& mark) {
  GuardedPrompt prompt;
  if (!mark) return {std::move(text), {}};
  size_t at = 0;
  for (size_t found; (found = text.find(*mark, at)) != text.npos; at = found + mark->size()) {
    prompt.text.append(text, at, found - at);
    prompt.guards.push_back(prompt.text.size());
  }
  prompt.text.append(text, at);
  return prompt;
}

}  // namespace orcd::engine
