// Text as Python's str has it: a sequence of code points, kept as UTF-8. Bytes that are not UTF-8 count as
// one code point each.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace orcd::jinja {

struct CodePoint {
  uint32_t value = 0;  // U+FFFD for a byte that is not UTF-8
  size_t n_bytes = 1;
};
CodePoint code_point_at(std::string_view text, size_t offset);  // REQUIRES offset < text.size()
void append_code_point(uint32_t code_point, std::string& out);
size_t count_code_points(std::string_view text);
// Offsets of the code points and the size of the text: one element more than it has code points.
std::vector<size_t> code_point_offsets(std::string_view text);

bool is_space(uint32_t code_point);       // str.isspace
bool is_printable(uint32_t code_point);   // str.isprintable
bool is_alphabetic(uint32_t code_point);  // str.isalpha
bool is_decimal(uint32_t code_point);     // str.isdecimal
bool is_numeric(uint32_t code_point);     // categories Nd, Nl, No
bool has_cased(std::string_view text);    // holds a letter of upper, lower or title case

enum class Sides { kBoth, kLeft, kRight };
// str.strip and its kin: white space, or the code points of `*characters`.
std::string_view strip(std::string_view text, Sides sides, const std::string* characters = nullptr);

// str.lower, .casefold, .upper, .title, .capitalize with the full mappings of Unicode.
std::string lower(std::string_view text);
std::string casefold(std::string_view text);
std::string upper(std::string_view text);
std::string title(std::string_view text);
std::string capitalize(std::string_view text);

std::string concatenated(std::initializer_list<std::string_view> parts);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends = false);  // str.splitlines

std::string float_text(double value);            // repr(float): the shortest digits that read back the same
std::string string_repr(std::string_view text);  // repr(str)

}  // namespace orcd::jinja
