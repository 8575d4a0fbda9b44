// What the played CUDA runtime has done so far.
#pragma once

#include <cstdint>

namespace orcd::test {

uint64_t fake_operations_run();
uint64_t fake_operations_queued();

}  // namespace orcd::test
