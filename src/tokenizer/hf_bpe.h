// BPE of a tokenizer.json, or of a GGUF vocabulary like it, in its general form: any normalizer and
// pre-tokenizer, characters as symbols, bytes for those that the vocabulary lacks.  (What byte_bpe.h can do
// goes there: it is several times as fast.)
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/bpe_merger.h"
#include "tokenizer/hf_normalizer.h"
#include "tokenizer/hf_pre_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace orcd::tokenizer::hf {

struct BpeRules {
  std::string_view kind = "hf-json", pre = "custom";  // what the tokenizer says of itself
  bool ignore_merges = false;
  bool byte_fallback = false;  // a character that is no token becomes its bytes, spelled <0xHH>
  bool fuse_unknown = false;   // neighbouring unknown characters become one unknown token
};

// The vocabulary's unknown_id: -1 drops unknown characters.
std::shared_ptr<const Tokenizer> make_bpe(Vocabulary vocabulary, Normalizer normalizer, TextCutter cutter,
                                          BpeRules rules, MergeTable merges);

}  // namespace orcd::tokenizer::hf
