// Writes GGUF files for tests: sound ones (synthetic models, split sets) and, with the claim_* and patch
// calls, broken ones.
//   GgufWriter w;
//   w.add("general.architecture", "llama").add("llama.block_count", uint32_t{1});
//   w.tensor("token_embd.weight", TensorType::kF32, {32, 4});
//   const std::vector<uint8_t> bytes = w.bytes();   or   w.write("/tmp/x.gguf");
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "gguf/file.h"
#include "numerics/formats.h"

namespace orcd::test {

using Bytes = std::vector<uint8_t>;

template <typename T>
void put(Bytes& out, T value) {
  const size_t at = out.size();
  out.resize(at + sizeof(T));
  std::memcpy(out.data() + at, &value, sizeof(T));
}
inline void put_string(Bytes& out, std::string_view text) {
  put(out, uint64_t{text.size()});
  out.insert(out.end(), text.begin(), text.end());
}

template <typename T>
constexpr gguf::ValueType value_type_of() {
  using gguf::ValueType;
  if constexpr (std::is_same_v<T, bool>) return ValueType::kBool;
  if constexpr (std::is_same_v<T, uint8_t>) return ValueType::kU8;
  if constexpr (std::is_same_v<T, int8_t>) return ValueType::kI8;
  if constexpr (std::is_same_v<T, uint16_t>) return ValueType::kU16;
  if constexpr (std::is_same_v<T, int16_t>) return ValueType::kI16;
  if constexpr (std::is_same_v<T, uint32_t>) return ValueType::kU32;
  if constexpr (std::is_same_v<T, int32_t>) return ValueType::kI32;
  if constexpr (std::is_same_v<T, uint64_t>) return ValueType::kU64;
  if constexpr (std::is_same_v<T, int64_t>) return ValueType::kI64;
  if constexpr (std::is_same_v<T, float>) return ValueType::kF32;
  if constexpr (std::is_same_v<T, double>) return ValueType::kF64;
}

class GgufWriter {
 public:
  // Entries and tensors are written in the order they were first added; adding a key again replaces its value
  // in place.
  template <typename T>
  requires std::is_arithmetic_v<T> GgufWriter& add(const std::string& key, T value) {
    Bytes raw;
    put(raw, value);
    return add_raw(key, static_cast<uint32_t>(value_type_of<T>()), std::move(raw));
  }
  GgufWriter& add(const std::string& key, std::string_view text) {
    Bytes raw;
    put_string(raw, text);
    return add_raw(key, static_cast<uint32_t>(gguf::ValueType::kString), std::move(raw));
  }
  GgufWriter& add(const std::string& key, const char* text) { return add(key, std::string_view(text)); }
  template <typename T>
  requires std::is_arithmetic_v<T> GgufWriter& add(const std::string& key, const std::vector<T>& values) {
    Bytes raw;
    put(raw, static_cast<uint32_t>(value_type_of<T>()));
    put(raw, uint64_t{values.size()});
    for (const T value : values) put(raw, value);
    return add_raw(key, static_cast<uint32_t>(gguf::ValueType::kArray), std::move(raw));
  }
  GgufWriter& add(const std::string& key, const std::vector<std::string>& texts) {
    Bytes raw;
    put(raw, static_cast<uint32_t>(gguf::ValueType::kString));
    put(raw, uint64_t{texts.size()});
    for (const std::string& text : texts) put_string(raw, text);
    return add_raw(key, static_cast<uint32_t>(gguf::ValueType::kArray), std::move(raw));
  }
  // Any type number and any bytes after it.
  GgufWriter& add_raw(const std::string& key, uint32_t type, Bytes raw) {
    for (Entry& entry : entries_) {
      if (entry.key != key) continue;
      entry = {key, type, std::move(raw)};
      return *this;
    }
    return append_raw(key, type, std::move(raw));
  }
  // The same without looking for the key, so it can stand there twice.
  GgufWriter& append_raw(const std::string& key, uint32_t type, Bytes raw) {
    entries_.push_back({key, type, std::move(raw)});
    return *this;
  }
  GgufWriter& remove(const std::string& key) {
    std::erase_if(entries_, [&](const Entry& entry) { return entry.key == key; });
    return *this;
  }
  // Sets general.alignment and lays the data out by it.
  GgufWriter& alignment(uint32_t value) {
    alignment_ = value;
    return add("general.alignment", value);
  }

  // dims[0] varies fastest. Without data: zeros, of the size that type and dims ask for.
  GgufWriter& tensor(const std::string& name, TensorType type, std::vector<uint64_t> dims, Bytes data) {
    tensors_.push_back({name, static_cast<uint32_t>(dims.size()), std::move(dims),
                        static_cast<uint32_t>(type), std::move(data), kAutomatic});
    return *this;
  }
  GgufWriter& tensor(const std::string& name, TensorType type, const std::vector<uint64_t>& dims) {
    const FormatInfo* format = find_format(type);
    if (format == nullptr) throw std::invalid_argument("tensor type");
    uint64_t n = 1;
    for (const uint64_t dim : dims) n *= dim;
    return tensor(name, type, dims, Bytes(n / format->block_elements * format->block_bytes));
  }

  // What the header says, whatever is true.
  GgufWriter& version(uint32_t value) { return version_ = value, *this; }
  GgufWriter& magic(uint32_t value) { return magic_ = value, *this; }
  GgufWriter& claim_tensors(uint64_t n) { return claimed_tensors_ = n, *this; }
  GgufWriter& claim_entries(uint64_t n) { return claimed_entries_ = n, *this; }
  GgufWriter& claim_n_dims(const std::string& name, uint32_t n) { return find(name).n_dims = n, *this; }
  GgufWriter& claim_dims(const std::string& name, std::vector<uint64_t> dims) {
    find(name).n_dims = static_cast<uint32_t>(dims.size());
    return find(name).dims = std::move(dims), *this;
  }
  GgufWriter& claim_type(const std::string& name, uint32_t type) { return find(name).type = type, *this; }
  GgufWriter& claim_offset(const std::string& name, uint64_t offset) {
    return find(name).offset = offset, *this;
  }
  GgufWriter& rename(const std::string& name, const std::string& new_name) {
    return find(name).name = new_name, *this;
  }

  Bytes bytes() const {
    marks_.clear();
    Bytes out;
    put(out, magic_);
    put(out, version_);
    put(out, claimed_tensors_ != kAutomatic ? claimed_tensors_ : uint64_t{tensors_.size()});
    put(out, claimed_entries_ != kAutomatic ? claimed_entries_ : uint64_t{entries_.size()});
    for (const Entry& entry : entries_) {
      marks_[entry.key + " key"] = out.size();
      put_string(out, entry.key);
      marks_[entry.key + " type"] = out.size();
      put(out, entry.type);
      marks_[entry.key] = out.size();
      out.insert(out.end(), entry.raw.begin(), entry.raw.end());
    }
    uint64_t next = 0;
    std::vector<uint64_t> places;
    for (const Tensor& tensor : tensors_) {
      places.push_back(next);
      marks_[tensor.name] = out.size();
      put_string(out, tensor.name);
      marks_[tensor.name + " n_dims"] = out.size();
      put(out, tensor.n_dims);
      marks_[tensor.name + " dims"] = out.size();
      for (const uint64_t dim : tensor.dims) put(out, dim);
      marks_[tensor.name + " type"] = out.size();
      put(out, tensor.type);
      marks_[tensor.name + " offset"] = out.size();
      put(out, tensor.offset != kAutomatic ? tensor.offset : next);
      next = aligned(next + tensor.data.size());
    }
    marks_["header end"] = out.size();
    if (tensors_.empty()) return out;
    out.resize(aligned(out.size()));
    const size_t data_start = out.size();
    marks_["data"] = data_start;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      out.resize(data_start + places[i]);
      out.insert(out.end(), tensors_[i].data.begin(), tensors_[i].data.end());
    }
    return out;
  }

  // Byte offsets in what bytes() gave: "KEY" (value), "KEY key", "KEY type"; "TENSOR" (description), "TENSOR
  // n_dims", "TENSOR dims", "TENSOR type", "TENSOR offset"; "header end", "data".
  uint64_t at(const std::string& mark) const {
    bytes();
    return marks_.at(mark);
  }

  void write(const std::string& path) const { write_file(path, bytes()); }

  // The tensors dealt out in order to n_parts files PREFIX-0000N-of-0000M.gguf, as gguf-split does; gives
  // their paths.
  std::vector<std::string> write_split(const std::string& prefix, size_t n_parts) const {
    std::vector<std::string> paths;
    for (size_t part = 0; part < n_parts; ++part) {
      GgufWriter writer;
      if (part == 0) writer.entries_ = entries_;
      writer.alignment_ = alignment_;
      if (part != 0 && alignment_ != gguf::kDefaultAlignment) writer.alignment(alignment_);
      writer.add("split.no", static_cast<uint16_t>(part));
      writer.add("split.count", static_cast<uint16_t>(n_parts));
      writer.add("split.tensors.count", static_cast<int32_t>(tensors_.size()));
      const size_t first = part * tensors_.size() / n_parts;
      const size_t last = (part + 1) * tensors_.size() / n_parts;
      writer.tensors_.assign(tensors_.begin() + static_cast<long>(first),
                             tensors_.begin() + static_cast<long>(last));
      char suffix[40];
      std::snprintf(suffix, sizeof suffix, "-%05zu-of-%05zu.gguf", part + 1, n_parts);
      paths.push_back(prefix + suffix);
      writer.write(paths.back());
    }
    return paths;
  }

  static void write_file(const std::string& path, const Bytes& bytes) {
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) throw std::runtime_error("cannot write " + path);
  }

 private:
  static constexpr uint64_t kAutomatic = ~uint64_t{0};
  struct Entry {
    std::string key;
    uint32_t type;
    Bytes raw;
  };
  struct Tensor {
    std::string name;
    uint32_t n_dims;
    std::vector<uint64_t> dims;
    uint32_t type;
    Bytes data;
    uint64_t offset;
  };
  uint64_t aligned(uint64_t n) const { return (n + alignment_ - 1) / alignment_ * alignment_; }
  Tensor& find(const std::string& name) {
    for (Tensor& tensor : tensors_) {
      if (tensor.name == name) return tensor;
    }
    throw std::invalid_argument("no tensor " + name);
  }

  uint32_t magic_ = 0x46554747;
  uint32_t version_ = 3;
  uint64_t alignment_ = gguf::kDefaultAlignment;
  uint64_t claimed_tensors_ = kAutomatic;
  uint64_t claimed_entries_ = kAutomatic;
  std::vector<Entry> entries_;
  std::vector<Tensor> tensors_;
  mutable std::map<std::string, uint64_t> marks_;
};

// A sound file of a few hundred bytes in the shape of a llama model: 2 layers, 6 tokens, every field that is
// checked.
inline GgufWriter small_model() {
  GgufWriter w;
  w.add("general.architecture", "llama").add("general.name", "small");
  w.add("llama.block_count", uint32_t{2}).add("llama.context_length", uint32_t{64});
  w.add("llama.embedding_length", uint32_t{32}).add("llama.feed_forward_length", uint32_t{64});
  w.add("llama.attention.head_count", uint32_t{4}).add("llama.attention.head_count_kv", uint32_t{2});
  w.add("llama.attention.layer_norm_rms_epsilon", 1e-5f).add("llama.rope.freq_base", 10000.0f);
  w.add("llama.rope.dimension_count", uint32_t{8});
  w.add("tokenizer.ggml.model", "llama").add("tokenizer.ggml.pre", "default");
  w.add("tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "<s>", "</s>", "<0x41>", "a", "b"});
  w.add("tokenizer.ggml.scores", std::vector<float>{0, 0, 0, 0, -1, -2});
  w.add("tokenizer.ggml.token_type", std::vector<int32_t>{2, 3, 3, 6, 1, 1});
  w.add("tokenizer.ggml.bos_token_id", uint32_t{1}).add("tokenizer.ggml.eos_token_id", uint32_t{2});
  w.add("tokenizer.ggml.unknown_token_id", uint32_t{0}).add("tokenizer.ggml.add_bos_token", true);
  w.add("tokenizer.chat_template", "{{ messages }}");
  w.tensor("token_embd.weight", TensorType::kQ8_0, {32, 6});
  w.tensor("blk.0.attn_norm.weight", TensorType::kF32, {32});
  w.tensor("blk.1.attn_norm.weight", TensorType::kF32, {32});
  w.tensor("output_norm.weight", TensorType::kF32, {32});
  return w;
}

}  // namespace orcd::test
