// A kernel that traps: the context of the process's device is lost.
#pragma once

namespace orcd::test {

// Returns the text of the error that the device answers with.
const char* destroy_context(int device);

}  // namespace orcd::test
