// The methods of Python's str, list, tuple and dict that templates may call.
#include <algorithm>

#include "jinja/arguments.h"
#include "jinja/format.h"
#include "jinja/operators.h"
#include "jinja/text.h"

namespace orcd::jinja {
namespace {

using Method = Value (*)(Renderer&, const Value& self, const Arguments&);
struct Entry {
  std::string_view name;
  Method call;
};

const std::string& text_of(const Value& self) { return *self.as_string(); }

const Value& need(const Arguments& arguments, size_t index, std::string_view name) {
  const Value* value = argument(arguments, index, name);
  if (value == nullptr) throw TemplateFailure{"the argument '" + std::string(name) + "' is missing"};
  if (value->is_undefined()) fail_undefined(*value);
  return *value;
}

template <Sides kSides>
Value strip_method(Renderer&, const Value& self, const Arguments& arguments) {
  const Value* characters = argument(arguments, 0, "chars");
  if (characters == nullptr || characters->is_none()) return strip(text_of(self), kSides);
  return strip(text_of(self), kSides, &string_argument(*characters, "strip"));
}

std::vector<Value> split_on_spaces(const std::string& text, int64_t limit) {
  std::vector<Value> parts;
  std::string_view rest = strip(text, Sides::kLeft);
  while (!rest.empty()) {
    if (limit >= 0 && std::ssize(parts) == limit) {
      parts.emplace_back(rest);
      break;
    }
    size_t end = 0;
    while (end < rest.size() && !is_space(code_point_at(rest, end).value))
      end += code_point_at(rest, end).n_bytes;
    parts.emplace_back(rest.substr(0, end));
    rest = strip(rest.substr(end), Sides::kLeft);
  }
  return parts;
}

std::vector<Value> rsplit_on_spaces(const std::string& text, int64_t limit) {
  if (limit < 0) return split_on_spaces(text, limit);
  std::vector<Value> parts;
  std::string_view rest = strip(text, Sides::kRight);
  while (!rest.empty()) {
    if (std::ssize(parts) == limit) {
      parts.emplace_back(rest);
      break;
    }
    const std::vector<size_t> offsets = code_point_offsets(rest);
    size_t word = offsets.size() - 1;
    while (word > 0 && !is_space(code_point_at(rest, offsets[word - 1]).value)) --word;
    parts.emplace_back(rest.substr(offsets[word]));
    rest = strip(rest.substr(0, offsets[word]), Sides::kRight);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Value split(Renderer& renderer, const Value& self, const Arguments& arguments) {
  const std::string& text = text_of(self);
  const Value* separator = argument(arguments, 0, "sep");
  const int64_t limit = integer_or(arguments, 1, "maxsplit", -1);
  renderer.charge_bytes(text.size());
  if (separator == nullptr || separator->is_none()) return Value::list(split_on_spaces(text, limit));
  if (separator->is_undefined()) fail_undefined(*separator);
  const std::string& by = string_argument(*separator, "split");
  if (by.empty()) throw TemplateFailure{"empty separator"};
  std::vector<Value> parts;
  size_t begin = 0;
  for (size_t at;
       (limit < 0 || std::ssize(parts) < limit) && (at = text.find(by, begin)) != std::string::npos;) {
    parts.emplace_back(text.substr(begin, at - begin));
    begin = at + by.size();
  }
  parts.emplace_back(text.substr(begin));
  renderer.charge(parts.size());
  return Value::list(std::move(parts));
}

Value rsplit(Renderer& renderer, const Value& self, const Arguments& arguments) {
  const std::string& text = text_of(self);
  const Value* separator = argument(arguments, 0, "sep");
  const int64_t limit = integer_or(arguments, 1, "maxsplit", -1);
  renderer.charge_bytes(text.size());
  if (separator == nullptr || separator->is_none()) return Value::list(rsplit_on_spaces(text, limit));
  const std::string& by = string_argument(*separator, "rsplit");
  if (by.empty()) throw TemplateFailure{"empty separator"};
  std::vector<Value> parts;
  size_t end = text.size();
  while (end >= by.size() && (limit < 0 || std::ssize(parts) < limit)) {
    const size_t at = text.rfind(by, end - by.size());
    if (at == std::string::npos) break;
    parts.emplace_back(text.substr(at + by.size(), end - at - by.size()));
    end = at;
  }
  parts.emplace_back(text.substr(0, end));
  std::reverse(parts.begin(), parts.end());
  return Value::list(std::move(parts));
}

Value splitlines(Renderer& renderer, const Value& self, const Arguments& arguments) {
  std::vector<Value> lines;
  for (const std::string_view line : split_lines(text_of(self), flag_or(arguments, 0, "keepends", false))) {
    lines.emplace_back(line);
  }
  renderer.charge(lines.size());
  return Value::list(std::move(lines));
}

// The part of the text that optional start and end arguments leave; nothing when they leave less than
// nothing.
std::string_view part_of(Renderer& renderer, const Value& self, const Arguments& arguments, size_t& skipped) {
  const std::string& text = text_of(self);
  skipped = 0;
  if (arguments.positional.size() < 2) return text;
  renderer.charge_bytes(text.size());
  const std::vector<size_t> offsets = code_point_offsets(text);
  const auto n = static_cast<int64_t>(offsets.size() - 1);
  const auto clamp = [n](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + n : at, 0, n); };
  const int64_t begin = clamp(integer_or(arguments, 1, "start", 0));
  const int64_t end = std::max(begin, clamp(integer_or(arguments, 2, "end", n)));
  skipped = static_cast<size_t>(begin);
  const size_t from = offsets[static_cast<size_t>(begin)];
  return std::string_view(text).substr(from, offsets[static_cast<size_t>(end)] - from);
}

template <bool kAtEnd>
Value affix(Renderer& renderer, const Value& self, const Arguments& arguments) {
  const Value& wanted = need(arguments, 0, "prefix");
  size_t skipped = 0;
  const std::string_view text = part_of(renderer, self, arguments, skipped);
  const auto has = [text](const Value& part) {
    const std::string& affix = string_argument(part, kAtEnd ? "endswith" : "startswith");
    return kAtEnd ? text.ends_with(affix) : text.starts_with(affix);
  };
  if (!wanted.is_sequence(SequenceKind::kTuple)) return has(wanted);
  const auto& items = wanted.as_sequence()->items;
  return std::any_of(items.begin(), items.end(), has);
}

template <bool kFromRight, bool kMustFind>
Value find(Renderer& renderer, const Value& self, const Arguments& arguments) {
  const std::string& part = string_argument(need(arguments, 0, "sub"), "find");
  size_t skipped = 0;
  const std::string_view text = part_of(renderer, self, arguments, skipped);
  renderer.charge_bytes(text.size());
  const size_t at = kFromRight ? text.rfind(part) : text.find(part);
  if (at != std::string_view::npos)
    return static_cast<int64_t>(skipped + count_code_points(text.substr(0, at)));
  if (kMustFind) throw TemplateFailure{"substring not found"};
  return -1;
}

size_t count_of(std::string_view text, std::string_view part) {
  if (part.empty()) return count_code_points(text) + 1;
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size()))
    ++count;
  return count;
}

Value count(Renderer& renderer, const Value& self, const Arguments& arguments) {
  const std::string& part = string_argument(need(arguments, 0, "sub"), "count");
  size_t skipped = 0;
  const std::string_view text = part_of(renderer, self, arguments, skipped);
  renderer.charge_bytes(text.size());
  return static_cast<int64_t>(count_of(text, part));
}

Value replace(Renderer& renderer, const Value& self, const Arguments& arguments) {
  return replace_text(renderer, text_of(self), string_argument(need(arguments, 0, "old"), "replace"),
                      string_argument(need(arguments, 1, "new"), "replace"),
                      integer_or(arguments, 2, "count", -1));
}

Value join(Renderer& renderer, const Value& self, const Arguments& arguments) {
  std::string out;
  bool first = true;
  for (const Value& item : renderer.items_of(need(arguments, 0, "iterable"))) {
    if (!first) out += text_of(self);
    first = false;
    if (item.is_undefined()) fail_undefined(item);
    out += string_argument(item, "join: sequence item");
    renderer.charge_bytes(item.as_string()->size() + text_of(self).size());
  }
  return out;
}

template <bool kFromRight>
Value partition(Renderer& renderer, const Value& self, const Arguments& arguments) {
  const std::string &text = text_of(self), &by = string_argument(need(arguments, 0, "sep"), "partition");
  if (by.empty()) throw TemplateFailure{"empty separator"};
  renderer.charge_bytes(text.size());
  const size_t at = kFromRight ? text.rfind(by) : text.find(by);
  if (at == std::string::npos) {
    if (kFromRight) return Value::tuple({"", "", text});
    return Value::tuple({text, "", ""});
  }
  return Value::tuple({text.substr(0, at), by, text.substr(at + by.size())});
}

Value removeprefix(Renderer&, const Value& self, const Arguments& arguments) {
  const std::string &text = text_of(self),
                    &part = string_argument(need(arguments, 0, "prefix"), "removeprefix");
  return text.starts_with(part) ? Value(text.substr(part.size())) : self;
}

Value removesuffix(Renderer&, const Value& self, const Arguments& arguments) {
  const std::string &text = text_of(self),
                    &part = string_argument(need(arguments, 0, "suffix"), "removesuffix");
  return text.ends_with(part) ? Value(text.substr(0, text.size() - part.size())) : self;
}

template <char kAlign>
Value justify(Renderer& renderer, const Value& self, const Arguments& arguments) {
  const int64_t width = integer_argument(need(arguments, 0, "width"), "width");
  const Value* given = argument(arguments, 1, "fillchar");
  const std::string fill = kAlign == '0' ? "0" : given ? string_argument(*given, "fillchar") : " ";
  const std::string& text = text_of(self);
  const int64_t room = width - static_cast<int64_t>(count_code_points(text));
  if (room <= 0) return self;
  renderer.charge(static_cast<uint64_t>(room));
  const bool has_sign = kAlign == '0' && (text.starts_with('-') || text.starts_with('+'));
  const int64_t left = kAlign == '<' ? 0 : kAlign == '^' ? room / 2 + (room & width & 1) : room;
  std::string out = has_sign ? text.substr(0, 1) : "";
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += has_sign ? text.substr(1) : text;
  for (int64_t i = left; i < room; ++i) out += fill;
  return out;
}

template <std::string (*kFunction)(std::string_view)>
Value mapped(Renderer& renderer, const Value& self, const Arguments&) {
  renderer.charge_bytes(text_of(self).size());
  return kFunction(text_of(self));
}

template <bool (*kHolds)(const std::string&)>
Value is_method(Renderer& renderer, const Value& self, const Arguments&) {
  renderer.charge_bytes(text_of(self).size());
  return kHolds(text_of(self));
}

template <bool (*kHolds)(uint32_t)>
bool all_are(const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (!kHolds(c.value)) return false;
    at += c.n_bytes;
  }
  return !text.empty();
}

bool is_alnum(uint32_t c) { return is_alphabetic(c) || is_numeric(c); }
bool is_lower_text(const std::string& text) { return has_cased(text) && lower(text) == text; }
bool is_upper_text(const std::string& text) { return has_cased(text) && upper(text) == text; }
bool is_title_text(const std::string& text) { return has_cased(text) && title(text) == text; }
bool is_ascii_text(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

std::string swap_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t n = code_point_at(text, at).n_bytes;
    const std::string_view one = text.substr(at, n);
    const std::string up = upper(one);
    out += up == one ? lower(one) : up;
    at += n;
  }
  return out;
}

Value format_method(Renderer& renderer, const Value& self, const Arguments& arguments) {
  std::string text = format_braces(text_of(self), arguments);
  renderer.charge_bytes(text.size());
  return text;
}

constexpr Entry kStringMethods[] = {
    {"capitalize", mapped<capitalize>},
    {"casefold", mapped<casefold>},
    {"center", justify<'^'>},
    {"count", count},
    {"endswith", affix<true>},
    {"find", find<false, false>},
    {"format", format_method},
    {"index", find<false, true>},
    {"isalnum", is_method<all_are<is_alnum>>},
    {"isalpha", is_method<all_are<is_alphabetic>>},
    {"isascii", is_method<is_ascii_text>},
    {"isdecimal", is_method<all_are<is_decimal>>},
    {"isdigit", is_method<all_are<is_decimal>>},
    {"islower", is_method<is_lower_text>},
    {"isnumeric", is_method<all_are<is_numeric>>},
    {"isspace", is_method<all_are<is_space>>},
    {"istitle", is_method<is_title_text>},
    {"isupper", is_method<is_upper_text>},
    {"join", join},
    {"ljust", justify<'<'>},
    {"lower", mapped<lower>},
    {"lstrip", strip_method<Sides::kLeft>},
    {"partition", partition<false>},
    {"removeprefix", removeprefix},
    {"removesuffix", removesuffix},
    {"replace", replace},
    {"rfind", find<true, false>},
    {"rindex", find<true, true>},
    {"rjust", justify<'>'>},
    {"rpartition", partition<true>},
    {"rsplit", rsplit},
    {"rstrip", strip_method<Sides::kRight>},
    {"split", split},
    {"splitlines", splitlines},
    {"startswith", affix<false>},
    {"strip", strip_method<Sides::kBoth>},
    {"swapcase", mapped<swap_case>},
    {"title", mapped<title>},
    {"upper", mapped<upper>},
    {"zfill", justify<'0'>},
};

Value list_count(Renderer& renderer, const Value& self, const Arguments& arguments) {
  int64_t n = 0;
  renderer.charge(self.as_sequence()->items.size());
  for (const Value& item : self.as_sequence()->items) n += equal(item, need(arguments, 0, "value"));
  return n;
}

Value list_index(Renderer& renderer, const Value& self, const Arguments& arguments) {
  const auto& items = self.as_sequence()->items;
  renderer.charge(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], need(arguments, 0, "value"))) return static_cast<int64_t>(i);
  }
  throw TemplateFailure{to_repr(need(arguments, 0, "value")) + " is not in list"};
}

Value copy(Renderer&, const Value& self, const Arguments&) { return self; }

constexpr Entry kListMethods[] = {{"copy", copy}, {"count", list_count}, {"index", list_index}};

Value dict_get(Renderer&, const Value& self, const Arguments& arguments) {
  const Value* key = argument(arguments, 0, "key");
  if (key == nullptr) throw TemplateFailure{"get expected at least 1 argument, got 0"};
  if (const Value* found = self.as_dict()->find(*key)) return *found;
  const Value* missing = argument(arguments, 1, "default");
  return missing ? *missing : Value(None{});
}

template <char kWhat>
Value dict_view(Renderer& renderer, const Value& self, const Arguments&) {
  std::vector<Value> items;
  renderer.charge(self.as_dict()->size());
  for (const auto& [key, value] : self.as_dict()->entries()) {
    items.push_back(kWhat == 'k' ? key : kWhat == 'v' ? value : Value::tuple({key, value}));
  }
  const char* label = kWhat == 'k' ? "dict_keys" : kWhat == 'v' ? "dict_values" : "dict_items";
  return Value::sequence(SequenceKind::kView, std::move(items), label);
}

constexpr Entry kDictMethods[] = {{"copy", copy},
                                  {"get", dict_get},
                                  {"items", dict_view<'i'>},
                                  {"keys", dict_view<'k'>},
                                  {"values", dict_view<'v'>}};

}  // namespace

Value replace_text(Renderer& renderer, const std::string& text, const std::string& from,
                   const std::string& to, int64_t limit) {
  std::string out;
  size_t begin = 0, at = 0;
  for (; limit != 0; --limit) {
    at = from.empty() ? begin : text.find(from, begin);
    if (at == std::string::npos || at > text.size()) break;
    if (from.empty()) {  // before each code point, and at the end
      out += to;
      if (begin == text.size()) break;
      const size_t n = code_point_at(text, begin).n_bytes;
      out.append(text, begin, n);
      begin += n;
    } else {
      out.append(text, begin, at - begin);
      out += to;
      begin = at + from.size();
    }
    renderer.charge_bytes(to.size());
  }
  out.append(text, std::min(begin, text.size()));
  renderer.charge_bytes(text.size());
  return out;
}

std::optional<Value> method_of(const Value& value, std::string_view name) {
  const auto bind = [&](const auto& table) -> std::optional<Value> {
    for (const Entry& entry : table) {
      if (entry.name != name) continue;
      return Value(Callable{"method " + std::string(name),
                            [value, call = entry.call](Renderer& renderer, const Arguments& arguments) {
                              return call(renderer, value, arguments);
                            },
                            {}});
    }
    return std::nullopt;
  };
  if (value.is_string()) return bind(kStringMethods);
  if (value.as_dict()) return bind(kDictMethods);
  if (value.is_sequence(SequenceKind::kList) || value.is_sequence(SequenceKind::kTuple))
    return bind(kListMethods);
  return std::nullopt;
}

}  // namespace orcd::jinja
