#include "gguf/values.h"

#include <algorithm>
#include <array>
#include <utility>

namespace orcd::gguf {
namespace {

struct TypeRow {
  std::string_view name;
  uint64_t n_bytes;
};

// Indexed by ValueType.
constexpr std::array<TypeRow, 13> kTypes = {{{"u8", 1},
                                             {"i8", 1},
                                             {"u16", 2},
                                             {"i16", 2},
                                             {"u32", 4},
                                             {"i32", 4},
                                             {"f32", 4},
                                             {"bool", 1},
                                             {"string", 0},
                                             {"array", 0},
                                             {"u64", 8},
                                             {"i64", 8},
                                             {"f64", 8}}};

// Smallest encoding: a string's length; an array's element type and count.
constexpr uint64_t kMinStringBytes = 8;
constexpr uint64_t kMinArrayBytes = 12;

Array read_array(Reader& reader, const Field& field, int depth) {
  if (depth > kMaxArrayDepth) {
    reader.refuse_at(reader.offset(), field,
                     "arrays are nested deeper than " + std::to_string(kMaxArrayDepth) + " levels");
  }
  Array array;
  array.element_type = read_value_type(reader, field);
  array.size = reader.scalar<uint64_t>(field);
  if (array.element_type == ValueType::kString) {
    reader.require_elements(array.size, kMinStringBytes, field);
    array.strings.reserve(array.size);
    for (uint64_t i = 0; i < array.size; ++i) array.strings.push_back(reader.string({field.name, i}));
    return array;
  }
  if (array.element_type == ValueType::kArray) {
    reader.require_elements(array.size, kMinArrayBytes, field);
    array.arrays.reserve(array.size);
    for (uint64_t i = 0; i < array.size; ++i) {
      array.arrays.push_back(read_array(reader, {field.name, i}, depth + 1));
    }
    return array;
  }
  const uint64_t element_bytes = value_type_bytes(array.element_type);
  reader.require_elements(array.size, element_bytes, field);
  const uint64_t start = reader.offset();
  array.bytes = {reader.take(array.size * element_bytes, field), array.size * element_bytes};
  if (array.element_type == ValueType::kBool) {
    const auto bad =
        std::find_if(array.bytes.begin(), array.bytes.end(), [](uint8_t byte) { return byte > 1; });
    if (bad != array.bytes.end()) {
      const auto index = static_cast<uint64_t>(bad - array.bytes.begin());
      reader.refuse_at(start + index, {field.name, index},
                       "bool is " + std::to_string(*bad) + ", not 0 or 1");
    }
  }
  return array;
}

}  // namespace

std::string_view value_type_name(ValueType type) {
  const auto row = static_cast<size_t>(type);
  return row < kTypes.size() ? kTypes[row].name : "unknown";
}

uint64_t value_type_bytes(ValueType type) {
  const auto row = static_cast<size_t>(type);
  return row < kTypes.size() ? kTypes[row].n_bytes : 0;
}

ValueType read_value_type(Reader& reader, const Field& field) {
  const uint64_t at = reader.offset();
  const auto number = reader.scalar<uint32_t>({field.name, field.index, "type"});
  if (number >= kTypes.size()) {
    reader.refuse_at(at, {field.name, field.index, "type"},
                     "value type " + std::to_string(number) + " does not exist (0 to 12 do)");
  }
  return static_cast<ValueType>(number);
}

Value read_value(Reader& reader, ValueType type, const Field& field) {
  switch (type) {
    case ValueType::kU8:
      return uint64_t{reader.scalar<uint8_t>(field)};
    case ValueType::kI8:
      return int64_t{reader.scalar<int8_t>(field)};
    case ValueType::kU16:
      return uint64_t{reader.scalar<uint16_t>(field)};
    case ValueType::kI16:
      return int64_t{reader.scalar<int16_t>(field)};
    case ValueType::kU32:
      return uint64_t{reader.scalar<uint32_t>(field)};
    case ValueType::kI32:
      return int64_t{reader.scalar<int32_t>(field)};
    case ValueType::kU64:
      return reader.scalar<uint64_t>(field);
    case ValueType::kI64:
      return reader.scalar<int64_t>(field);
    case ValueType::kF32:
      return double{reader.scalar<float>(field)};
    case ValueType::kF64:
      return reader.scalar<double>(field);
    case ValueType::kString:
      return reader.string(field);
    case ValueType::kArray:
      return read_array(reader, field, 1);
    case ValueType::kBool:
      break;
  }
  const uint64_t at = reader.offset();
  const auto byte = reader.scalar<uint8_t>(field);
  if (byte > 1) reader.refuse_at(at, field, "bool is " + std::to_string(byte) + ", not 0 or 1");
  return byte == 1;
}

}  // namespace orcd::gguf
