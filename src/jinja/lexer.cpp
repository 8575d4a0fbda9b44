#include "jinja/lexer.h"

#include <algorithm>
#include <array>

#include "jinja/text.h"

namespace orcd::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_word_byte(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<uint8_t>(c) >= 0x80;
}

// "\r\n" and "\r" become "\n"; one newline at the end goes.
std::string normalize_newlines(std::string_view source, bool drop_last) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (drop_last && out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) root();
    add(TokenKind::kEnd, "", at_);
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool starts(std::string_view text) const { return rest().starts_with(text); }

  Position position(size_t offset) {
    for (; counted_ < offset; counted_ += code_point_at(source_, counted_).n_bytes) {
      if (source_[counted_] == '\n') {
        ++place_.line;
        place_.column = 1;
      } else {
        ++place_.column;
      }
    }
    return place_;
  }

  // Offsets must not go back; failures may name an earlier place, so they count anew.
  [[noreturn]] void fail(size_t offset, const std::string& message) {
    counted_ = 0;
    place_ = {};
    throw syntax_error(position(offset), message);
  }

  void add(TokenKind kind, std::string text, size_t offset) {
    tokens_.push_back({kind, std::move(text), position(offset)});
  }

  void skip_spaces() {
    while (at_ < source_.size()) {
      const CodePoint c = code_point_at(source_, at_);
      if (!is_space(c.value)) return;
      at_ += c.n_bytes;
    }
  }

  // Literal text up to the next tag, then the tag.
  void root() {
    const size_t begin = at_;
    size_t tag = begin;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos) {
        add(TokenKind::kText, source_.substr(begin), begin);
        at_ = source_.size();
        return;
      }
      if (tag + 1 < source_.size() && std::string_view("{%#").find(source_[tag + 1]) != std::string::npos)
        break;
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    std::string_view text = std::string_view(source_).substr(begin, tag - begin);
    if (sign == '-') {
      text = strip(text, Sides::kRight);
    } else if (sign != '+' && kind != '{') {
      text = without_indent(text);
    }
    if (!text.empty()) add(TokenKind::kText, std::string(text), begin);
    at_ = tag + 2 + (sign == '-' || sign == '+');
    if (kind == '#') {
      comment(tag);
    } else if (kind == '{') {
      add(TokenKind::kVariableBegin, "{{", tag);
      code("}}", tag);
    } else if (!raw(tag)) {
      add(TokenKind::kBlockBegin, "{%", tag);
      code("%}", tag);
    }
    at_line_start_ = at_ > 0 && source_[at_ - 1] == '\n';
  }

  // lstrip_blocks: blanks between the line's start and a block go.
  std::string_view without_indent(std::string_view text) const {
    const size_t newline = text.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    if (line == 0 && !at_line_start_) return text;
    return strip(text.substr(line), Sides::kBoth).empty() ? text.substr(0, line) : text;
  }

  // Behind `close`: "-" takes all white space, "+" none, and nothing one newline.
  void after_block(char sign) {
    if (sign == '-') {
      skip_spaces();
    } else if (sign != '+' && at_ < source_.size() && source_[at_] == '\n') {
      ++at_;
    }
  }

  void comment(size_t begin) {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) fail(begin, "missing end of comment tag");
    const char sign =
        end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+') ? source_[end - 1] : ' ';
    at_ = end + 2;
    after_block(sign);
  }

  // {% raw %} ... {% endraw %}; false if the tag is another one.
  bool raw(size_t begin) {
    const size_t saved = at_;
    skip_spaces();
    if (!starts("raw")) return at_ = saved, false;
    at_ += 3;
    skip_spaces();
    const bool strips = starts("-%}");
    if (!strips && !starts("%}")) return at_ = saved, false;
    at_ += strips ? 3 : 2;
    if (strips) skip_spaces();
    const size_t content = at_;
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 2)) {
      at_ = tag + 2;
      const char open_sign = at_ < source_.size() ? source_[at_] : ' ';
      if (open_sign == '-' || open_sign == '+') ++at_;
      skip_spaces();
      if (!starts("endraw")) continue;
      at_ += 6;
      skip_spaces();
      const char close_sign = starts("-%}") ? '-' : starts("+%}") ? '+' : ' ';
      if (close_sign == ' ' && !starts("%}")) continue;
      at_ += close_sign == ' ' ? 2 : 3;
      std::string_view text = std::string_view(source_).substr(content, tag - content);
      if (open_sign == '-') {
        text = strip(text, Sides::kRight);
      } else if (open_sign != '+') {
        at_line_start_ = content > 0 && source_[content - 1] == '\n';
        text = without_indent(text);
      }
      if (!text.empty()) add(TokenKind::kText, std::string(text), content);
      after_block(close_sign);
      return true;
    }
    fail(begin, "missing end of raw directive");
  }

  // Expressions and statements up to `close`.
  void code(std::string_view close, size_t begin) {
    std::string open_brackets;
    for (;;) {
      skip_spaces();
      if (at_ >= source_.size()) {
        if (!open_brackets.empty())
          fail(at_, std::string("unexpected end of template, expected '") + open_brackets.back() + "'");
        fail(begin, "unexpected end of template inside a tag");
      }
      if (open_brackets.empty() && at_end(close)) return;
      token(open_brackets);
    }
  }

  bool at_end(std::string_view close) {
    const bool is_block = close == "%}";
    const char sign = source_[at_];
    const bool has_sign = sign == '-' || (sign == '+' && is_block);
    if (!rest().substr(has_sign ? 1 : 0).starts_with(close)) return false;
    add(is_block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, std::string(close), at_);
    at_ += 2 + has_sign;
    if (is_block) {
      after_block(has_sign ? sign : ' ');
    } else if (has_sign) {
      skip_spaces();
    }
    return true;
  }

  void token(std::string& open_brackets) {
    const char c = source_[at_];
    if (is_digit(c)) {
      number();
    } else if (is_word_byte(c)) {
      const size_t begin = at_;
      while (at_ < source_.size() && is_word_byte(source_[at_])) ++at_;
      add(TokenKind::kName, source_.substr(begin, at_ - begin), begin);
    } else if (c == '"' || c == '\'') {
      string();
    } else {
      operator_sign(open_brackets);
    }
  }

  // digits with single underscores between them
  void digits() {
    while (at_ < source_.size() &&
           (is_digit(source_[at_]) ||
            (source_[at_] == '_' && at_ + 1 < source_.size() && is_digit(source_[at_ + 1])))) {
      ++at_;
    }
  }

  void number() {
    const size_t begin = at_;
    bool is_float = false;
    const char kind = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : ' ';
    if (source_[at_] == '0' && (kind == 'x' || kind == 'o' || kind == 'b')) {
      at_ += 2;
      while (at_ < source_.size() && is_word_byte(source_[at_])) ++at_;
    } else {
      digits();
      const bool after_dot = !tokens_.empty() && tokens_.back().is_operator(".");
      if (!after_dot && at_ + 1 < source_.size() && source_[at_] == '.' && is_digit(source_[at_ + 1])) {
        is_float = true;
        ++at_;
        digits();
      }
      size_t exponent = at_;
      if (!after_dot && exponent < source_.size() && (source_[exponent] | 0x20) == 'e') {
        ++exponent;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
        if (exponent < source_.size() && is_digit(source_[exponent])) {
          is_float = true;
          at_ = exponent;
          digits();
        }
      }
    }
    std::string text = source_.substr(begin, at_ - begin);
    std::erase(text, '_');
    add(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(text), begin);
  }

  uint32_t hex(size_t n_digits, size_t begin) {
    uint32_t value = 0;
    for (size_t i = 0; i < n_digits; ++i, ++at_) {
      const char c = at_ < source_.size() ? static_cast<char>(source_[at_] | 0x20) : ' ';
      if (!is_digit(c) && (c < 'a' || c > 'f')) fail(begin, "truncated escape in a string");
      value = value * 16 + static_cast<uint32_t>(is_digit(c) ? c - '0' : c - 'a' + 10);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
      fail(begin, "escape of no character in a string");
    return value;
  }

  void string() {
    const size_t begin = at_;
    const char quote = source_[at_++];
    std::string text;
    for (;;) {
      if (at_ >= source_.size()) fail(begin, "a string does not end");
      const char c = source_[at_++];
      if (c == quote) break;
      if (c != '\\') {
        text += c;
        continue;
      }
      if (at_ >= source_.size()) fail(begin, "a string does not end");
      escape(source_[at_++], begin, text);
    }
    add(TokenKind::kString, std::move(text), begin);
  }

  // As in Python: an unknown escape keeps its backslash.
  void escape(char c, size_t begin, std::string& text) {
    constexpr std::string_view kNames = "\\'\"abfnrtv", kBytes = "\\'\"\a\b\f\n\r\t\v";
    if (c == '\n') return;
    if (const size_t index = kNames.find(c); index != std::string_view::npos) {
      text += kBytes[index];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      append_code_point(hex(c == 'x' ? 2 : c == 'u' ? 4 : 8, begin), text);
    } else if (c >= '0' && c <= '7') {
      uint32_t value = static_cast<uint32_t>(c - '0');
      for (int i = 0; i < 2 && at_ < source_.size() && source_[at_] >= '0' && source_[at_] <= '7'; ++i) {
        value = value * 8 + static_cast<uint32_t>(source_[at_++] - '0');
      }
      append_code_point(value, text);
    } else if (c == 'N') {
      fail(begin, "\\N{...} in a string is not supported");
    } else {
      text += '\\';
      text += c;
    }
  }

  void operator_sign(std::string& open_brackets) {
    static constexpr std::array<std::string_view, 26> kOperators = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto found = std::find_if(kOperators.begin(), kOperators.end(),
                                    [&](std::string_view sign) { return starts(sign); });
    if (found == kOperators.end()) {
      const size_t n = code_point_at(source_, at_).n_bytes;
      fail(at_, "unexpected character '" + source_.substr(at_, n) + "'");
    }
    constexpr std::string_view kOpen = "([{", kClose = ")]}";
    if (const size_t index = kOpen.find(*found); index != std::string_view::npos) {
      open_brackets += kClose[index];
    } else if (kClose.find(*found) != std::string_view::npos) {
      if (open_brackets.empty() || open_brackets.back() != found->front()) {
        fail(at_, "unexpected '" + std::string(*found) + "'");
      }
      open_brackets.pop_back();
    }
    add(TokenKind::kOperator, std::string(*found), at_);
    at_ += found->size();
  }

  std::string source_;
  size_t at_ = 0;
  bool at_line_start_ = true;
  std::vector<Token> tokens_;
  size_t counted_ = 0;
  Position place_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(normalize_newlines(source, true)).run(); }

Error syntax_error(Position at, const std::string& message) {
  return Error(ErrorCode::kModelLoadFailed, "the chat template cannot be read: " + message,
               {{"line", uint64_t{at.line}}, {"column", uint64_t{at.column}}},
               "give the prompt ready-made; chat is off for this model");
}

}  // namespace orcd::jinja
