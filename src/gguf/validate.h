// Semantic checks of a parsed file that need no device and no model family: what `check` does beyond
// File::open.
#pragma once

#include "gguf/file.h"

namespace orcd::gguf {

// Hyperparameters, layers, vocabulary and special tokens make sense, alone and together. Files without
// tensors (vocabulary only) and unknown architectures are checked as far as they go. Throws
// Error(kModelLoadFailed) naming the field and its byte offset.
void validate(const File& file);

// The parts of it.
void validate_hyperparameters(const File& file);
void validate_layers(const File& file);
void validate_tokenizer(const File& file);

}  // namespace orcd::gguf
