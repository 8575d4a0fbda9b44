// Byte-level BPE from a GGUF vocabulary (tokenizer.ggml.model = gpt2).  (Sennrich et al. 2016; Radford et al.
// 2019)
#pragma once

#include <memory>

#include "tokenizer/tokenizer.h"

namespace orcd::tokenizer {

std::shared_ptr<const Tokenizer> make_gguf_bpe(const std::shared_ptr<const gguf::File>& file);
// Gemma 4's BPE (tokenizer.ggml.model = gemma4): merges over characters, blanks as U+2581, bytes as <0xHH>;
// no pre-tokenizer but for runs of newlines.
std::shared_ptr<const Tokenizer> make_gguf_gemma4(const std::shared_ptr<const gguf::File>& file);

}  // namespace orcd::tokenizer
