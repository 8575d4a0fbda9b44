// One GGUF file, parsed: header, metadata and tensor descriptions, with the tensors' places checked against
// the file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "gguf/file.h"
#include "gguf/source.h"
#include "gguf/string_index.h"

namespace orcd::gguf {

struct Part {
  std::unique_ptr<Source> source;
  std::vector<uint8_t> owned;      // the bytes the views point into, unless the source is in memory
  std::span<const uint8_t> bytes;  // the same, either way
  uint32_t version = 0;
  std::vector<MetadataEntry> metadata;
  StringIndex keys;
  std::vector<TensorInfo> tensors;
  StringIndex tensor_names;

  const MetadataEntry* find(std::string_view key) const {
    const auto index = keys.find(key);
    return index ? &metadata[*index] : nullptr;
  }
};

// Throws Error(kModelLoadFailed). part: what TensorInfo::part becomes.
std::unique_ptr<Part> parse_part(std::unique_ptr<Source> source, uint32_t part);

// Offsets of the fields of a tensor's description, for messages.
uint64_t dim_field_offset(const TensorInfo& tensor, uint32_t dim);
uint64_t type_field_offset(const TensorInfo& tensor);
uint64_t data_field_offset(const TensorInfo& tensor);

}  // namespace orcd::gguf
