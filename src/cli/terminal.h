// Text of others on a terminal.
#pragma once

namespace orcd::cli {

// A control character: printed raw it would end the line, move the cursor or change colours.
constexpr bool moves_cursor(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

}  // namespace orcd::cli
