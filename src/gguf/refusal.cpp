#include "gguf/refusal.h"

#include <utility>

#include "gguf/utf8.h"

namespace orcd::gguf {

std::string Field::text() const {
  std::string out = printable(name);
  if (index != kNoIndex) out.append("[").append(std::to_string(index)).append("]");
  if (suffix.empty()) return out;
  if (!out.empty()) out.append(".");
  return out.append(suffix);
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
