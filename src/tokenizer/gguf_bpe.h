// Byte-level BPE from a GGUF vocabulary (tokenizer.ggml.model = gpt2).  (Sennrich et al. 2016; Radford et al.
// 2019)
#pragma once

#include <memory>

#include "tokenizer/tokenizer.h"

namespace orcd::tokenizer {

std::shared_ptr<const Tokenizer> make_gguf_bpe(const std::shared_ptr<const gguf::File>& file);

}  // namespace orcd::tokenizer
