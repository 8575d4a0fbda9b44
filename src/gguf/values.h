// Metadata values: the cursor reads one typed value.
#pragma once

#include <cstdint>

#include "gguf/file.h"
#include "gguf/reader.h"

namespace orcd::gguf {

// Bytes of one value of a fixed-size type; 0 for strings, arrays and unknown types.
uint64_t value_type_bytes(ValueType type);

// Reads the u32 type of `field`'s value and refuses numbers that no version of the format defines.
ValueType read_value_type(Reader& reader, const Field& field);
Value read_value(Reader& reader, ValueType type, const Field& field);

}  // namespace orcd::gguf
