// SentencePiece BPE from a GGUF vocabulary (tokenizer.ggml.model = llama).  (Kudo & Richardson 2018)
#pragma once

#include <memory>

#include "tokenizer/tokenizer.h"

namespace orcd::tokenizer {

std::shared_ptr<const Tokenizer> make_gguf_spm(const std::shared_ptr<const gguf::File>& file);

}  // namespace orcd::tokenizer
