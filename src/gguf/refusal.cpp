#include "gguf/refusal.h"

#include <utility>

#include "gguf/utf8.h"

namespace orcd::gguf {

std::string Field::text() const {
  std::string out = printable(name);
  if (index != kNoIndex) out += "[" + std::to_string(index) + "]";
  if (!suffix.empty()) out += (out.empty() ? "" : ".") + std::string(suffix);
  return out;
}

Error refusal(std::string_view file, std::string_view field, uint64_t offset, std::string message,
              std::string hint) {
  return Error(ErrorCode::kModelLoadFailed, std::move(message),
               {{"field", printable(field, 160)}, {"offset", offset}, {"file", printable(file, 4096)}},
               std::move(hint));
}

void refuse(std::string_view file, std::string_view field, uint64_t offset, std::string message,
            std::string hint) {
  throw refusal(file, field, offset, std::move(message), std::move(hint));
}

}  // namespace orcd::gguf
