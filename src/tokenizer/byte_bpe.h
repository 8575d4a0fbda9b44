// Byte-level BPE over a vocabulary, wherever it was read from: normalise, cut by expressions, merge bytes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe_merger.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace orcd::tokenizer {

struct ByteBpeRules {
  std::string kind;                        // "gguf-bpe", "hf-json"
  std::string pre;                         // name of the pre-tokenizer family
  std::vector<std::string> patterns;       // applied one after the other (pre_tokenizer.h)
  std::vector<std::string> byte_patterns;  // after them, in the byte-level alphabet
  bool normalize_nfc = false;
  bool ignore_merges = false;  // a piece that is a token becomes that token at once, whatever the merges say
};

// Adds the merge of `left` and `right` at its place in the order. False when the vocabulary lacks one of the
// tokens or the merged one.
bool add_merge(const Vocabulary& vocabulary, MergeTable& table, uint32_t rank, std::string_view left,
               std::string_view right);

// Fills in the bytes of the tokens that are spelled in the byte-level alphabet.
void decode_byte_level_pieces(Vocabulary& vocabulary);

// Fills in the bytes of the tokens. Throws Error(kModelLoadFailed) for expressions that are not understood.
std::shared_ptr<const Tokenizer> make_byte_bpe(Vocabulary vocabulary, ByteBpeRules rules, MergeTable merges);

}  // namespace orcd::tokenizer
