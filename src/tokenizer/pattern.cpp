#include "tokenizer/pattern.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "base/error.h"
#include "tokenizer/pattern_set.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer {

uint8_t property_class(uint32_t code_point) {
  if (code_point < 0x80) return static_cast<uint8_t>(code_point);
  if (code_point == 0x85) return ClassAlphabet::kNextLine;
  if (code_point == 0x17F) return ClassAlphabet::kLongS;
  if (code_point == 0x212A) return ClassAlphabet::kKelvin;
  return static_cast<uint8_t>(ClassAlphabet::kFirstCategory + static_cast<uint8_t>(category_of(code_point)));
}

uint32_t ClassAlphabet::signature_of(uint32_t code_point) const {
  auto after = std::upper_bound(segments_.begin(), segments_.end(), code_point,
                                [](uint32_t value, const Segment& segment) { return value < segment.first; });
  return after == segments_.begin() ? 0 : std::prev(after)->signature;
}

uint8_t ClassAlphabet::class_of(uint32_t code_point) const {
  const uint8_t base = property_class(code_point);
  if (base < 0x80 || segments_.empty()) return base;
  const uint32_t signature = signature_of(code_point);
  return signature == 0 ? base : classes_.at({base, signature});
}

namespace {

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

}  // namespace

// Runs over the patterns twice: first to collect the sets that need classes of their own, then to write.
class PatternCompiler {
 public:
  CompiledPatterns run(std::span<const std::string_view> patterns) {
    CompiledPatterns result;
    for (const std::string_view pattern : patterns) rewrite(pattern);
    build_classes();
    writing_ = true;
    for (const std::string_view pattern : patterns) result.expressions.push_back(rewrite(pattern));
    result.alphabet = std::move(alphabet_);
    return result;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorCode::kModelLoadFailed,
                "pre-tokenizer expression uses " + what + ", which is not supported",
                {{"field", std::string("pre_tokenizer")},
                 {"pattern", std::string(pattern_)},
                 {"position", uint64_t{at_}}},
                "use a vocabulary of a supported pre-tokenizer family");
  }
  bool done() const { return at_ >= pattern_.size(); }
  char peek() const {
    if (done()) throw_truncated();
    return pattern_[at_];
  }
  [[noreturn]] void throw_truncated() const { refuse("an expression that ends too early"); }
  char take() {
    const char c = peek();
    ++at_;
    return c;
  }
  bool take_if(std::string_view text) {
    if (pattern_.substr(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
  }
  uint32_t take_character() {
    const Utf8Char c = decode_utf8(pattern_.substr(at_));
    if (c.status != Utf8Status::kValid) refuse("bytes that are not UTF-8");
    at_ += c.n_bytes;
    return c.code_point;
  }
  uint32_t take_hex(size_t n_max) {
    uint32_t value = 0;
    size_t n = 0;
    for (; n < n_max && !done() && std::isxdigit(static_cast<unsigned char>(peek())); ++n) {
      const char c = take();
      value = value * 16 + static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (n == 0 || value >= 0x110000) refuse("a malformed hexadecimal escape");
    return value;
  }

  // After a backslash: either one character (returned in `character`) or a property added to `set`.
  bool take_escape(SpelledSet& set, uint32_t& character) {
    const char c = take();
    switch (c) {
      case 'n':
        character = '\n';
        return true;
      case 'r':
        character = '\r';
        return true;
      case 't':
        character = '\t';
        return true;
      case 'f':
        character = '\f';
        return true;
      case 'v':
        character = '\v';
        return true;
      case '0':
        character = 0;
        return true;
      case 'u':
        character = take_hex(4);
        return true;
      case 'x':
        if (take_if("{")) {
          character = take_hex(8);
          if (!take_if("}")) refuse("a malformed hexadecimal escape");
        } else {
          character = take_hex(2);
        }
        return true;
      case 's':
      case 'S':
        set.properties.push_back({"s", c == 'S'});
        return false;
      case 'd':
      case 'D':
        set.properties.push_back({"Nd", c == 'D'});
        return false;
      case 'w':
      case 'W':
        set.nested.push_back(numbered(word_characters(), c == 'W'));
        return false;
      case 'p':
      case 'P':
        take_property(set, c == 'P');
        return false;
      default:
        if (is_alphanumeric(c)) refuse(std::string("the escape \\") + c);
        --at_;
        character = take_character();
        return true;
    }
  }

  // After \p or \P.
  void take_property(SpelledSet& set, bool is_negated) {
    if (!take_if("{")) refuse("\\p without braces");
    is_negated = take_if("^") != is_negated;
    const size_t close = pattern_.find('}', at_);
    if (close == std::string_view::npos) throw_truncated();
    const std::string name(pattern_.substr(at_, close - at_));
    const bool is_one_letter =
        name.size() == 1 && std::string_view("LMNPSZC").find(name[0]) != std::string_view::npos;
    if (name == "Han") {
      set.nested.push_back(numbered(script_han(), is_negated));
    } else if (is_one_letter || category_index(name) >= 0) {
      set.properties.push_back({name, is_negated});
    } else {
      refuse("the property \\p{" + name + "}");
    }
    at_ = close + 1;
  }

  // Gives the set's intervals their bit of the signature: the same in both passes, and of equal intervals.
  SpelledSet numbered(SpelledSet set, bool is_negated) {
    set.is_negated = is_negated;
    if (set.intervals.empty()) return set;
    const auto known = std::find(sets_.begin(), sets_.end(), set.intervals);
    set.intervals_bit = static_cast<size_t>(known - sets_.begin());
    if (known == sets_.end()) sets_.push_back(set.intervals);
    if (sets_.size() > 32) refuse("more than 32 spelled-out sets");
    return set;
  }

  void add_range(SpelledSet& set, uint32_t first, uint32_t last) {
    if (last < first) refuse("a range that runs backwards");
    for (uint32_t c = first; c <= std::min(last, 0x7Fu); ++c) set.ascii.set(c);
    if (last >= 0x80) set.intervals.emplace_back(std::max(first, 0x80u), last);
  }

  void add_any_case(SpelledSet& set, uint32_t c, bool ignore_case) {
    add_range(set, c, c);
    if (!ignore_case) return;
    if (c >= 0x80) refuse("a caseless character beyond ASCII");
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') add_range(set, c ^ 0x20, c ^ 0x20);
    if ((c | 0x20) == 's') add_range(set, 0x17F, 0x17F);
    if ((c | 0x20) == 'k') add_range(set, 0x212A, 0x212A);
  }

  // After '['.
  SpelledSet take_set(bool ignore_case) {
    constexpr int kMaxDepth = 8;
    if (++set_depth_ > kMaxDepth) refuse("sets more than 8 deep");
    SpelledSet set;
    const bool is_negated = take_if("^");
    bool is_first = true;
    while (is_first || peek() != ']') {
      if (take_if("&&")) {
        while (peek() != ']') set.narrowed_to.push_back(take_narrowing(ignore_case));
        break;
      }
      is_first = false;
      if (take_if("[")) {
        if (peek() == ':') refuse("a POSIX set");
        set.nested.push_back(take_set(ignore_case));
      } else {
        take_member(set, ignore_case);
      }
    }
    if (!take_if("]")) throw_truncated();
    --set_depth_;
    return numbered(std::move(set), is_negated);
  }

  // What stands between && and the next &&, or the ']' that ends the set around it.
  SpelledSet take_narrowing(bool ignore_case) {
    SpelledSet set;
    while (peek() != ']' && !take_if("&&")) {
      if (take_if("[")) {
        set.nested.push_back(take_set(ignore_case));
      } else {
        take_member(set, ignore_case);
      }
    }
    return numbered(std::move(set), false);
  }

  // A character, a range or a class.
  void take_member(SpelledSet& set, bool ignore_case) {
    uint32_t low = 0;
    if (!take_item(set, low)) return;
    if (pattern_.size() > at_ + 1 && pattern_[at_] == '-' && pattern_[at_ + 1] != ']') {
      ++at_;
      uint32_t high = 0;
      if (!take_item(set, high)) refuse("a range that ends in a class");
      if (ignore_case) refuse("a caseless range");
      add_range(set, low, high);
    } else {
      add_any_case(set, low, ignore_case);
    }
  }

  bool take_item(SpelledSet& set, uint32_t& character) {
    if (take_if("\\")) return take_escape(set, character);
    character = take_character();
    return true;
  }

  // After '(': copies the group's head and says whether case is ignored inside.
  std::string take_group_head(bool outer) {
    bool ignore_case = outer;
    std::string head = "(?:";
    if (take_if("?")) {
      if (take_if("i:")) {
        ignore_case = true;
      } else if (take_if("<=")) {
        head = "(?<=";
      } else if (take_if("<!")) {
        head = "(?<!";
      } else {
        const char c = take();
        if (c != ':' && c != '=' && c != '!' && c != '>') refuse(std::string("the group (?") + c);
        head = std::string("(?") + c;
      }
    }
    ignore_case_.push_back(ignore_case);
    return head;
  }

  // After what `out` holds from `atom` on: {n}, {n,}, {n,m} or {,m}. As in Ruby, which the oracle's engine
  // follows, a + behind it repeats the whole, and so does the ? behind {n}: neither changes how it matches.
  void take_interval(size_t atom, std::string& out) {
    constexpr std::string_view kDigits = "0123456789";
    const size_t close = pattern_.find('}', at_);
    if (close == std::string_view::npos) refuse("a bare {");
    const std::string_view inside = pattern_.substr(at_ + 1, close - at_ - 1);
    const size_t comma = inside.find(',');
    const std::string low(inside.substr(0, comma));
    const std::string high(comma == std::string_view::npos ? "" : inside.substr(comma + 1));
    if ((low + high).empty() || (low + high).find_first_not_of(kDigits) != std::string::npos)
      refuse("a bare {");
    at_ = close + 1;
    const bool is_exact = comma == std::string_view::npos;
    const bool is_repeated = !done() && (peek() == '+' || (peek() == '?' && is_exact));
    if (is_repeated) out.insert(atom, "(?:");
    out += '{' + (low.empty() ? "0" : low) + (is_exact ? "" : ',' + high) + '}';
    if (is_repeated) out += ')';
  }

  std::string rewrite(std::string_view pattern) {
    pattern_ = pattern;
    at_ = 0;
    ignore_case_.assign(1, take_if("(?i)"));
    std::string out;
    std::vector<size_t> groups;  // where the open ones begin in `out`
    size_t atom = 0;             // where that begins which a quantifier would repeat
    while (!done()) {
      const bool ignore_case = ignore_case_.back();
      const char c = peek();
      if (c == '{') {
        take_interval(atom, out);
        continue;
      }
      if (std::string_view("|*+?").find(c) != std::string_view::npos) {
        ++at_;
        out += c;
        continue;
      }
      atom = out.size();
      if (c == '[') {
        ++at_;
        out += emit(take_set(ignore_case));
      } else if (c == '(') {
        ++at_;
        groups.push_back(atom);
        out += take_group_head(ignore_case);
      } else if (c == ')') {
        ++at_;
        if (groups.empty()) refuse("an unmatched )");
        ignore_case_.pop_back();
        atom = groups.back();
        groups.pop_back();
        out += ')';
      } else if (c == '^' || c == '$') {  // of a line, as the oracle's engine has it
        ++at_;
        out += std::string("(?m:") + c + ")";
      } else if (c == '.') {
        ++at_;
        out += c;
      } else {
        SpelledSet set;
        uint32_t character = 0;
        if (take_item(set, character)) add_any_case(set, character, ignore_case);
        out += emit(numbered(std::move(set), false));
      }
    }
    if (!groups.empty()) throw_truncated();
    return out;
  }

  // The set over the alphabet's bytes; nothing in the first pass, when the alphabet is not known.
  std::string emit(const SpelledSet& set) const {
    if (!writing_) return {};
    ClassSet classes;
    for (int byte = 0; byte < ClassAlphabet::kFirstRange; ++byte) {
      if (set.holds(static_cast<uint8_t>(byte), 0)) classes.set(byte);
    }
    for (const auto& [key, byte] : alphabet_.classes_) {
      if (set.holds(key.first, key.second)) classes.set(byte);
    }
    return write_set(classes);
  }

  void build_classes() {
    std::set<uint32_t> edges;
    for (const auto& intervals : sets_) {
      for (const auto& [first, last] : intervals) {
        edges.insert(first);
        edges.insert(last + 1);
      }
    }
    if (edges.empty()) return;
    uint32_t n_classes = ClassAlphabet::kFirstRange;
    for (auto edge = edges.begin(); edge != edges.end(); ++edge) {
      uint32_t signature = 0;
      for (size_t i = 0; i < sets_.size(); ++i) {
        for (const auto& [first, last] : sets_[i]) {
          if (*edge >= first && *edge <= last) signature |= 1u << i;
        }
      }
      alphabet_.segments_.push_back({*edge, signature});
      if (signature == 0) continue;
      const uint32_t end = std::next(edge) == edges.end() ? 0x110000 : *std::next(edge);
      for (uint32_t c = *edge; c < end; ++c) {
        auto [entry, added] = alphabet_.classes_.try_emplace({property_class(c), signature}, 0);
        if (!added) continue;
        if (n_classes > 255) refuse("too many spelled-out ranges");
        entry->second = static_cast<uint8_t>(n_classes++);
      }
    }
  }

  std::string_view pattern_;
  size_t at_ = 0;
  std::vector<bool> ignore_case_;
  std::vector<std::vector<Interval>> sets_;
  int set_depth_ = 0;
  bool writing_ = false;
  ClassAlphabet alphabet_;
};

CompiledPatterns compile_patterns(std::span<const std::string_view> patterns) {
  return PatternCompiler().run(patterns);
}

}  // namespace orcd::tokenizer
