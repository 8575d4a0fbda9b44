// Characters that become several in upper or title case (Unicode, SpecialCasing.txt, the unconditional part).
#pragma once

#include <cstdint>
#include <string_view>

namespace orcd::jinja {

struct SpecialCasing {
  uint32_t code_point;
  std::string_view upper, title;
};
// nullptr for a character that becomes one.
const SpecialCasing* find_special_casing(uint32_t code_point);

}  // namespace orcd::jinja
