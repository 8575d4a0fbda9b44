// The filters that give text or a number.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "jinja/arguments.h"
#include "jinja/filters.h"
#include "jinja/format.h"
#include "jinja/json.h"
#include "jinja/operators.h"
#include "jinja/text.h"

namespace orcd::jinja {
namespace {

template <std::string (*kFunction)(std::string_view)>
Value mapped(Renderer& renderer, const Value& subject, const Arguments&) {
  const std::string text = to_text(subject);
  renderer.charge_bytes(text.size());
  return kFunction(text);
}

// jinja2's own: words begin behind blanks and brackets only, so "don't" becomes "Don't".
std::string title_words(std::string_view text) {
  std::string out;
  const auto splits = [](uint32_t c) {
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_space(c);
  };
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    const bool between = splits(code_point_at(text, at).value);
    while (end < text.size() && splits(code_point_at(text, end).value) == between) {
      end += code_point_at(text, end).n_bytes;
    }
    const std::string_view word = text.substr(at, end - at);
    const size_t first = code_point_at(word, 0).n_bytes;
    out += between ? std::string(word) : upper(word.substr(0, first)) + lower(word.substr(first));
    at = end;
  }
  return out;
}

Value trim(Renderer&, const Value& subject, const Arguments& arguments) {
  const Value* characters = argument(arguments, 0, "chars");
  const std::string text = to_text(subject);
  if (characters == nullptr || characters->is_none()) return strip(text, Sides::kBoth);
  return strip(text, Sides::kBoth, &string_argument(*characters, "trim"));
}

Value replace(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const Value *from = argument(arguments, 0, "old"), *to = argument(arguments, 1, "new");
  if (from == nullptr || to == nullptr) throw TemplateFailure{"replace takes an old and a new string"};
  return replace_text(renderer, to_text(subject), to_text(*from), to_text(*to),
                      integer_or(arguments, 2, "count", -1));
}

Value string(Renderer&, const Value& subject, const Arguments&) {
  return subject.is_string() ? subject : Value(to_text(subject));
}

Value escape(Renderer& renderer, const Value& subject, const Arguments&) {
  std::string out;
  for (const char c : to_text(subject)) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&#34;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += c;
  }
  renderer.charge_bytes(out.size());
  return out;
}

Value indent(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const Value* width = argument(arguments, 0, "width");
  const bool first = flag_or(arguments, 1, "first", false), blank = flag_or(arguments, 2, "blank", false);
  std::string prefix = "    ";
  if (width && width->is_string()) {
    prefix = *width->as_string();
  } else if (width) {
    const int64_t n = std::max<int64_t>(0, integer_argument(*width, "indent"));
    renderer.charge(static_cast<uint64_t>(n));
    prefix.assign(static_cast<size_t>(n), ' ');
  }
  const std::string text = to_text(subject) + "\n";
  std::string out = first ? prefix : "";
  bool is_first = true;
  for (const std::string_view line : split_lines(text)) {
    renderer.charge_bytes(prefix.size() + line.size());
    if (!is_first) out += "\n";
    if (!is_first && (blank || !line.empty())) out += prefix;
    out += line;
    is_first = false;
  }
  return out;
}

Value tojson(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  JsonStyle style;
  style.ensure_ascii = flag_or(arguments, 0, "ensure_ascii", false);
  if (const Value* given = argument(arguments, 1, "indent"); given && !given->is_none()) {
    style.is_indented = true;
    if (given->is_string()) {
      style.indent = *given->as_string();
    } else {
      style.indent.assign(
          static_cast<size_t>(std::clamp<int64_t>(integer_argument(*given, "indent"), 0, 100)), ' ');
    }
    style.item_separator.assign(1, ',');
  }
  if (const Value* given = argument(arguments, 2, "separators"); given && !given->is_none()) {
    const std::vector<Value> parts = renderer.items_of(*given);
    if (parts.size() != 2) throw TemplateFailure{"tojson: separators are a pair"};
    style.item_separator = string_argument(parts[0], "separators");
    style.key_separator = string_argument(parts[1], "separators");
  }
  style.sort_keys = flag_or(arguments, 3, "sort_keys", false);
  std::string text = to_json(subject, style);
  renderer.charge_bytes(text.size());
  return text;
}

// int(text): white space around, a sign, underscores between digits.
bool read_integer(std::string_view text, int base, int64_t& value) {
  text = strip(text, Sides::kBoth);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char mark = static_cast<char>(text[1] | 0x20);
    const int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked != 0 && marked == base) text.remove_prefix(2);
  }
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_' && i > 0 && i + 1 < text.size() && text[i - 1] != '_') continue;
    digits += text[i];
  }
  if (digits.empty() || digits[0] == '-') return false;
  if (negative) digits.insert(digits.begin(), '-');
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  return read.ec == std::errc() && read.ptr == digits.data() + digits.size();
}

bool read_float(std::string_view text, double& value) {
  std::string digits(strip(text, Sides::kBoth));
  const bool is_hex = digits.find_first_of("xXpP(") != std::string::npos;
  if (digits.empty() || is_hex) return false;
  char* end = nullptr;
  value = std::strtod(digits.c_str(), &end);
  return end == digits.c_str() + digits.size();
}

Value to_int(Renderer&, const Value& subject, const Arguments& arguments) {
  const Value* missing = argument(arguments, 0, "default");
  Value otherwise = missing ? *missing : Value(0);
  const int64_t base = integer_or(arguments, 1, "base", 10);
  if (subject.is_int() || subject.is_bool()) return subject.integer();
  double number = 0;
  if (const std::string* text = subject.as_string()) {
    int64_t value = 0;
    if (base >= 2 && base <= 36 && read_integer(*text, static_cast<int>(base), value)) return value;
    if (!read_float(*text, number)) return otherwise;
  } else if (subject.is_float()) {
    number = subject.number();
  } else {
    return otherwise;
  }
  if (!(std::fabs(number) < 9.2e18)) return otherwise;
  return static_cast<int64_t>(number);
}

Value to_float(Renderer&, const Value& subject, const Arguments& arguments) {
  const Value* missing = argument(arguments, 0, "default");
  double number = 0;
  if (subject.is_number()) return subject.number();
  if (const std::string* text = subject.as_string(); text && read_float(*text, number)) return number;
  return missing ? *missing : Value(0.0);
}

Value abs(Renderer&, const Value& subject, const Arguments&) {
  if (subject.is_undefined()) fail_undefined(subject);
  if (!subject.is_number())
    throw TemplateFailure{std::string("bad operand type for abs(): '") + subject.type_name() + "'"};
  if (subject.is_float()) return std::fabs(subject.number());
  return subject.integer() < 0 ? negative(subject) : Value(subject.integer());
}

// To a multiple of a power of ten where the precision is negative; of two that are equally near, the even
// one.
Value rounded_integer(int64_t value, int64_t precision) {
  if (precision >= 0) return value;
  if (precision < -18) return int64_t{0};  // less than half of any such multiple
  int64_t unit = 1;
  for (int64_t i = precision; i < 0; ++i) unit *= 10;
  const int64_t rest = value % unit;
  const int64_t below = value - rest;
  const int64_t twice = std::abs(rest) - (unit - std::abs(rest));
  const bool goes_away = twice > 0 || (twice == 0 && below / unit % 2 != 0);
  if (!goes_away) return below;
  int64_t away = 0;
  if (__builtin_add_overflow(below, value < 0 ? -unit : unit, &away))
    throw TemplateFailure{"an integer does not fit 64 bits"};
  return away;
}

Value round(Renderer&, const Value& subject, const Arguments& arguments) {
  const int64_t precision = std::clamp<int64_t>(integer_or(arguments, 0, "precision", 0), -300, 300);
  const Value* given = argument(arguments, 1, "method");
  const std::string method = given ? to_text(*given) : "common";
  if (!subject.is_number())
    throw TemplateFailure{std::string("round: a number is needed, not ") + subject.type_name()};
  if (method == "common") {
    if (!subject.is_float()) return rounded_integer(subject.integer(), precision);
    if (precision < 0) {
      const double scale = std::pow(10.0, static_cast<double>(-precision));
      return std::nearbyint(subject.number() / scale) * scale;
    }
    char text[700];  // round half to even on the exact decimal value, as Python does
    std::snprintf(text, sizeof text, "%.*f", static_cast<int>(precision), subject.number());
    return std::strtod(text, nullptr);
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return std::ceil(subject.number() * scale) / scale;
  if (method == "floor") return std::floor(subject.number() * scale) / scale;
  throw TemplateFailure{"round: method must be common, ceil or floor"};
}

Value wordcount(Renderer& renderer, const Value& subject, const Arguments&) {
  const std::string text = to_text(subject);
  renderer.charge_bytes(text.size());
  int64_t n = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    const bool word = c.value == '_' || is_alphabetic(c.value) || is_numeric(c.value);
    n += word && !inside;
    inside = word;
    at += c.n_bytes;
  }
  return n;
}

Value center(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const Value* given = argument(arguments, 0, "width");
  Arguments width;
  width.positional.push_back(given ? *given : Value(80));
  return renderer.call(*method_of(to_text(subject), "center"), width);
}

Value format(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    throw TemplateFailure{"can't handle positional and keyword arguments at the same time"};
  }
  Dict named;
  for (const auto& [name, value] : arguments.named) named.set(name, value);
  std::string text =
      format_percent(to_text(subject),
                     arguments.named.empty() ? Value::tuple(arguments.positional) : Value(std::move(named)));
  renderer.charge_bytes(text.size());
  return text;
}

Value truncate(Renderer&, const Value& subject, const Arguments& arguments) {
  const std::string text = to_text(subject);
  const Value* given = argument(arguments, 2, "end");
  const std::string end = given ? to_text(*given) : "...";
  const auto end_size = static_cast<int64_t>(count_code_points(end));
  const int64_t length = integer_or(arguments, 0, "length", 255),
                leeway = integer_or(arguments, 3, "leeway", 5);
  if (length < end_size) throw TemplateFailure{"truncate: the length is shorter than the end"};
  const std::vector<size_t> offsets = code_point_offsets(text);
  if (std::ssize(offsets) - 1 <= length + leeway) return text;
  std::string kept = text.substr(0, offsets[static_cast<size_t>(length - end_size)]);
  if (!flag_or(arguments, 1, "killwords", false)) {
    if (const size_t blank = kept.rfind(' '); blank != std::string::npos) kept.resize(blank);
  }
  return kept + end;
}

Value urlencode(Renderer& renderer, const Value& subject, const Arguments&) {
  if (!subject.is_string()) throw TemplateFailure{"urlencode takes a string"};
  std::string out;
  for (const char c : *subject.as_string()) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~/").find(c) != std::string_view::npos;
    char text[4];
    std::snprintf(text, sizeof text, "%%%02X", static_cast<uint8_t>(c));
    out += plain ? std::string(1, c) : text;
  }
  renderer.charge_bytes(out.size());
  return out;
}

struct Entry {
  std::string_view name;
  Filter filter;
};
constexpr Entry kFilters[] = {
    {"abs", abs},
    {"capitalize", mapped<capitalize>},
    {"center", center},
    {"e", escape},
    {"escape", escape},
    {"float", to_float},
    {"forceescape", escape},
    {"format", format},
    {"indent", indent},
    {"int", to_int},
    {"lower", mapped<lower>},
    {"replace", replace},
    {"round", round},
    {"safe", string},
    {"string", string},
    {"title", mapped<title_words>},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", mapped<upper>},
    {"urlencode", urlencode},
    {"wordcount", wordcount},
};

}  // namespace

Filter find_text_filter(std::string_view name) {
  for (const Entry& entry : kFilters) {
    if (entry.name == name) return entry.filter;
  }
  return nullptr;
}

}  // namespace orcd::jinja
