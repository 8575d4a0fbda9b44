// What commands print on stdout: written, or told as an error. Throws Error(kInternal) with the system's
// reason.
#pragma once

#include <string_view>

namespace orcd::cli {

// To a reader who waits for it: nothing stays in a buffer.
void print_now(std::string_view text);
// What was printed before, by whichever function, is written.
void flush_output();

}  // namespace orcd::cli
