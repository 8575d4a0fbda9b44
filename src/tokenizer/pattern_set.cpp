#include "tokenizer/pattern_set.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer {

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

void append_byte(uint8_t byte, std::string& out) {
  constexpr char kHex[] = "0123456789abcdef";
  out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
}

// Unicode's script Han, as the oracle has it (oniguruma, Unicode 16).
constexpr std::array<Interval, 22> kHan = {
    {{0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},   {0x3007, 0x3007},
     {0x3021, 0x3029},   {0x3038, 0x303B},   {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},
     {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3}, {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739},
     {0x2B740, 0x2B81D}, {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2EBF0, 0x2EE5D}, {0x2F800, 0x2FA1D},
     {0x30000, 0x3134A}, {0x31350, 0x323AF}}};
// What \w holds there beyond letters, marks, letter numbers, decimal digits and connectors.
constexpr std::array<Interval, 7> kOtherWord = {{{0xB2, 0xB3},
                                                 {0xB9, 0xB9},
                                                 {0xBC, 0xBE},
                                                 {0x24B6, 0x24E9},
                                                 {0x1F130, 0x1F149},
                                                 {0x1F150, 0x1F169},
                                                 {0x1F170, 0x1F189}}};

constexpr std::string_view kFirstLetters = "LLLLLMMMNNNPPPPPPPSSSSZZZCCCC";
static_assert(kFirstLetters.size() == kCategoryCount);

}  // namespace

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

bool Property::holds(uint8_t base) const {
  const int category = category_of_class(base);
  bool inside = false;
  if (name == "s") {
    inside = is_space_class(base);
  } else if (category >= 0) {
    inside = name.size() == 1 ? kFirstLetters[category] == name[0] : category_index(name) == category;
  }
  return inside != is_negated;
}

bool SpelledSet::holds(uint8_t base, uint32_t signature) const {
  const auto has = [&](const SpelledSet& set) { return set.holds(base, signature); };
  bool inside = ascii[base] || (!intervals.empty() && ((signature >> intervals_bit) & 1u)) ||
                std::any_of(properties.begin(), properties.end(),
                            [&](const Property& property) { return property.holds(base); }) ||
                std::any_of(nested.begin(), nested.end(), has);
  inside = inside && std::all_of(narrowed_to.begin(), narrowed_to.end(), has);
  return inside != is_negated;
}

SpelledSet script_han() {
  SpelledSet set;
  set.intervals.assign(kHan.begin(), kHan.end());
  return set;
}

SpelledSet word_characters() {
  SpelledSet set;
  for (const char* name : {"L", "M", "Nd", "Nl", "Pc"}) set.properties.push_back({name, false});
  set.intervals.assign(kOtherWord.begin(), kOtherWord.end());
  return set;
}

}  // namespace orcd::tokenizer
