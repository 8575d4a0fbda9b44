// The generated Unicode tables (tools/unicode_tables.py): general categories, and what the oracle's NFC
// leaves alone.
#pragma once

#include <cstdint>
#include <span>

namespace orcd::tokenizer {

// (first code point << 8) | category, ascending from code point 0; a range ends where the next begins.
std::span<const uint32_t> category_ranges();
// Ascending code points that normalisation treats as starters which compose with nothing.
std::span<const uint32_t> inert_in_nfc();

}  // namespace orcd::tokenizer
