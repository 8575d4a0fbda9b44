// A GGUF file (versions 2 and 3, one file or a split set) as metadata and tensor descriptions: bytes -> File.
// Untrusted input: memory is O(file), every size is checked, every refusal names the field and its byte
// offset. Format: ggml/docs/gguf.md of the ggml project.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "numerics/formats.h"

namespace orcd::gguf {

// Type ids as the file stores them.
enum class ValueType : uint32_t {
  kU8 = 0,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// Limits of the format's specification, and one of ours (arrays may nest, ours stop here).
inline constexpr uint64_t kMaxKeyBytes = 65535;
inline constexpr uint64_t kMaxTensorNameBytes = 64;
inline constexpr uint32_t kMaxDims = 4;
inline constexpr uint64_t kDefaultAlignment = 32;
inline constexpr int kMaxArrayDepth = 8;

std::string_view value_type_name(ValueType type);  // "u32", "string", ...

// A metadata array. Views point into memory that the File owns, so the File must outlive them.
class Array {
 public:
  ValueType element_type;
  uint64_t size = 0;
  // Fixed-size elements: raw little-endian bytes, unaligned. Strings: empty.
  std::span<const uint8_t> bytes;
  // kString: one view per element (built once, O(size)); empty otherwise.
  std::vector<std::string_view> strings;
  // kArray: the elements of an array of arrays (at most kMaxArrayDepth deep); empty otherwise.
  std::vector<Array> arrays;

  // Element `index` widened; REQUIRES index < size and an arithmetic element_type of that kind.
  int64_t as_int(uint64_t index) const;
  double as_double(uint64_t index) const;
  bool as_bool(uint64_t index) const;
};

using Value = std::variant<uint64_t, int64_t, double, bool, std::string_view, Array>;

struct MetadataEntry {
  std::string_view key;
  ValueType type;
  uint64_t offset;        // of the key's length field, in its file
  uint64_t value_offset;  // of the value's first byte: refusals of a value point here
  Value value;
};

struct TensorInfo {
  std::string_view name;
  TensorType type;
  uint32_t n_dims;
  uint64_t dims[4];      // dims[0] is the fastest-varying one (K of a weight), unused ones are 1
  uint64_t n_bytes;      // of the data
  uint32_t part;         // index of the split file that holds it
  uint64_t offset;       // absolute, in that file
  uint64_t info_offset;  // where the description stands in its file, for messages
  uint64_t n_elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

// Opened read-only. Header and metadata are read into memory owned by File; tensor data is reached through
// read(). Immutable after open, so safe to share between threads.
class File {
 public:
  // Opens `path`, or the whole set when it is named *-0000N-of-0000M.gguf. Throws Error(kModelLoadFailed).
  static std::shared_ptr<const File> open(const std::string& path);
  // The same over bytes in memory (tests, fuzzing); the bytes must outlive the File.
  static std::shared_ptr<const File> parse(std::span<const uint8_t> bytes, std::string name = "memory");
  virtual ~File() = default;

  virtual uint32_t version() const = 0;
  virtual const std::string& path() const = 0;
  virtual uint64_t n_bytes() const = 0;  // of all parts
  virtual std::span<const MetadataEntry> metadata() const = 0;
  virtual std::span<const TensorInfo> tensors() const = 0;
  virtual uint32_t n_parts() const = 0;  // 1, or the number of files of a split set
  virtual const std::string& part_path(uint32_t part) const = 0;
  // Where a string or raw bytes of the metadata stand in the (first) file. REQUIRES: it points into this
  // File's metadata.
  virtual uint64_t offset_of(const void* metadata_bytes) const = 0;
  virtual const MetadataEntry* find(std::string_view key) const = 0;       // nullptr if absent; O(1)
  virtual const TensorInfo* find_tensor(std::string_view name) const = 0;  // nullptr if absent; O(1)

  // Copies [offset, offset + out.size()) of the tensor's data into out. A file truncated behind our back is
  // an Error(kModelLoadFailed), never a signal. Thread-safe.
  virtual void read(const TensorInfo& tensor, uint64_t offset, std::span<uint8_t> out) const = 0;

  // Typed getters. Absent -> nullopt; present with another type or out of range -> Error naming key and byte
  // offset.
  std::optional<uint64_t> get_uint(std::string_view key) const;  // any non-negative integer type
  std::optional<double> get_float(std::string_view key) const;   // F32, F64
  std::optional<bool> get_bool(std::string_view key) const;
  std::optional<std::string_view> get_string(std::string_view key) const;
  const Array* get_array(std::string_view key) const;  // nullptr if absent
  // The same, but absence is an Error(kModelLoadFailed) that names the key.
  uint64_t need_uint(std::string_view key) const;
  double need_float(std::string_view key) const;
  std::string_view need_string(std::string_view key) const;
  const Array& need_array(std::string_view key) const;
};

// Builds the error that every refusal of a file uses: code MODEL_LOAD_FAILED, values field, offset, file.
Error load_error(const File& file, std::string_view field, uint64_t offset, std::string message,
                 std::string hint = {});

}  // namespace orcd::gguf
