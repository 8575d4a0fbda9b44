// A digest as 32 hexadecimal digits.
#pragma once

#include <cstdio>
#include <string>

#include "numerics/digest.h"

namespace orcd::cli {

inline std::string digest_text(const numerics::Digest& digest) {
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(digest.a),
                static_cast<unsigned long long>(digest.b));
  return text;
}

}  // namespace orcd::cli
