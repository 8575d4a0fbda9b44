#include "engine/tool_call_reader.h"

#include <utility>

#include "base/error.h"
#include "jinja/json.h"

namespace orcd::engine {
namespace {

bool is_blank(char c) { return kBlanks.find(c) != kBlanks.npos; }

// What a JSON string says; false if it is none. `written`: without its quotes.
bool unescaped(const std::string& written, std::string* out) {
  try {
    const jinja::Value value = jinja::parse_json("\"" + written + "\"");
    *out = *value.as_string();
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void append_text(TurnPart::Kind kind, std::string_view text, std::vector<TurnPart>* parts) {
  if (text.empty()) return;
  if (!parts->empty() && parts->back().kind == kind) {
    parts->back().text += text;
  } else {
    parts->push_back({kind, std::string(text)});
  }
}

ToolCallReader::State ToolCallReader::push(char c, std::vector<TurnPart>* parts) {
  if (!announced_) text_ += c;
  step(c, parts);
  if (failed_ && !announced_) return State::kNotACall;
  return n_close_ == kCallClose.size() ? State::kDone : State::kReading;
}

// Before the call was told the text is given back; afterwards only its end is looked for.
void ToolCallReader::malformed() {
  failed_ = !announced_;
  place_ = Place::kClose;
}

void ToolCallReader::step(char c, std::vector<TurnPart>* parts) {
  switch (place_) {
    case Place::kOpen:
      if (c == '{') {
        place_ = Place::kKeyOrEnd;
      } else if (!is_blank(c)) {
        malformed();
      }
      return;
    case Place::kKeyOrEnd:
      if (c == '"') {
        place_ = Place::kKey;
        token_.clear();
      } else if (c == '}') {
        end_object(parts);
      } else if (!is_blank(c)) {
        malformed();
      }
      return;
    case Place::kKey:
      return read_key(c);
    case Place::kColon:
      if (c == ':') {
        place_ = Place::kValue;
      } else if (!is_blank(c)) {
        malformed();
      }
      return;
    case Place::kValue:
      if (!is_blank(c)) begin_value(c, parts);
      return;
    case Place::kText:
      return read_text(c, parts);
    case Place::kNested:
      return read_nested(c, parts);
    case Place::kScalar:
      if (c != ',' && c != '}' && !is_blank(c)) return take_argument(c, parts);
      place_ = Place::kNext;
      return step(c, parts);
    case Place::kNext:
      if (c == ',') {
        place_ = Place::kKeyOrEnd;
      } else if (c == '}') {
        end_object(parts);
      } else if (!is_blank(c)) {
        malformed();
        step(c, parts);
      }
      return;
    case Place::kClose:
      if (c == kCallClose[n_close_]) {
        ++n_close_;
      } else {
        n_close_ = c == kCallClose[0] ? 1 : 0;
      }
      return;
  }
}

// Whether this is the quote behind a string, whose characters token_ collects as they are written.
bool ToolCallReader::ends_string(char c) {
  if (!escaped_ && c == '"') return true;
  escaped_ = !escaped_ && c == '\\';
  token_ += c;
  return false;
}

void ToolCallReader::read_key(char c) {
  if (!ends_string(c)) return;
  member_ = token_ == "name"                                  ? Member::kName
            : token_ == "arguments" || token_ == "parameters" ? Member::kArguments
                                                              : Member::kOther;
  place_ = Place::kColon;
}

void ToolCallReader::begin_value(char c, std::vector<TurnPart>* parts) {
  if (member_ == Member::kArguments) {
    if (has_arguments_) return malformed();
    has_arguments_ = true;
    if (has_name_) announce(parts);
  }
  if (c == '"') {
    place_ = Place::kText;
    token_.clear();
    return;
  }
  if (member_ == Member::kName || c == ',' || c == '}' || c == ']') return malformed();
  const bool nests = c == '{' || c == '[';
  place_ = nests ? Place::kNested : Place::kScalar;
  depth_ = 1;
  take_argument(c, parts);
}

void ToolCallReader::read_text(char c, std::vector<TurnPart>* parts) {
  if (!ends_string(c)) return;
  std::string said;
  const bool is_json = unescaped(token_, &said);
  if (member_ == Member::kName) {
    if (!is_json || has_name_ || said.empty()) return malformed();
    name_ = std::move(said);
    has_name_ = true;
    if (has_arguments_) announce(parts);
  } else {
    for (const char each : is_json ? said : token_) take_argument(each, parts);
  }
  place_ = Place::kNext;
}

void ToolCallReader::read_nested(char c, std::vector<TurnPart>* parts) {
  take_argument(c, parts);
  if (in_string_) {
    if (c == '"' && !escaped_) in_string_ = false;
    escaped_ = !escaped_ && c == '\\';
    return;
  }
  if (c == '"') in_string_ = true;
  if (c == '{' || c == '[') ++depth_;
  if ((c == '}' || c == ']') && --depth_ == 0) place_ = Place::kNext;
}

void ToolCallReader::take_argument(char c, std::vector<TurnPart>* parts) {
  if (member_ != Member::kArguments) return;
  if (announced_) {
    append_text(TurnPart::Kind::kArguments, std::string_view(&c, 1), parts);
  } else {
    arguments_ += c;
  }
}

void ToolCallReader::end_object(std::vector<TurnPart>* parts) {
  if (!has_name_) return malformed();
  if (!has_arguments_) {
    announce(parts);
    append_text(TurnPart::Kind::kArguments, "{}", parts);
  }
  place_ = Place::kClose;
}

void ToolCallReader::announce(std::vector<TurnPart>* parts) {
  announced_ = true;
  parts->push_back({TurnPart::Kind::kCall, name_});
  append_text(TurnPart::Kind::kArguments, arguments_, parts);
  text_.clear();
  arguments_.clear();
}

}  // namespace orcd::engine
