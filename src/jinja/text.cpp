#include "jinja/text.h"

#include <utf8proc.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "jinja/special_casing.h"

namespace orcd::jinja {
namespace {

bool is_cased(uint32_t code_point) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT;
}

void append_upper(uint32_t code_point, bool title_case, std::string& out) {
  if (const SpecialCasing* special = find_special_casing(code_point)) {
    out += title_case ? special->title : special->upper;
    return;
  }
  const auto from = static_cast<utf8proc_int32_t>(code_point);
  const auto to = title_case ? utf8proc_totitle(from) : utf8proc_toupper(from);
  append_code_point(static_cast<uint32_t>(to), out);
}

void append_lower(uint32_t code_point, std::string& out) {
  if (code_point == 0x130) {  // I with a dot above
    out += "i\u0307";
    return;
  }
  const auto to = utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point));
  append_code_point(static_cast<uint32_t>(to), out);
}

template <class Function>
void for_each(std::string_view text, Function&& function) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    function(c, text.substr(at, c.n_bytes));
    at += c.n_bytes;
  }
}

// Greek sigma at the end of a word (Unicode, Final_Sigma, for words of cased letters).
bool is_final_sigma(std::string_view text, size_t at, bool after_cased) {
  if (!after_cased) return false;
  const size_t next = at + 2;
  return next >= text.size() || !is_cased(code_point_at(text, next).value);
}

bool is_line_end(uint32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

}  // namespace

CodePoint code_point_at(std::string_view text, size_t offset) {
  utf8proc_int32_t value = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data() + offset);
  if (*bytes < 0x80) return {*bytes, 1};
  const utf8proc_ssize_t n =
      utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size() - offset), &value);
  if (n <= 0) return {0xFFFD, 1};
  return {static_cast<uint32_t>(value), static_cast<size_t>(n)};
}

void append_code_point(uint32_t code_point, std::string& out) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes.data());
  out.append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(n));
}

size_t count_code_points(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) at += code_point_at(text, at).n_bytes;
  return count;
}

std::vector<size_t> code_point_offsets(std::string_view text) {
  std::vector<size_t> offsets;
  offsets.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size(); at += code_point_at(text, at).n_bytes) offsets.push_back(at);
  offsets.push_back(text.size());
  return offsets;
}

bool is_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_printable(uint32_t c) {
  if (c == ' ') return true;
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category != UTF8PROC_CATEGORY_CN && category < UTF8PROC_CATEGORY_ZS;
}

bool is_alphabetic(uint32_t c) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(uint32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND;
}

bool is_numeric(uint32_t c) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool has_cased(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (is_cased(c.value)) return true;
    at += c.n_bytes;
  }
  return false;
}

std::string_view strip(std::string_view text, Sides sides, const std::string* characters) {
  const auto goes = [&](const CodePoint& c, size_t at) {
    if (characters == nullptr) return is_space(c.value);
    return characters->find(text.substr(at, c.n_bytes)) != std::string::npos;
  };
  size_t begin = 0, end = text.size();
  if (sides != Sides::kRight) {
    while (begin < end) {
      const CodePoint c = code_point_at(text, begin);
      if (!goes(c, begin)) break;
      begin += c.n_bytes;
    }
  }
  if (sides != Sides::kLeft) {
    while (end > begin) {
      size_t at = end - 1;
      while (at > begin && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
      CodePoint c = code_point_at(text, at);
      if (at + c.n_bytes != end) at = end - 1, c = {0xFFFD, 1};
      if (!goes(c, at)) break;
      end = at;
    }
  }
  return text.substr(begin, end - begin);
}

std::string lower(std::string_view text) {
  std::string out;
  bool after_cased = false;
  size_t at = 0;
  for_each(text, [&](const CodePoint& c, std::string_view bytes) {
    if (c.value == 0xFFFD) {
      out += bytes;
    } else if (c.value == 0x3A3 && is_final_sigma(text, at, after_cased)) {
      out += "ς";
    } else {
      append_lower(c.value, out);
    }
    after_cased = is_cased(c.value);
    at += bytes.size();
  });
  return out;
}

std::string casefold(std::string_view text) {
  constexpr size_t kMaxFolded = 3;  // code points that one becomes (CaseFolding.txt)
  std::string out;
  for_each(text, [&](const CodePoint& c, std::string_view bytes) {
    std::array<utf8proc_int32_t, kMaxFolded> folded{};
    int last_class = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.value), folded.data(),
                                           std::ssize(folded), UTF8PROC_CASEFOLD, &last_class);
    if (c.value == 0xFFFD || n < 1 || n > std::ssize(folded)) {
      out += bytes;
      return;
    }
    for (utf8proc_ssize_t i = 0; i < n; ++i)
      append_code_point(static_cast<uint32_t>(folded[static_cast<size_t>(i)]), out);
  });
  return out;
}

std::string upper(std::string_view text) {
  std::string out;
  for_each(text, [&](const CodePoint& c, std::string_view bytes) {
    if (c.value == 0xFFFD) {
      out += bytes;
    } else {
      append_upper(c.value, false, out);
    }
  });
  return out;
}

std::string title(std::string_view text) {
  std::string out;
  bool inside = false;
  for_each(text, [&](const CodePoint& c, std::string_view bytes) {
    if (c.value == 0xFFFD) {
      out += bytes;
    } else if (inside) {
      append_lower(c.value, out);
    } else {
      append_upper(c.value, true, out);
    }
    inside = is_cased(c.value);
  });
  return out;
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  const size_t first = code_point_at(text, 0).n_bytes;
  std::string out;
  append_upper(code_point_at(text, 0).value, true, out);
  return out + lower(text.substr(first));
}

std::string concatenated(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (const std::string_view part : parts) text += part;
  return text;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    size_t next = at + c.n_bytes;
    if (is_line_end(c.value)) {
      if (c.value == '\r' && next < text.size() && text[next] == '\n') ++next;
      lines.push_back(text.substr(begin, (keep_ends ? next : at) - begin));
      begin = next;
    }
    at = next;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 32> buffer{};
  const auto scientific =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<size_t>(scientific.ptr - buffer.data()));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent < -4 || exponent >= 16) return std::string(text);  // Python writes e+16 and e-05, as this does
  std::array<char, 64> fixed{};
  const auto end = std::to_chars(fixed.data(), fixed.data() + fixed.size(), value, std::chars_format::fixed);
  std::string out(fixed.data(), end.ptr);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

std::string string_repr(std::string_view text) {
  const bool double_quotes =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string out(1, quote);
  for_each(text, [&](const CodePoint& c, std::string_view bytes) {
    std::array<char, 16> escaped{};
    if (c.value == static_cast<uint32_t>(quote) || c.value == '\\') {
      out += '\\';
      out += bytes;
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (c.value == '\r') {
      out += "\\r";
    } else if (c.value == '\t') {
      out += "\\t";
    } else if (is_printable(c.value)) {
      out += bytes;
    } else {
      const char* form = c.value < 0x100 ? "\\x%02x" : c.value < 0x10000 ? "\\u%04x" : "\\U%08x";
      std::snprintf(escaped.data(), escaped.size(), form, c.value);
      out += escaped.data();
    }
  });
  return out + quote;
}

}  // namespace orcd::jinja
