#include "gguf/file.h"

#include <cstring>
#include <utility>

#include "gguf/part.h"
#include "gguf/refusal.h"
#include "gguf/split.h"

namespace orcd::gguf {
namespace {

// Where metadata starts: absent keys have no place of their own.
constexpr uint64_t kMetadataOffset = 24;

class ParsedFile final : public File {
 public:
  explicit ParsedFile(std::vector<std::unique_ptr<Part>> parts, std::string path)
      : parts_(std::move(parts)), path_(std::move(path)) {
    for (const auto& part : parts_) {
      n_bytes_ += part->source->n_bytes();
      tensors_.insert(tensors_.end(), part->tensors.begin(), part->tensors.end());
    }
    names_ = StringIndex(tensors_.size());
    for (size_t i = 0; i < tensors_.size(); ++i) names_.insert(tensors_[i].name, static_cast<uint32_t>(i));
  }

  uint32_t version() const override { return parts_.front()->version; }
  const std::string& path() const override { return path_; }
  uint64_t n_bytes() const override { return n_bytes_; }
  std::span<const MetadataEntry> metadata() const override { return parts_.front()->metadata; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  uint32_t n_parts() const override { return static_cast<uint32_t>(parts_.size()); }
  const std::string& part_path(uint32_t part) const override { return parts_.at(part)->source->name(); }
  uint64_t offset_of(const void* metadata_bytes) const override {
    return static_cast<uint64_t>(static_cast<const uint8_t*>(metadata_bytes) - parts_.front()->bytes.data());
  }
  const MetadataEntry* find(std::string_view key) const override { return parts_.front()->find(key); }
  const TensorInfo* find_tensor(std::string_view name) const override {
    const auto index = names_.find(name);
    return index ? &tensors_[*index] : nullptr;
  }

  void read(const TensorInfo& tensor, uint64_t offset, std::span<uint8_t> out) const override {
    if (offset > tensor.n_bytes || out.size() > tensor.n_bytes - offset) {
      throw Error(ErrorCode::kInternal, "read outside a tensor",
                  {{"tensor", std::string(tensor.name)},
                   {"offset", offset},
                   {"length", uint64_t{out.size()}},
                   {"tensor_bytes", tensor.n_bytes}});
    }
    const Source& source = *parts_.at(tensor.part)->source;
    const size_t got = source.read(tensor.offset + offset, out);
    if (got != out.size()) {
      refuse(source.name(), Field{tensor.name}.text(), tensor.offset + offset + got,
             "the file was truncated after it was opened: tensor data ends early",
             "restore the file and load it again");
    }
  }

 private:
  std::vector<std::unique_ptr<Part>> parts_;
  std::string path_;
  uint64_t n_bytes_ = 0;
  std::vector<TensorInfo> tensors_;
  StringIndex names_;
};

template <typename T>
T element(const Array& array, uint64_t index) {
  T value;
  std::memcpy(&value, array.bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

[[noreturn]] void refuse_type(const File& file, const MetadataEntry& entry, std::string_view wanted) {
  throw load_error(
      file, entry.key, entry.value_offset,
      "is of type " + std::string(value_type_name(entry.type)) + ", expected " + std::string(wanted));
}

[[noreturn]] void refuse_absent(const File& file, std::string_view key) {
  throw load_error(file, key, kMetadataOffset, "the metadata lacks this key");
}

}  // namespace

std::shared_ptr<const File> File::open(const std::string& path) {
  auto parts = open_parts(path);
  std::string first = parts.front()->source->name();
  return std::make_shared<ParsedFile>(std::move(parts), std::move(first));
}

std::shared_ptr<const File> File::parse(std::span<const uint8_t> bytes, std::string name) {
  std::vector<std::unique_ptr<Part>> parts;
  parts.push_back(parse_part(memory_source(bytes, name), 0));
  return std::make_shared<ParsedFile>(std::move(parts), std::move(name));
}

int64_t Array::as_int(uint64_t index) const {
  switch (element_type) {
    case ValueType::kU8:
      return element<uint8_t>(*this, index);
    case ValueType::kI8:
      return element<int8_t>(*this, index);
    case ValueType::kU16:
      return element<uint16_t>(*this, index);
    case ValueType::kI16:
      return element<int16_t>(*this, index);
    case ValueType::kU32:
      return element<uint32_t>(*this, index);
    case ValueType::kI32:
      return element<int32_t>(*this, index);
    case ValueType::kU64:
      return static_cast<int64_t>(element<uint64_t>(*this, index));
    case ValueType::kI64:
      return element<int64_t>(*this, index);
    default:
      throw Error(ErrorCode::kInternal, "array elements are not integers");
  }
}

double Array::as_double(uint64_t index) const {
  if (element_type == ValueType::kF32) return element<float>(*this, index);
  if (element_type == ValueType::kF64) return element<double>(*this, index);
  throw Error(ErrorCode::kInternal, "array elements are not floats");
}

bool Array::as_bool(uint64_t index) const {
  if (element_type == ValueType::kBool) return bytes[index] != 0;
  throw Error(ErrorCode::kInternal, "array elements are not bools");
}

std::optional<uint64_t> File::get_uint(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (const auto* value = std::get_if<uint64_t>(&entry->value)) return *value;
  const auto* value = std::get_if<int64_t>(&entry->value);
  if (value == nullptr) refuse_type(*this, *entry, "an integer");
  if (*value < 0) throw load_error(*this, key, entry->value_offset, "is negative: " + std::to_string(*value));
  return static_cast<uint64_t>(*value);
}

std::optional<double> File::get_float(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  const auto* value = std::get_if<double>(&entry->value);
  if (value == nullptr) refuse_type(*this, *entry, "a float");
  return *value;
}

std::optional<bool> File::get_bool(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  const auto* value = std::get_if<bool>(&entry->value);
  if (value == nullptr) refuse_type(*this, *entry, "a bool");
  return *value;
}

std::optional<std::string_view> File::get_string(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  const auto* value = std::get_if<std::string_view>(&entry->value);
  if (value == nullptr) refuse_type(*this, *entry, "a string");
  return *value;
}

const Array* File::get_array(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (entry == nullptr) return nullptr;
  const auto* value = std::get_if<Array>(&entry->value);
  if (value == nullptr) refuse_type(*this, *entry, "an array");
  return value;
}

uint64_t File::need_uint(std::string_view key) const {
  const auto value = get_uint(key);
  if (!value) refuse_absent(*this, key);
  return *value;
}

double File::need_float(std::string_view key) const {
  const auto value = get_float(key);
  if (!value) refuse_absent(*this, key);
  return *value;
}

std::string_view File::need_string(std::string_view key) const {
  const auto value = get_string(key);
  if (!value) refuse_absent(*this, key);
  return *value;
}

const Array& File::need_array(std::string_view key) const {
  const Array* value = get_array(key);
  if (value == nullptr) refuse_absent(*this, key);
  return *value;
}

Error load_error(const File& file, std::string_view field, uint64_t offset, std::string message,
                 std::string hint) {
  return refusal(file.path(), field, offset, std::move(message), std::move(hint));
}

}  // namespace orcd::gguf
