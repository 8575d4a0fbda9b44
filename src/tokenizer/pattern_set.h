// Sets of characters as an expression spells them, before the classes that pattern.h makes of them are known.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace orcd::tokenizer {

using ClassSet = std::bitset<256>;
using Interval = std::pair<uint32_t, uint32_t>;  // of code points, both ends inside

struct Property {
  std::string name;  // "Lu", "L", or "s" for white space
  bool is_negated;

  bool holds(uint8_t base) const;
};

// The union of its parts, then narrowed to each of `narrowed_to`, then negated.
struct SpelledSet {
  ClassSet ascii;
  std::vector<Property> properties;
  std::vector<Interval> intervals;  // beyond ASCII
  size_t intervals_bit = 0;         // of the signature, where there are intervals
  std::vector<SpelledSet> nested;
  std::vector<SpelledSet> narrowed_to;
  bool is_negated = false;

  // `base`: a class by properties alone; `signature`: the spelled-out sets that the character is in.
  bool holds(uint8_t base, uint32_t signature) const;
};

SpelledSet script_han();       // \p{Han}
SpelledSet word_characters();  // \w

// The classes as a set of bytes in an expression.
std::string write_set(const ClassSet& set);

}  // namespace orcd::tokenizer
