// Split sets: files named *-0000N-of-0000M.gguf, where part 1 carries the metadata of the whole.
// Keys split.no (from 0), split.count, split.tensors.count: gguf-split of the llama.cpp project.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gguf/part.h"

namespace orcd::gguf {

struct SplitName {
  std::string prefix;  // everything before "-0000N-of-0000M.gguf"
  uint32_t number;     // N, from 1
  uint32_t count;      // M
  std::string part_path(uint32_t part_number) const;
};

// nullopt when the name is not that of a part.
std::optional<SplitName> parse_split_name(const std::string& path);

// Opens the file, or, given any part of a set, all parts in order.
std::vector<std::unique_ptr<Part>> open_parts(const std::string& path);

}  // namespace orcd::gguf
