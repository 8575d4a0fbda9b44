// The version of this build.
#pragma once

namespace orcd::cli {

inline constexpr const char* kVersion = ORCD_VERSION;

}  // namespace orcd::cli
