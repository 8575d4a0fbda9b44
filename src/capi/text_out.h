// Text and ids in and out of buffers of the caller (TEXT in orcd.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace orcd::capi {

// Throws INVALID_ARGUMENT for NULL where something could be written.
void need_buffer(const void* buffer, size_t capacity, const char* name);
// Throws INVALID_ARGUMENT for NULL and for a length that no text has (a negative number, say).
std::string_view text_in(const char* text, size_t n_bytes, const char* name);
std::span<const int32_t> tokens_in(const int32_t* tokens, size_t n, const char* name);

// REQUIRES need_buffer and out_n not null. Write all of it, or only its length, and throw BUFFER_TOO_SMALL.
void text_out(std::string_view text, char* buffer, size_t capacity, size_t* out_n);
void tokens_out(std::span<const int32_t> tokens, int32_t* buffer, size_t capacity, size_t* out_n);

}  // namespace orcd::capi
