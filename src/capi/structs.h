// Structs that begin with struct_size, as callers of any version pass them (STRUCTS in orcd.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "capi/call_error.h"

namespace orcd::capi {

// The bytes that count of a struct that says it has struct_size, of a known size. No field crosses a unit of
// 8 bytes, so none is ever taken in part. Throws INVALID_ARGUMENT.
uint32_t usable_size(uint32_t struct_size, size_t known_size, const char* name);

// Throws INVALID_ARGUMENT unless all bytes are zero.
void need_zero(const unsigned char* tail, size_t n_bytes, const char* name);

// The caller's options over the defaults.
template <typename T>
T read_options(const T* given, const T& defaults, const char* name) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 8 == 0);
  need(given, name);
  const uint32_t usable = usable_size(given->struct_size, sizeof(T), name);
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  if (given->struct_size > sizeof(T)) need_zero(bytes + sizeof(T), given->struct_size - sizeof(T), name);
  T options = defaults;
  std::memcpy(&options, bytes, usable);
  options.struct_size = sizeof(T);
  return options;
}

// Throws INVALID_ARGUMENT if the result could not be written; for before the work is done.
template <typename T>
void need_result(const T* out, const char* name) {
  need(out, name);
  usable_size(out->struct_size, sizeof(T), name);
}

// REQUIRES need_result(out). What the caller's struct has beyond ours becomes zero; its struct_size stays.
template <typename T>
void write_result(const T& result, T* out) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 8 == 0);
  const uint32_t struct_size = out->struct_size;
  auto* bytes = reinterpret_cast<unsigned char*>(out);
  std::memcpy(bytes, &result, std::min<size_t>(struct_size / 8 * 8, sizeof(T)));
  if (struct_size > sizeof(T)) std::memset(bytes + sizeof(T), 0, struct_size - sizeof(T));
  out->struct_size = struct_size;
}

}  // namespace orcd::capi
