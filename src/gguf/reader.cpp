#include "gguf/reader.h"

#include "gguf/utf8.h"

namespace orcd::gguf {

void Reader::missing(uint64_t n, const Field& field) const {
  if (n > remaining()) {
    refuse_at(at_, field,
              "needs " + std::to_string(n) + " bytes, but the file ends after " + std::to_string(remaining()),
              "the file is truncated or damaged: download it again");
  }
  if (at_ + n > kMaxHeaderBytes) {
    refuse_at(at_, field, "metadata would take more than " + std::to_string(kMaxHeaderBytes) + " bytes");
  }
  throw NeedMoreBytes{at_ + n};
}

void Reader::require_elements(uint64_t count, uint64_t element_bytes, const Field& field) const {
  if (count > remaining() / element_bytes) {
    refuse_at(at_, field,
              "claims " + std::to_string(count) + " elements of at least " + std::to_string(element_bytes) +
                  " bytes, but the file ends after " + std::to_string(remaining()) + " bytes",
              "the file is truncated or damaged: download it again");
  }
  require(count * element_bytes, field);
}

std::string_view Reader::string(const Field& field, uint64_t max_bytes) {
  const uint64_t start = at_;
  const auto length = scalar<uint64_t>(field);
  if (length > max_bytes) {
    refuse_at(start, field,
              "is " + std::to_string(length) + " bytes long, the limit is " + std::to_string(max_bytes));
  }
  if (length > remaining()) {
    refuse_at(
        start, field,
        "claims " + std::to_string(length) + " bytes, but the file ends after " + std::to_string(remaining()),
        "the file is truncated or damaged: download it again");
  }
  const std::string_view text(reinterpret_cast<const char*>(take(length, field)), length);
  const size_t bad = find_invalid_utf8(text);
  if (bad != std::string_view::npos) refuse_at(start + 8 + bad, field, "is not valid UTF-8");
  return text;
}

}  // namespace orcd::gguf
