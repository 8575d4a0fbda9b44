// The weights' part of a residency check, the same for every device.
#pragma once

#include <span>

#include "device/device.h"

namespace orcd::device {

// Chains the digests, now and as loaded, and names the first weight that differs.
inline void compare_weights(const model::Program& program, std::span<const numerics::Digest> now,
                            std::span<const numerics::Digest> expected, Executor::Residency* out) {
  for (size_t id = 0; id < now.size(); ++id) {
    numerics::digest_chain(&out->digest, now[id]);
    numerics::digest_chain(&out->expected, expected[id]);
    if (!(now[id] == expected[id]) && out->first_mismatch.empty())
      out->first_mismatch = program.weights[id].name;
  }
}

}  // namespace orcd::device
