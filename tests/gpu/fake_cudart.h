// What the played CUDA runtime has done so far.
#pragma once

#include <cstdint>

namespace orcd::test {

uint64_t fake_operations_run();
uint64_t fake_operations_queued();
uint64_t fake_devices_chosen();  // calls of cudaSetDevice, each of which would make a context

}  // namespace orcd::test
