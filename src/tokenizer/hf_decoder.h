// The decoder of a tokenizer.json, as what each token's bytes are.
#pragma once

#include "tokenizer/hf_document.h"
#include "tokenizer/vocabulary.h"

namespace orcd::tokenizer::hf {

// Fills in vocabulary.pieces and adds_space_prefix. ByteLevel, or Replace, ByteFallback, Fuse, Strip (of one
// blank at the front) and Metaspace; others are refused. Without a decoder tokens are spelled as they are.
void decode_pieces(const Json& decoder, Vocabulary& vocabulary);

}  // namespace orcd::tokenizer::hf
