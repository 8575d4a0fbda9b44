// How a file is refused: MODEL_LOAD_FAILED with the field, its byte offset and the file, in printable text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace orcd::gguf {

// A place in a file, put into words only when it is refused: "name", "name[index]", "name[index].suffix".
struct Field {
  static constexpr uint64_t kNoIndex = ~uint64_t{0};
  std::string_view name;
  uint64_t index = kNoIndex;
  std::string_view suffix = {};
  std::string text() const;
};

Error refusal(std::string_view file, std::string_view field, uint64_t offset, std::string message,
              std::string hint = {});
[[noreturn]] void refuse(std::string_view file, std::string_view field, uint64_t offset, std::string message,
                         std::string hint = {});

}  // namespace orcd::gguf
