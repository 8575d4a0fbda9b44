// A bounds-checked little-endian cursor over the first bytes of a file, the only thing that touches outside
// bytes.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "gguf/refusal.h"

namespace orcd::gguf {

static_assert(std::endian::native == std::endian::little, "GGUF fields are read in place");

// Metadata and tensor descriptions together: real ones take some 20 MB.
inline constexpr uint64_t kMaxHeaderBytes = uint64_t{1} << 30;

// Thrown by Reader when the file has more bytes than were given: read at least n_bytes and start again. Never
// leaves this module.
struct NeedMoreBytes {
  uint64_t n_bytes;
};

class Reader {
 public:
  // prefix: the first bytes of a file of file_bytes bytes. Both views must outlive what is read.
  Reader(std::span<const uint8_t> prefix, uint64_t file_bytes, std::string_view file)
      : prefix_(prefix), file_bytes_(file_bytes), file_(file) {}

  uint64_t offset() const { return at_; }
  uint64_t remaining() const { return file_bytes_ - at_; }
  std::string_view file() const { return file_; }

  // The next n bytes must exist in the file (refusal naming the field otherwise) and in the prefix
  // (NeedMoreBytes).
  void require(uint64_t n, const Field& field) const {
    if (n > prefix_.size() - at_) missing(n, field);
  }
  // The same for count elements of at least element_bytes each: a claim that the file cannot hold is refused
  // here, before anything is reserved for it.
  void require_elements(uint64_t count, uint64_t element_bytes, const Field& field) const;

  const uint8_t* take(uint64_t n, const Field& field) {
    require(n, field);
    const uint8_t* bytes = prefix_.data() + at_;
    at_ += n;
    return bytes;
  }
  template <typename T>
  T scalar(const Field& field) {
    T value;
    std::memcpy(&value, take(sizeof(T), field), sizeof(T));
    return value;
  }
  // u64 length, then that many bytes of UTF-8.
  std::string_view string(const Field& field, uint64_t max_bytes = ~uint64_t{0});

  [[noreturn]] void refuse_at(uint64_t offset, const Field& field, std::string message,
                              std::string hint = {}) const {
    refuse(file_, field.text(), offset, std::move(message), std::move(hint));
  }

 private:
  [[noreturn]] void missing(uint64_t n, const Field& field) const;

  std::span<const uint8_t> prefix_;
  uint64_t file_bytes_;
  std::string_view file_;
  uint64_t at_ = 0;
};

}  // namespace orcd::gguf
