#include "jinja/format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "jinja/text.h"

namespace orcd::jinja {
namespace {

constexpr int kMaxWidth = 10'000;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', '=' or 0
  bool plus = false, zero = false, comma = false;
  int width = 0, precision = -1;
  char type = 0;
};

int read_number(std::string_view text, size_t& at) {
  int value = 0;
  for (; at < text.size() && is_digit(text[at]); ++at) {
    value = value * 10 + (text[at] - '0');
    if (value > kMaxWidth) throw TemplateFailure{"a width in a format is too large"};
  }
  return value;
}

std::string pad(const std::string& text, const Spec& spec, char missing_align) {
  const auto size = static_cast<int>(count_code_points(text));
  if (size >= spec.width) return text;
  const int room = spec.width - size;
  const char align = spec.align ? spec.align : missing_align;
  const int left = align == '>' || align == '=' ? room : align == '^' ? room / 2 : 0;
  std::string out;
  for (int i = 0; i < left; ++i) out += spec.fill;
  out += text;
  for (int i = left; i < room; ++i) out += spec.fill;
  return out;
}

std::string grouped(const std::string& digits) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::string print_float(char type, int precision, double value) {
  const char form[] = {'%', '.', '*', type, 0};
  char text[512];
  std::snprintf(text, sizeof text, form, std::min(precision < 0 ? 6 : precision, 100), value);
  return text;
}

std::string number_text(const Value& value, const Spec& spec) {
  std::string digits;
  bool negative = false;
  if (spec.type == 'f' || spec.type == 'F' || spec.type == 'e' || spec.type == 'g' || spec.type == '%' ||
      (value.is_float() && spec.type == 0 && spec.precision >= 0)) {
    const double number = value.number();
    negative = std::signbit(number);
    const char type = spec.type == '%' ? 'f' : spec.type == 0 ? 'g' : spec.type;
    digits = print_float(type, spec.precision, std::fabs(number) * (spec.type == '%' ? 100 : 1));
    if (spec.type == '%') digits += '%';
  } else if (value.is_float()) {
    digits = float_text(std::fabs(value.number()));
    negative = std::signbit(value.number());
  } else {
    const int64_t number = value.integer();
    negative = number < 0;
    const uint64_t size = negative ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
    char text[32];
    const bool hex = spec.type == 'x' || spec.type == 'X';
    std::snprintf(text, sizeof text,
                  spec.type == 'x' ? "%llx"
                  : hex            ? "%llX"
                                   : "%llu",
                  static_cast<unsigned long long>(size));
    digits = text;
  }
  if (spec.comma) {
    const size_t dot = digits.find('.');
    digits = grouped(digits.substr(0, dot)) + (dot == std::string::npos ? "" : digits.substr(dot));
  }
  const std::string sign = negative ? "-" : spec.plus ? "+" : "";
  if (!spec.zero || (spec.align && spec.align != '=')) return pad(sign + digits, spec, '>');
  const auto used = static_cast<int>(sign.size() + digits.size());
  return sign + std::string(static_cast<size_t>(std::max(0, spec.width - used)), '0') + digits;
}

std::string formatted(const Value& value, const Spec& spec) {
  if (value.is_number() && !(value.is_bool() && spec.type == 0) && spec.type != 's') {
    return number_text(value, spec);
  }
  if (spec.type != 0 && spec.type != 's') {
    throw TemplateFailure{std::string("unknown format code '") + spec.type + "' for a " + value.type_name()};
  }
  std::string text = to_text(value);
  if (spec.precision >= 0) {
    const std::vector<size_t> offsets = code_point_offsets(text);
    const auto keep = static_cast<size_t>(spec.precision);
    if (keep + 1 < offsets.size()) text.resize(offsets[keep]);
  }
  return pad(text, spec, '<');
}

Spec parse_spec(std::string_view text) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [&](size_t index) {
    return index < text.size() && std::string_view("<>^=").find(text[index]) != std::string_view::npos;
  };
  const size_t first = text.empty() ? 0 : code_point_at(text, 0).n_bytes;
  if (!text.empty() && is_align(first)) {
    spec.fill = std::string(text.substr(0, first));
    spec.align = text[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = text[at++];
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) spec.plus = text[at++] == '+';
  if (at < text.size() && text[at] == '0') spec.zero = true, ++at;
  spec.width = read_number(text, at);
  if (at < text.size() && text[at] == ',') spec.comma = true, ++at;
  if (at < text.size() && text[at] == '.') spec.precision = read_number(text, ++at);
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size() || std::string_view("\0sdfFxXeg%", 10).find(spec.type) == std::string_view::npos) {
    throw TemplateFailure{"the format '" + std::string(text) + "' is not supported"};
  }
  return spec;
}

const Value& field(const Arguments& arguments, std::string_view name, size_t& next) {
  if (name.empty() || is_digit(name[0])) {
    size_t at = 0;
    const size_t index = name.empty() ? next++ : static_cast<size_t>(read_number(name, at));
    if (index < arguments.positional.size() && at == name.size()) return arguments.positional[index];
    throw TemplateFailure{"replacement index out of range in a format"};
  }
  for (const auto& [known, value] : arguments.named) {
    if (known == name) return value;
  }
  throw TemplateFailure{"the format names '" + std::string(name) + "', which is not given"};
}

}  // namespace

std::string format_percent(std::string_view form, const Value& values) {
  const Sequence* tuple = values.is_sequence(SequenceKind::kTuple) ? values.as_sequence() : nullptr;
  std::string out;
  size_t next = 0;
  for (size_t at = 0; at < form.size(); ++at) {
    if (form[at] != '%') {
      out += form[at];
      continue;
    }
    if (++at == form.size()) throw TemplateFailure{"incomplete format"};
    if (form[at] == '%') {
      out += '%';
      continue;
    }
    const Value* value = nullptr;
    if (form[at] == '(') {
      const size_t end = form.find(')', at);
      const Dict* dict = values.as_dict();
      if (end == std::string_view::npos || dict == nullptr)
        throw TemplateFailure{"format requires a mapping"};
      value = dict->find(form.substr(at + 1, end - at - 1));
      at = end + 1;
    }
    Spec spec;
    spec.align = '>';
    for (; at < form.size() && std::string_view("-+0 ").find(form[at]) != std::string_view::npos; ++at) {
      if (form[at] == '-') spec.align = '<';
      if (form[at] == '+') spec.plus = true;
      if (form[at] == '0') spec.zero = true;
    }
    if (spec.zero && spec.align == '>') spec.align = '=';
    spec.width = read_number(form, at);
    if (at < form.size() && form[at] == '.') spec.precision = read_number(form, ++at);
    if (at == form.size()) throw TemplateFailure{"incomplete format"};
    if (value == nullptr) {
      if (tuple ? next >= tuple->items.size() : next > 0) {
        throw TemplateFailure{"not enough arguments for format string"};
      }
      value = tuple ? &tuple->items[next] : &values;
      ++next;
    }
    const char type = form[at];
    if (type == 's' || type == 'r') {
      spec.type = 's';
      out += formatted(type == 'r' ? Value(to_repr(*value)) : Value(to_text(*value)), spec);
    } else if (std::string_view("difFegxX").find(type) != std::string_view::npos && value->is_number()) {
      const bool whole = type == 'd' || type == 'i';
      spec.type = whole ? 'd' : type;
      const bool truncates = whole && value->is_float() && std::fabs(value->number()) < 9e18;
      out += number_text(truncates ? Value(static_cast<int64_t>(value->number())) : *value, spec);
    } else {
      throw TemplateFailure{std::string("%") + type + " format: a number is required, not " +
                            value->type_name()};
    }
  }
  if (tuple && next < tuple->items.size()) {
    throw TemplateFailure{"not all arguments converted during string formatting"};
  }
  return out;
}

std::string format_braces(std::string_view form, const Arguments& arguments) {
  std::string out;
  size_t next = 0;
  for (size_t at = 0; at < form.size(); ++at) {
    const char c = form[at];
    const bool doubled = at + 1 < form.size() && form[at + 1] == c;
    if ((c == '{' || c == '}') && doubled) {
      out += c;
      ++at;
    } else if (c == '{') {
      const size_t end = form.find('}', at);
      if (end == std::string_view::npos) throw TemplateFailure{"expected '}' before end of string"};
      std::string_view name = form.substr(at + 1, end - at - 1), spec;
      if (const size_t colon = name.find(':'); colon != std::string_view::npos) {
        spec = name.substr(colon + 1);
        name = name.substr(0, colon);
      }
      bool as_repr = false;
      if (name.size() >= 2 && name[name.size() - 2] == '!') {
        as_repr = name.back() == 'r';
        name.remove_suffix(2);
      }
      const Value& value = field(arguments, name, next);
      out += formatted(as_repr ? Value(to_repr(value)) : value, parse_spec(spec));
      at = end;
    } else if (c == '}') {
      throw TemplateFailure{"single '}' encountered in format string"};
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace orcd::jinja
