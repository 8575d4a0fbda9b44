#include "tokenizer/conformance.h"

#include <string>
#include <vector>

#include "base/error.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer {
namespace {

// Takes the first piece off `pieces`.
std::string_view next_piece(std::string_view& pieces) {
  const std::string_view piece = pieces.substr(0, pieces.find(kPieceMark));
  pieces.remove_prefix(std::min(piece.size() + kPieceMark.size(), pieces.size()));
  return piece;
}

[[noreturn]] void refuse(std::string_view family, std::string_view text, uint64_t index,
                         std::string_view expected, std::string_view cut) {
  throw Error(ErrorCode::kModelLoadFailed,
              "the pre-tokenizer cuts a probe text differently from the reference of its family",
              {{"family", std::string(family)},
               {"text", std::string(text)},
               {"piece", index},
               {"expected", std::string(expected)},
               {"got", std::string(cut)}},
              "report this: the program, or a library that it was built with, is faulty");
}

void check(std::string_view family, const ConformanceVector& vector, const PreTokenizer& pre_tokenizer,
           bool nfc) {
  std::string_view text = vector.text;
  std::string normalized;
  if (nfc && normalize_nfc(text, normalized)) text = normalized;
  std::vector<size_t> ends;
  pre_tokenizer.split(text, ends);
  std::string_view left = vector.pieces;
  size_t begin = 0;
  for (size_t i = 0; i < ends.size() || !left.empty(); ++i) {
    const std::string_view expected = next_piece(left);
    const std::string_view cut = i < ends.size() ? text.substr(begin, ends[i] - begin) : std::string_view();
    if (cut != expected) refuse(family, vector.text, i, expected, cut);
    begin = i < ends.size() ? ends[i] : begin;
  }
}

}  // namespace

Conformance check_conformance(std::string_view family, const PreTokenizer& pre_tokenizer,
                              bool normalize_nfc) {
  Conformance result;
  for (const ConformanceVector& vector : conformance_vectors(family)) {
    check(family, vector, pre_tokenizer, normalize_nfc);
    ++result.total;
    ++result.passed;
  }
  return result;
}

}  // namespace orcd::tokenizer
