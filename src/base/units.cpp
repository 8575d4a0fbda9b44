#include "base/units.h"

#include <cstdio>

namespace orcd {

std::string format_bytes(uint64_t bytes) {
  static constexpr const char* kNames[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1000.0 && unit < 4) {
    value /= 1000.0;
    ++unit;
  }
  char text[64];
  if (unit == 0) {
    std::snprintf(text, sizeof text, "%llu B", static_cast<unsigned long long>(bytes));
  } else {
    std::snprintf(text, sizeof text, "%.1f %s (%llu)", value, kNames[unit],
                  static_cast<unsigned long long>(bytes));
  }
  return text;
}

}  // namespace orcd
