#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/unicode_tables.h"

namespace orcd::tokenizer {
namespace {

constexpr uint32_t kCodePoints = 0x110000;
constexpr uint32_t kPageBits = 8;
constexpr uint32_t kPageSize = 1u << kPageBits;

constexpr std::array<std::string_view, kCategoryCount> kCategoryNames = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn"};

// Two stages: a page number for every 256 code points, equal pages stored once.
struct CategoryTable {
  std::array<uint16_t, kCodePoints / kPageSize> page_of{};
  std::vector<std::array<uint8_t, kPageSize>> pages;

  CategoryTable() {
    const auto ranges = category_ranges();
    size_t range = 0;
    std::array<uint8_t, kPageSize> page{};
    for (uint32_t first = 0; first < kCodePoints; first += kPageSize) {
      for (uint32_t i = 0; i < kPageSize; ++i) {
        while (range + 1 < ranges.size() && (ranges[range + 1] >> 8) <= first + i) ++range;
        page[i] = static_cast<uint8_t>(ranges[range] & 0xFF);
      }
      // Neighbours are alike (whole planes of Lo, Co, Cn), so looking back over a few pages finds most
      // repeats.
      auto found = std::find(pages.rbegin(), pages.rend(), page);
      if (found == pages.rend()) {
        pages.push_back(page);
        page_of[first >> kPageBits] = static_cast<uint16_t>(pages.size() - 1);
      } else {
        page_of[first >> kPageBits] = static_cast<uint16_t>(pages.rend() - found - 1);
      }
    }
  }
};

bool is_continuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

// Below U+0300 every character is its own NFC and composes with nothing before it.
bool may_change(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) >= 0xCC; });
}

// Characters with a compatibility decomposition that is younger than the oracle's normalisation.
constexpr std::array<std::pair<uint32_t, uint32_t>, 9> kWholeInOracle = {{{0x32FF, 0x32FF},
                                                                          {0xA7F1, 0xA7F4},
                                                                          {0xAB69, 0xAB69},
                                                                          {0x10781, 0x10785},
                                                                          {0x10787, 0x107B0},
                                                                          {0x107B2, 0x107BA},
                                                                          {0x1E030, 0x1E06D},
                                                                          {0x1F16C, 0x1F16C},
                                                                          {0x1FBF0, 0x1FBF9}}};

bool is_inert(uint32_t code_point, UnicodeForm form) {
  const auto inert = inert_in_nfc();
  if (std::binary_search(inert.begin(), inert.end(), code_point)) return true;
  if (form == UnicodeForm::kNfc || form == UnicodeForm::kNfd) return false;
  return std::ranges::any_of(kWholeInOracle, [&](const auto& range) {
    return code_point >= range.first && code_point <= range.second;
  });
}

int combining_class(int32_t code_point) { return utf8proc_get_property(code_point)->combining_class; }

// utf8proc's own ordering of marks is quadratic in the length of a run, and texts come from outside.
void order_marks(std::vector<int32_t>& code_points) {
  const auto by_class = [](int32_t a, int32_t b) { return combining_class(a) < combining_class(b); };
  for (size_t begin = 0; begin < code_points.size(); ++begin) {
    size_t end = begin;
    while (end < code_points.size() && combining_class(code_points[end]) != 0) ++end;
    if (end - begin > 1) std::stable_sort(code_points.begin() + begin, code_points.begin() + end, by_class);
    begin = end;
  }
}

utf8proc_option_t options_of(UnicodeForm form) {
  int options = UTF8PROC_STABLE;
  options |= form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd) options |= UTF8PROC_COMPAT;
  return static_cast<utf8proc_option_t>(options);
}

void append_form_of_valid(std::string_view text, UnicodeForm form, std::string& out) {
  if (form == UnicodeForm::kNfc && !may_change(text)) {
    out.append(text);
    return;
  }
  const utf8proc_option_t options = options_of(form);
  constexpr int kMaxExpansion = 32;
  std::vector<int32_t> code_points;
  code_points.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    int32_t parts[kMaxExpansion];
    int boundary = 0;
    const auto n =
        utf8proc_decompose_char(static_cast<int32_t>(c.code_point), parts, kMaxExpansion, options, &boundary);
    if (n < 0 || n > kMaxExpansion) {
      throw Error(ErrorCode::kInternal, "Unicode normalisation failed",
                  {{"code_point", uint64_t{c.code_point}}});
    }
    code_points.insert(code_points.end(), parts, parts + n);
    text.remove_prefix(c.n_bytes);
  }
  order_marks(code_points);
  const auto n = utf8proc_normalize_utf32(code_points.data(),
                                          static_cast<utf8proc_ssize_t>(code_points.size()), options);
  if (n < 0)
    throw Error(ErrorCode::kInternal, "Unicode normalisation failed: " + std::string(utf8proc_errmsg(n)));
  for (utf8proc_ssize_t i = 0; i < n; ++i) append_utf8(static_cast<uint32_t>(code_points[i]), out);
}

}  // namespace

int category_index(std::string_view name) {
  const auto found = std::find(kCategoryNames.begin(), kCategoryNames.end(), name);
  return found == kCategoryNames.end() ? -1 : static_cast<int>(found - kCategoryNames.begin());
}

Category category_of(uint32_t code_point) {
  static const CategoryTable table;
  const uint16_t page = table.page_of[code_point >> kPageBits];
  return static_cast<Category>(table.pages[page][code_point & (kPageSize - 1)]);
}

Utf8Char decode_utf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, Utf8Status::kValid};
  uint8_t length = 0;
  uint8_t low =
      0x80;  // bounds of the second byte: they shut out overlong forms, surrogates and beyond U+10FFFF
  uint8_t high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {0xFFFD, 1, Utf8Status::kInvalid};
  }
  uint32_t code_point = lead & (0x7Fu >> length);
  for (uint8_t i = 1; i < length; ++i) {
    if (i == text.size()) return {0xFFFD, i, Utf8Status::kIncomplete};
    const bool fits = i == 1 ? byte(1) >= low && byte(1) <= high : is_continuation(byte(i));
    if (!fits) return {0xFFFD, i, Utf8Status::kInvalid};
    code_point = (code_point << 6) | (byte(i) & 0x3Fu);
  }
  return {code_point, length, Utf8Status::kValid};
}

void append_utf8(uint32_t code_point, std::string& out) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

bool is_white_space(uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  const Category category = category_of(c);
  return c == 0x85 || category == Category::kZs || category == Category::kZl || category == Category::kZp;
}

bool is_mark(uint32_t c) {
  const Category category = category_of(c);
  return category == Category::kMn || category == Category::kMc || category == Category::kMe;
}

bool is_word(uint32_t c) {
  const bool is_enclosed_letter = (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
                                  (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
  if (c == 0x200C || c == 0x200D || is_enclosed_letter) return true;
  const Category category = category_of(c);
  return category <= Category::kLo || is_mark(c) || category == Category::kNd || category == Category::kNl ||
         category == Category::kPc;
}

namespace {

// Capitals that are younger than utf8proc's Unicode; 0 for others.
uint32_t young_lowercase(uint32_t c) {
  constexpr std::array<std::pair<uint32_t, uint32_t>, 8> kPairs = {{{0x1C89, 0x1C8A},
                                                                    {0xA7CB, 0x264},
                                                                    {0xA7CC, 0xA7CD},
                                                                    {0xA7CE, 0xA7CF},
                                                                    {0xA7D2, 0xA7D3},
                                                                    {0xA7D4, 0xA7D5},
                                                                    {0xA7DA, 0xA7DB},
                                                                    {0xA7DC, 0x19B}}};
  if (c >= 0x10D50 && c <= 0x10D65) return c + 0x20;  // Garay
  if (c >= 0x16EA0 && c <= 0x16EB8) return c + 0x1B;  // Beria Erfe
  const auto* found = std::ranges::find(kPairs, c, &std::pair<uint32_t, uint32_t>::first);
  return found == kPairs.end() ? 0 : found->second;
}

}  // namespace

void append_lowercase(uint32_t c, std::string& out) {
  const uint32_t young = young_lowercase(c);
  const auto lower = young != 0 ? young : static_cast<uint32_t>(utf8proc_tolower(static_cast<int32_t>(c)));
  append_utf8(c == 0x130 ? 'i' : lower, out);
  if (c == 0x130) append_utf8(0x307, out);  // the one character whose lower case is two
}

std::string normalized(std::string_view text, UnicodeForm form) {
  std::string out;
  out.reserve(text.size());
  size_t start = 0;  // of the stretch not yet normalised
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Char next = decode_utf8(text.substr(at));
    if (next.status != Utf8Status::kValid || (next.code_point >= 0x300 && is_inert(next.code_point, form))) {
      append_form_of_valid(text.substr(start, at - start), form, out);
      out.append(text.substr(at, next.n_bytes));
      start = at + next.n_bytes;
    }
    at += next.n_bytes;
  }
  append_form_of_valid(text.substr(start), form, out);
  return out;
}

bool normalize_nfc(std::string_view text, std::string& out) {
  if (!may_change(text)) return false;
  out = normalized(text, UnicodeForm::kNfc);
  return true;
}

}  // namespace orcd::tokenizer
