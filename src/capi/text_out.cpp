#include "capi/text_out.h"

#include <cstring>
#include <string>

#include "capi/call_error.h"

namespace orcd::capi {
namespace {

void need_length(uint64_t n, uint64_t limit, const char* name) {
  if (n <= limit) return;
  throw CallError(ORCD_STATUS_INVALID_ARGUMENT, std::string("the length of ") + name + " is out of range",
                  {{"length", n}, {"limit", limit}}, "pass the number of bytes or ids");
}

void need_room(size_t needed, size_t capacity, const char* what) {
  if (needed <= capacity) return;
  throw CallError(ORCD_STATUS_BUFFER_TOO_SMALL, std::string("the buffer is too small for the ") + what,
                  {{"needed", uint64_t{needed}}, {"capacity", uint64_t{capacity}}},
                  "call again with a buffer of this capacity");
}

}  // namespace

void need_buffer(const void* buffer, size_t capacity, const char* name) {
  if (capacity != 0) need(buffer, name);
}

std::string_view text_in(const char* text, size_t n_bytes, const char* name) {
  need(text, name);
  need_length(n_bytes, ORCD_MAX_TEXT_BYTES, name);
  return {text, n_bytes};
}

std::span<const int32_t> tokens_in(const int32_t* tokens, size_t n, const char* name) {
  need(tokens, name);
  need_length(n, ORCD_MAX_TEXT_BYTES / sizeof(int32_t), name);
  return {tokens, n};
}

void text_out(std::string_view text, char* buffer, size_t capacity, size_t* out_n) {
  *out_n = text.size();
  need_room(text.size() + 1, capacity, "text and its NUL");
  std::memcpy(buffer, text.data(), text.size());
  buffer[text.size()] = '\0';
}

void tokens_out(std::span<const int32_t> tokens, int32_t* buffer, size_t capacity, size_t* out_n) {
  *out_n = tokens.size();
  need_room(tokens.size(), capacity, "ids");
  if (!tokens.empty()) std::memcpy(buffer, tokens.data(), tokens.size_bytes());
}

}  // namespace orcd::capi
