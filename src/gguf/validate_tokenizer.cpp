#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "gguf/refusal.h"
#include "gguf/string_index.h"
#include "gguf/validate.h"
#include "gguf/values.h"

namespace orcd::gguf {
namespace {

constexpr int64_t kTypeByte = 6;  // token_type of "<0x41>"
constexpr int64_t kTypeLast =
    6;  // 0 undefined, 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte

[[noreturn]] void refuse_entry(const File& file, const MetadataEntry& entry, std::string message) {
  throw load_error(file, entry.key, entry.value_offset, std::move(message));
}

[[noreturn]] void refuse_element(const File& file, std::string_view key, const Array& array, uint64_t index,
                                 std::string message) {
  // The text of a string stands after its length.
  const uint64_t offset =
      array.element_type == ValueType::kString
          ? file.offset_of(array.strings[index].data()) - 8
          : file.offset_of(array.bytes.data()) + index * value_type_bytes(array.element_type);
  throw load_error(file, Field{key, index}.text(), offset, std::move(message));
}

bool is_integer(ValueType type) {
  return type != ValueType::kF32 && type != ValueType::kF64 && type != ValueType::kBool &&
         type != ValueType::kString && type != ValueType::kArray;
}

// The array, when it is there, with as many elements as there are tokens.
const Array* token_array(const File& file, std::string_view key, uint64_t n_tokens) {
  const Array* array = file.get_array(key);
  if (array != nullptr && array->size != n_tokens) {
    refuse_entry(
        file, *file.find(key),
        "has " + std::to_string(array->size) + " elements for " + std::to_string(n_tokens) + " tokens");
  }
  return array;
}

void check_scores(const File& file, uint64_t n_tokens) {
  constexpr std::string_view kKey = "tokenizer.ggml.scores";
  const Array* scores = token_array(file, kKey, n_tokens);
  if (scores == nullptr) return;
  if (scores->element_type != ValueType::kF32 && scores->element_type != ValueType::kF64) {
    refuse_entry(file, *file.find(kKey), "is not an array of floats");
  }
  for (uint64_t i = 0; i < scores->size; ++i) {
    if (std::isnan(scores->as_double(i))) refuse_element(file, kKey, *scores, i, "is not a number");
  }
}

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// "<0x41>"
bool is_byte_token(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && is_hex(text[3]) && is_hex(text[4]) && text[5] == '>';
}

void check_types(const File& file, const Array* tokens) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  const Array* types = token_array(file, kKey, tokens != nullptr ? tokens->size : 0);
  if (types == nullptr) return;
  if (!is_integer(types->element_type)) refuse_entry(file, *file.find(kKey), "is not an array of integers");
  for (uint64_t i = 0; i < types->size; ++i) {
    const int64_t type = types->as_int(i);
    if (type < 0 || type > kTypeLast) {
      refuse_element(file, kKey, *types, i, "is " + std::to_string(type) + ", no token type (0 to 6 are)");
    }
    if (type == kTypeByte && !is_byte_token(tokens->strings[i])) {
      refuse_element(file, "tokenizer.ggml.tokens", *tokens, i,
                     "is marked as a byte but is not written <0xHH>: " + Field{tokens->strings[i]}.text());
    }
  }
}

// Byte-level BPE writes every byte as a visible character (GPT-2's table): printable Latin-1 as itself, the
// other 68 bytes in order from U+0100. Gives the bytes back; empty when a character is none of them.
std::string byte_level_decode(std::string_view text) {
  static const std::array<int, 0x144> kByteOf = [] {
    std::array<int, 0x144> table;
    table.fill(-1);
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool visible = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      table[static_cast<size_t>(visible ? byte : next++)] = byte;
    }
    return table;
  }();
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<uint8_t>(text[i]);
    size_t point = lead;
    if (lead >= 0x80) {
      if (lead >= 0xE0 || i + 1 >= text.size()) return {};
      point = (lead & 0x1Fu) << 6 | (static_cast<uint8_t>(text[++i]) & 0x3Fu);
    }
    if (point >= kByteOf.size() || kByteOf[point] < 0) return {};
    out += static_cast<char>(kByteOf[point]);
  }
  return out;
}

// Is this half of a merge a token? Tokens that a user added are stored as plain text, not as byte-level
// characters.
bool is_token(const StringIndex& vocabulary, std::string_view part) {
  if (vocabulary.find(part)) return true;
  const std::string plain = byte_level_decode(part);
  return !plain.empty() && vocabulary.find(plain).has_value();
}

void check_merges(const File& file, const Array* tokens) {
  constexpr std::string_view kKey = "tokenizer.ggml.merges";
  const Array* merges = file.get_array(kKey);
  if (merges == nullptr) return;
  if (merges->element_type != ValueType::kString && merges->size > 0) {
    refuse_entry(file, *file.find(kKey), "is not an array of strings");
  }
  const bool byte_level = tokens != nullptr && file.get_string("tokenizer.ggml.model") == "gpt2";
  StringIndex vocabulary(byte_level ? tokens->size : 0);
  if (byte_level) {
    for (uint64_t i = 0; i < tokens->size; ++i)
      vocabulary.insert(tokens->strings[i], static_cast<uint32_t>(i));
  }
  for (uint64_t i = 0; i < merges->strings.size(); ++i) {
    const std::string_view merge = merges->strings[i];
    const size_t blank = merge.find(' ');
    if (blank == std::string_view::npos || blank == 0 || blank + 1 == merge.size() ||
        merge.find(' ', blank + 1) != std::string_view::npos) {
      refuse_element(file, kKey, *merges, i,
                     "is not two tokens with one blank between: " + Field{merge}.text());
    }
    if (!byte_level) continue;
    for (const std::string_view part : {merge.substr(0, blank), merge.substr(blank + 1)}) {
      if (!is_token(vocabulary, part)) {
        refuse_element(file, kKey, *merges, i, "merges what is not a token: " + Field{part}.text());
      }
    }
  }
}

void check_id(const File& file, const std::string& field, uint64_t offset, uint64_t id, uint64_t n_tokens) {
  if (id >= n_tokens) {
    throw load_error(
        file, field, offset,
        "token id " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(n_tokens));
  }
}

void check_special_ids(const File& file, uint64_t n_tokens) {
  for (const MetadataEntry& entry : file.metadata()) {
    if (!entry.key.starts_with("tokenizer.ggml.")) continue;
    const std::string field = Field{entry.key}.text();
    if (entry.key.ends_with("_token_id")) {
      check_id(file, field, entry.value_offset, *file.get_uint(entry.key), n_tokens);
    } else if (entry.key.ends_with("_token_ids")) {
      const Array& ids = *file.get_array(entry.key);
      if (!is_integer(ids.element_type)) refuse_entry(file, entry, "is not an array of integers");
      for (uint64_t i = 0; i < ids.size; ++i) {
        check_id(file, Field{entry.key, i}.text(),
                 file.offset_of(ids.bytes.data()) + i * value_type_bytes(ids.element_type),
                 static_cast<uint64_t>(ids.as_int(i)), n_tokens);
      }
    } else if (entry.key.starts_with("tokenizer.ggml.add_")) {
      file.get_bool(entry.key);
    }
  }
}

// token_embd.weight: [embedding_length, rows]. Rows past the vocabulary are padding; tokens past the rows
// have no embedding.
void check_embedding(const File& file, uint64_t n_tokens) {
  const TensorInfo* tensor = file.find_tensor("token_embd.weight");
  if (tensor == nullptr) return;
  const uint64_t shape_offset = tensor->info_offset + 8 + tensor->name.size() + 4;
  const std::string field = std::string(tensor->name) + ".dims";
  if (tensor->n_dims != 2) {
    throw load_error(file, field, shape_offset,
                     "has " + std::to_string(tensor->n_dims) + " dimensions, not 2");
  }
  const std::string prefix(file.need_string("general.architecture"));
  const auto width = file.get_uint(prefix + ".embedding_length");
  const auto features = file.get_uint(prefix + ".features_length");
  if (width && tensor->dims[0] != *width && tensor->dims[0] != features) {
    throw load_error(file, field, shape_offset,
                     "rows of " + std::to_string(tensor->dims[0]) + " elements, but " + prefix +
                         ".embedding_length is " + std::to_string(*width));
  }
  if (tensor->dims[1] < n_tokens) {
    throw load_error(
        file, field, shape_offset + 8,
        std::to_string(tensor->dims[1]) + " embedding rows for " + std::to_string(n_tokens) + " tokens");
  }
}

void check_chat_templates(const File& file) {
  for (const MetadataEntry& entry : file.metadata()) {
    if (entry.key.starts_with("tokenizer.chat_template.")) file.get_string(entry.key);
  }
  const Array* names = file.get_array("tokenizer.chat_templates");
  if (names != nullptr && names->size > 0 && names->element_type != ValueType::kString) {
    refuse_entry(file, *file.find("tokenizer.chat_templates"), "is not an array of strings");
  }
}

}  // namespace

void validate_tokenizer(const File& file) {
  constexpr std::string_view kKey = "tokenizer.ggml.tokens";
  const Array* tokens = file.get_array(kKey);
  if (tokens != nullptr && (tokens->element_type != ValueType::kString || tokens->size == 0)) {
    refuse_entry(file, *file.find(kKey), tokens->size == 0 ? "is empty" : "is not an array of strings");
  }
  const uint64_t n_tokens = tokens != nullptr ? tokens->size : 0;
  if (n_tokens > 0x7FFFFFFF)
    refuse_entry(file, *file.find(kKey), "has more elements than token ids have values");
  check_scores(file, n_tokens);
  check_types(file, tokens);
  check_merges(file, tokens);
  if (tokens != nullptr) check_special_ids(file, n_tokens);
  check_embedding(file, n_tokens);
  check_chat_templates(file);
}

}  // namespace orcd::gguf
