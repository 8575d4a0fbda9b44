#include "gguf/validate.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gguf/refusal.h"
#include "gguf/values.h"

namespace orcd::gguf {
namespace {

// Far above any real model; keeps later arithmetic on them away from overflow.
constexpr uint64_t kMaxLayers = 65535;
constexpr uint64_t kMaxWidth = uint64_t{1} << 24;
constexpr uint64_t kMaxContext = 0x7FFFFFFF;

constexpr std::string_view kStringKeys[] = {"general.architecture", "general.type",
                                            "general.name",         "tokenizer.ggml.model",
                                            "tokenizer.ggml.pre",   "tokenizer.chat_template",
                                            "general.license",      "general.description"};

[[noreturn]] void refuse_entry(const File& file, const MetadataEntry& entry, std::string message) {
  throw load_error(file, entry.key, entry.value_offset, std::move(message));
}

bool is_integer(ValueType type) {
  return type != ValueType::kF32 && type != ValueType::kF64 && type != ValueType::kBool &&
         type != ValueType::kString && type != ValueType::kArray;
}

// The metadata of one architecture, by the part of the key after "<arch>.".
class Hyperparameters {
 public:
  explicit Hyperparameters(const File& file)
      : file_(file), prefix_(std::string(*file.get_string("general.architecture")) + ".") {}

  std::string key(std::string_view name) const { return prefix_ + std::string(name); }
  const MetadataEntry* find(std::string_view name) const { return file_.find(key(name)); }
  // Scalar value; nullopt when absent or an array (one value for each layer).
  std::optional<uint64_t> scalar(std::string_view name) const {
    const MetadataEntry* entry = find(name);
    if (entry == nullptr || entry->type == ValueType::kArray) return std::nullopt;
    return file_.get_uint(key(name));
  }
  // State-space and RWKV models say "0 heads" and mean it.
  bool is_recurrent() const {
    return std::any_of(file_.metadata().begin(), file_.metadata().end(), [&](const MetadataEntry& entry) {
      return entry.key.starts_with(prefix_ + "ssm.") || entry.key.starts_with(prefix_ + "wkv.");
    });
  }
  // The value in layer `layer`, of a scalar or an array; nullopt when absent.
  std::optional<uint64_t> in_layer(std::string_view name, uint64_t layer) const {
    const MetadataEntry* entry = find(name);
    if (entry == nullptr) return std::nullopt;
    const auto* array = std::get_if<Array>(&entry->value);
    if (array == nullptr) return scalar(name);
    if (layer >= array->size) return std::nullopt;
    return static_cast<uint64_t>(array->as_int(layer));
  }
  const std::string& prefix() const { return prefix_; }

 private:
  const File& file_;
  std::string prefix_;
};

// Counts: positive (unless zero is told to be fine) and at most `limit`.
void check_count(const File& file, const Hyperparameters& hyper, std::string_view name, uint64_t limit,
                 bool zero_ok) {
  const auto value = hyper.scalar(name);
  if (!value) return;
  const MetadataEntry& entry = *hyper.find(name);
  if (*value == 0 && !zero_ok) refuse_entry(file, entry, "is zero");
  if (*value > limit) {
    refuse_entry(file, entry, "is " + std::to_string(*value) + ", the limit is " + std::to_string(limit));
  }
}

// One value for each layer: integers, not negative, as many as there are layers.
void check_layer_array(const File& file, const Hyperparameters& hyper, std::string_view name,
                       bool all_zero_ok) {
  const MetadataEntry* entry = hyper.find(name);
  if (entry == nullptr || entry->type != ValueType::kArray) return;
  const auto& array = std::get<Array>(entry->value);
  if (!is_integer(array.element_type)) refuse_entry(file, *entry, "is not an array of integers");
  const auto n_layers = hyper.scalar("block_count");
  if (n_layers && array.size != *n_layers) {
    refuse_entry(
        file, *entry,
        "has " + std::to_string(array.size) + " values for " + std::to_string(*n_layers) + " layers");
  }
  bool all_zero = true;
  for (uint64_t i = 0; i < array.size; ++i) {
    const int64_t value = array.as_int(i);
    if (value < 0 || static_cast<uint64_t>(value) > kMaxWidth) {
      throw load_error(file, Field{entry->key, i}.text(),
                       file.offset_of(array.bytes.data()) + i * value_type_bytes(array.element_type),
                       "is " + std::to_string(value) + ", not 0 to " + std::to_string(kMaxWidth));
    }
    all_zero = all_zero && value == 0;
  }
  if (all_zero && !all_zero_ok) refuse_entry(file, *entry, "is zero in every layer");
}

void check_heads(const File& file, const Hyperparameters& hyper) {
  const MetadataEntry* kv = hyper.find("attention.head_count_kv");
  const auto n_heads = hyper.scalar("attention.head_count");
  const auto width = hyper.scalar("embedding_length");
  if (n_heads && *n_heads > 0 && width && hyper.find("attention.key_length") == nullptr &&
      !hyper.is_recurrent() && *width % *n_heads != 0) {
    refuse_entry(file, *hyper.find("attention.head_count"),
                 "embedding_length " + std::to_string(*width) + " is not divisible by " +
                     std::to_string(*n_heads) + " heads");
  }
  if (kv == nullptr) return;
  const auto* array = std::get_if<Array>(&kv->value);
  const uint64_t n = array != nullptr ? array->size : 1;
  for (uint64_t layer = 0; layer < n; ++layer) {
    const auto q = hyper.in_layer("attention.head_count", layer);
    const auto k = hyper.in_layer("attention.head_count_kv", layer);
    if (q && k && *k != 0 && *q % *k != 0) {
      throw load_error(
          file, Field{kv->key, array != nullptr ? layer : Field::kNoIndex}.text(), kv->value_offset,
          std::to_string(*q) + " heads are not divisible by " + std::to_string(*k) + " key-value heads");
    }
  }
}

void check_experts(const File& file, const Hyperparameters& hyper) {
  const auto n_experts = hyper.scalar("expert_count");
  const auto n_used = hyper.scalar("expert_used_count");
  if (!n_experts || !n_used) return;
  if (*n_used > *n_experts || (*n_experts > 0 && *n_used == 0)) {
    refuse_entry(file, *hyper.find("expert_used_count"),
                 "is " + std::to_string(*n_used) + " of " + std::to_string(*n_experts) + " experts");
  }
}

void check_float(const File& file, const MetadataEntry& entry, const std::string& prefix) {
  const double value = std::get<double>(entry.value);
  const std::string_view name = entry.key.substr(prefix.size());
  if (!std::isfinite(value)) refuse_entry(file, entry, "is not a finite number");
  if (name.ends_with("epsilon") && (value < 0 || value >= 1)) {
    refuse_entry(file, entry, "is " + std::to_string(value) + ", not in 0 to 1");
  }
  if (name.starts_with("rope.freq_base") && value <= 0) {
    refuse_entry(file, entry, "is " + std::to_string(value) + ", not positive");
  }
  if (name.starts_with("rope.") && name.ends_with("factor") && value < 0) {
    refuse_entry(file, entry, "is " + std::to_string(value) + ", negative");
  }
}

// Floats of the architecture: present as floats, finite, in their range.
void check_floats(const File& file, const Hyperparameters& hyper) {
  for (const MetadataEntry& entry : file.metadata()) {
    if (!entry.key.starts_with(hyper.prefix())) continue;
    if (std::holds_alternative<double>(entry.value)) {
      check_float(file, entry, hyper.prefix());
    } else if (entry.key.ends_with("epsilon") ||
               entry.key.substr(hyper.prefix().size()).starts_with("rope.freq_base")) {
      if (entry.type != ValueType::kArray) refuse_entry(file, entry, "is not a float");
    }
    const auto* array = std::get_if<Array>(&entry.value);
    if (array == nullptr ||
        (array->element_type != ValueType::kF32 && array->element_type != ValueType::kF64))
      continue;
    for (uint64_t i = 0; i < array->size; ++i) {
      if (!std::isfinite(array->as_double(i))) {
        throw load_error(file, Field{entry.key, i}.text(),
                         file.offset_of(array->bytes.data()) + i * value_type_bytes(array->element_type),
                         "is not a finite number");
      }
    }
  }
}

// "blk.12.attn_q.weight" -> 12; nullopt for other names. A number too large to be one is kMaxLayers + 1.
std::optional<uint64_t> layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  uint64_t layer = 0;
  size_t i = kPrefix.size();
  for (; i < name.size() && name[i] >= '0' && name[i] <= '9'; ++i) {
    layer = std::min<uint64_t>(layer * 10 + static_cast<uint64_t>(name[i] - '0'), kMaxLayers + 1);
  }
  return i > kPrefix.size() && i < name.size() && name[i] == '.' ? std::optional(layer) : std::nullopt;
}

// "posnet.3.conv.weight", "enc.blk.0.attn_q.weight": layers under another name than blk.
bool is_numbered(std::string_view name) {
  for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
    const size_t end = name.find_first_not_of("0123456789", dot + 1);
    if (end != std::string_view::npos && end > dot + 1 && name[end] == '.') return true;
  }
  return false;
}

}  // namespace

void validate_hyperparameters(const File& file) {
  for (const std::string_view key : kStringKeys) file.get_string(key);
  file.get_uint("general.file_type");
  const std::string_view arch = file.need_string("general.architecture");
  if (arch.empty()) refuse_entry(file, *file.find("general.architecture"), "is empty");
  const Hyperparameters hyper(file);
  const bool recurrent = hyper.is_recurrent();
  check_count(file, hyper, "block_count", kMaxLayers, false);
  check_count(file, hyper, "context_length", kMaxContext, false);
  check_count(file, hyper, "embedding_length", kMaxWidth, false);
  check_count(file, hyper, "vocab_size", kMaxContext, false);
  check_count(file, hyper, "feed_forward_length", kMaxWidth,
              recurrent || hyper.find("expert_count") != nullptr);
  check_count(file, hyper, "attention.head_count", kMaxLayers, recurrent);
  check_count(file, hyper, "attention.head_count_kv", kMaxLayers, recurrent);
  check_count(file, hyper, "attention.key_length", kMaxWidth, false);
  check_count(file, hyper, "attention.value_length", kMaxWidth, false);
  check_count(file, hyper, "attention.sliding_window", kMaxContext, true);
  check_count(file, hyper, "rope.dimension_count", kMaxWidth, true);
  check_count(file, hyper, "expert_count", kMaxLayers, true);
  const auto rope_dims = hyper.scalar("rope.dimension_count");
  if (rope_dims && *rope_dims % 2 != 0) {
    refuse_entry(file, *hyper.find("rope.dimension_count"), "is odd: " + std::to_string(*rope_dims));
  }
  check_layer_array(file, hyper, "attention.head_count", recurrent);
  check_layer_array(file, hyper, "attention.head_count_kv", recurrent);
  check_layer_array(file, hyper, "feed_forward_length", true);
  check_heads(file, hyper);
  check_experts(file, hyper);
  check_floats(file, hyper);
}

void validate_layers(const File& file) {
  // Adapters (LoRA) and the like hold some layers only.
  const auto type = file.get_string("general.type");
  if (file.tensors().empty() || (type && *type != "model")) return;
  const Hyperparameters hyper(file);
  const auto n_layers = hyper.scalar("block_count");
  std::vector<bool> present;
  bool other_layers = false;
  for (const TensorInfo& tensor : file.tensors()) {
    const auto layer = layer_of(tensor.name);
    if (!layer) {
      other_layers = other_layers || is_numbered(tensor.name);
      continue;
    }
    if (!n_layers) file.need_uint(hyper.key("block_count"));
    if (*layer >= *n_layers) {
      throw load_error(file, tensor.name, tensor.info_offset,
                       "is of layer " + std::to_string(*layer) + ", but " + hyper.key("block_count") +
                           " is " + std::to_string(*n_layers));
    }
    present.resize(*n_layers);
    present[*layer] = true;
  }
  if (n_layers && !other_layers && file.find_tensor("token_embd.weight") != nullptr)
    present.resize(*n_layers);
  // Prediction layers at the end may have been left out; so may layers that are pruned to nothing.
  const uint64_t n_optional = hyper.scalar("nextn_predict_layers").value_or(0);
  for (uint64_t layer = 0; layer < present.size(); ++layer) {
    const bool pruned = hyper.in_layer("attention.head_count", layer) == 0 &&
                        hyper.in_layer("feed_forward_length", layer) == 0;
    if (present[layer] || pruned || layer + n_optional >= *n_layers) continue;
    refuse_entry(
        file, *hyper.find("block_count"),
        "is " + std::to_string(*n_layers) + ", but there are no tensors blk." + std::to_string(layer) + ".*");
  }
}

void validate(const File& file) {
  validate_hyperparameters(file);
  validate_layers(file);
  validate_tokenizer(file);
}

}  // namespace orcd::gguf
