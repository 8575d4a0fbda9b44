#include "tokenizer/pattern.h"

#include <algorithm>
#include <bitset>
#include <cctype>
#include <set>

#include "base/error.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer {

using ClassSet = std::bitset<256>;

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

// The category that a class without ranges stands for; -1 for bytes that are not UTF-8.
int category_of_class(uint8_t base) {
  if (base < 0x80) return static_cast<int>(category_of(base));
  if (base == ClassAlphabet::kNextLine) return static_cast<int>(Category::kCc);
  if (base == ClassAlphabet::kLongS) return static_cast<int>(Category::kLl);
  if (base == ClassAlphabet::kKelvin) return static_cast<int>(Category::kLu);
  return base == ClassAlphabet::kInvalid ? -1 : base - ClassAlphabet::kFirstCategory;
}

bool is_space_class(uint8_t base) {
  if (base < 0x80) return base == ' ' || (base >= '\t' && base <= '\r');
  const int category = category_of_class(base);
  return base == ClassAlphabet::kNextLine || category == static_cast<int>(Category::kZs) ||
         category == static_cast<int>(Category::kZl) || category == static_cast<int>(Category::kZp);
}

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

void append_byte(uint8_t byte, std::string& out) {
  constexpr char kHex[] = "0123456789abcdef";
  out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
}

std::string write_set(const ClassSet& set) {
  if (set.none()) return "(?!)";
  std::string out = "[";
  for (int first = 0; first < 256; ++first) {
    if (!set[first]) continue;
    int last = first;
    while (last < 255 && set[last + 1]) ++last;
    append_byte(static_cast<uint8_t>(first), out);
    if (last > first) {
      out += '-';
      append_byte(static_cast<uint8_t>(last), out);
    }
    first = last;
  }
  return out + "]";
}

using Interval = std::pair<uint32_t, uint32_t>;

// A character set as the pattern spells it, before the alphabet is known.
struct Spelled {
  ClassSet ascii;
  std::vector<std::pair<std::string, bool>> properties;  // name, negated
  std::vector<Interval> intervals;                       // beyond ASCII
};

}  // namespace

// Runs over the patterns twice: first to collect the sets that need classes of their own, then to write.
class PatternCompiler {
 public:
  CompiledPatterns run(std::span<const std::string_view> patterns) {
    CompiledPatterns result;
    for (const std::string_view pattern : patterns) rewrite(pattern);
    build_classes();
    writing_ = true;
    next_set_ = 0;
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
  bool take_escape(Spelled& set, uint32_t& character) {
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
        set.properties.emplace_back("s", false);
        return false;
      case 'S':
        set.properties.emplace_back("s", true);
        return false;
      case 'd':
        set.properties.emplace_back("Nd", false);
        return false;
      case 'D':
        set.properties.emplace_back("Nd", true);
        return false;
      case 'p':
      case 'P': {
        if (!take_if("{")) refuse("\\p without braces");
        const bool negated = take_if("^") != (c == 'P');
        const size_t close = pattern_.find('}', at_);
        if (close == std::string_view::npos) throw_truncated();
        const std::string name(pattern_.substr(at_, close - at_));
        const bool one_letter =
            name.size() == 1 && std::string_view("LMNPSZC").find(name[0]) != std::string_view::npos;
        if (!one_letter && category_index(name) < 0) refuse("the property \\p{" + name + "}");
        at_ = close + 1;
        set.properties.emplace_back(name, negated);
        return false;
      }
      default:
        if (is_alphanumeric(c)) refuse(std::string("the escape \\") + c);
        --at_;
        character = take_character();
        return true;
    }
  }

  void add_range(Spelled& set, uint32_t first, uint32_t last) {
    if (last < first) refuse("a range that runs backwards");
    for (uint32_t c = first; c <= std::min(last, 0x7Fu); ++c) set.ascii.set(c);
    if (last >= 0x80) set.intervals.emplace_back(std::max(first, 0x80u), last);
  }

  void add_any_case(Spelled& set, uint32_t c, bool ignore_case) {
    add_range(set, c, c);
    if (!ignore_case) return;
    if (c >= 0x80) refuse("a caseless character beyond ASCII");
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') add_range(set, c ^ 0x20, c ^ 0x20);
    if ((c | 0x20) == 's') add_range(set, 0x17F, 0x17F);
    if ((c | 0x20) == 'k') add_range(set, 0x212A, 0x212A);
  }

  // After '['. Nested sets and intersections are not known in the field and are refused.
  std::string take_set(bool ignore_case) {
    Spelled set;
    const bool negated = take_if("^");
    bool first_item = true;
    while (first_item || peek() != ']') {
      first_item = false;
      if (peek() == '[') refuse("a set inside a set");
      if (pattern_.substr(at_, 2) == "&&") refuse("an intersection of sets");
      uint32_t low = 0;
      if (!take_item(set, low)) continue;
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
    ++at_;
    return emit(set, negated);
  }
  bool take_item(Spelled& set, uint32_t& character) {
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

  std::string rewrite(std::string_view pattern) {
    pattern_ = pattern;
    at_ = 0;
    ignore_case_.assign(1, take_if("(?i)"));
    std::string out;
    while (!done()) {
      const bool ignore_case = ignore_case_.back();
      const char c = peek();
      if (c == '[') {
        ++at_;
        out += take_set(ignore_case);
      } else if (c == '(') {
        ++at_;
        out += take_group_head(ignore_case);
      } else if (c == ')') {
        ++at_;
        if (ignore_case_.size() == 1) refuse("an unmatched )");
        ignore_case_.pop_back();
        out += ')';
      } else if (c == '{') {
        const size_t close = pattern_.find('}', at_);
        const std::string_view inside =
            pattern_.substr(at_ + 1, close == std::string_view::npos ? 0 : close - at_ - 1);
        if (inside.empty() || inside.find_first_not_of("0123456789,") != std::string_view::npos)
          refuse("a bare {");
        out += pattern_.substr(at_, close + 1 - at_);
        at_ = close + 1;
      } else if (std::string_view("|*+?^$.").find(c) != std::string_view::npos) {
        ++at_;
        out += c;
      } else {
        Spelled set;
        uint32_t character = 0;
        if (take_item(set, character)) add_any_case(set, character, ignore_case);
        out += emit(set, false);
      }
    }
    if (ignore_case_.size() != 1) throw_truncated();
    return out;
  }

  // First pass: remembers the spelled-out intervals. Second pass: the set over the alphabet's bytes.
  std::string emit(const Spelled& set, bool negated) {
    const size_t index = next_set_;
    if (!set.intervals.empty()) ++next_set_;
    if (!writing_) {
      if (set.intervals.empty()) return {};
      if (next_set_ > 32) refuse("more than 32 spelled-out sets");
      sets_.push_back(set.intervals);
      return {};
    }
    ClassSet classes = set.ascii;
    for (int byte = 0; byte < ClassAlphabet::kFirstRange; ++byte) {
      if (has_property(set, static_cast<uint8_t>(byte))) classes.set(byte);
    }
    for (const auto& [key, byte] : alphabet_.classes_) {
      const bool spelled = !set.intervals.empty() && ((key.second >> index) & 1u);
      if (spelled || has_property(set, key.first)) classes.set(byte);
    }
    return write_set(negated ? ~classes : classes);
  }

  static bool has_property(const Spelled& set, uint8_t base) {
    if (base >= ClassAlphabet::kFirstCategory + kCategoryCount && base < ClassAlphabet::kNextLine)
      return false;
    return std::any_of(set.properties.begin(), set.properties.end(), [&](const auto& property) {
      const auto& [name, negated] = property;
      const int category = category_of_class(base);
      bool inside = false;
      if (name == "s") {
        inside = is_space_class(base);
      } else if (category >= 0) {
        inside = name.size() == 1 ? kFirstLetters[category] == name[0] : category_index(name) == category;
      }
      return inside != negated;
    });
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

  static constexpr std::string_view kFirstLetters = "LLLLLMMMNNNPPPPPPPSSSSZZZCCCC";
  static_assert(kFirstLetters.size() == kCategoryCount);

  std::string_view pattern_;
  size_t at_ = 0;
  std::vector<bool> ignore_case_;
  std::vector<std::vector<Interval>> sets_;
  size_t next_set_ = 0;
  bool writing_ = false;
  ClassAlphabet alphabet_;
};

CompiledPatterns compile_patterns(std::span<const std::string_view> patterns) {
  return PatternCompiler().run(patterns);
}

}  // namespace orcd::tokenizer
