#include "gguf/split.h"

#include <cstdio>
#include <string_view>
#include <utility>

#include "gguf/refusal.h"

namespace orcd::gguf {
namespace {

constexpr std::string_view kExtension = ".gguf";
constexpr size_t kDigits = 5;

std::optional<uint32_t> five_digits(std::string_view text) {
  uint32_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint32_t>(c - '0');
  }
  return value;
}

std::optional<uint64_t> uint_of(const Part& part, std::string_view key) {
  const MetadataEntry* entry = part.find(key);
  if (entry == nullptr) return std::nullopt;
  if (const auto* value = std::get_if<uint64_t>(&entry->value)) return *value;
  const auto* value = std::get_if<int64_t>(&entry->value);
  if (value == nullptr || *value < 0) {
    refuse(part.source->name(), key, entry->value_offset, "is not a non-negative integer");
  }
  return static_cast<uint64_t>(*value);
}

// A key that is there must say what the name says; absent ones are taken from the name.
void check_key(const Part& part, std::string_view key, uint64_t expected, const std::string& hint) {
  const auto value = uint_of(part, key);
  if (value && *value != expected) {
    refuse(part.source->name(), key, part.find(key)->value_offset,
           "is " + std::to_string(*value) + ", expected " + std::to_string(expected), hint);
  }
}

void check_set(const std::vector<std::unique_ptr<Part>>& parts) {
  uint64_t n_tensors = 0;
  for (const auto& part : parts) n_tensors += part->tensors.size();
  for (size_t i = 0; i < parts.size(); ++i) {
    check_key(*parts[i], "split.tensors.count", n_tensors, "a part is of another model, or incomplete");
  }
  StringIndex names;
  for (size_t i = 0; i < parts.size(); ++i) {
    for (const TensorInfo& tensor : parts[i]->tensors) {
      const auto earlier = names.insert(tensor.name, static_cast<uint32_t>(i));
      if (earlier) {
        refuse(parts[i]->source->name(), tensor.name, tensor.info_offset,
               "the tensor is also in part " + std::to_string(*earlier + 1));
      }
    }
  }
}

}  // namespace

std::string SplitName::part_path(uint32_t part_number) const {
  char suffix[40];
  std::snprintf(suffix, sizeof suffix, "-%05u-of-%05u", part_number, count);
  return prefix + suffix + std::string(kExtension);
}

std::optional<SplitName> parse_split_name(const std::string& path) {
  // "-NNNNN-of-MMMMM.gguf"
  constexpr size_t kSuffix = 1 + kDigits + 4 + kDigits + kExtension.size();
  if (path.size() <= kSuffix) return std::nullopt;
  const std::string_view suffix = std::string_view(path).substr(path.size() - kSuffix);
  if (suffix[0] != '-' || suffix.substr(1 + kDigits, 4) != "-of-" ||
      suffix.substr(kSuffix - kExtension.size()) != kExtension) {
    return std::nullopt;
  }
  const auto number = five_digits(suffix.substr(1, kDigits));
  const auto count = five_digits(suffix.substr(1 + kDigits + 4, kDigits));
  if (!number || !count || *number == 0 || *number > *count) return std::nullopt;
  return SplitName{path.substr(0, path.size() - kSuffix), *number, *count};
}

std::vector<std::unique_ptr<Part>> open_parts(const std::string& path) {
  std::vector<std::unique_ptr<Part>> parts;
  const auto name = parse_split_name(path);
  if (!name) {
    parts.push_back(parse_part(open_file_source(path), 0));
    const Part& part = *parts.front();
    const auto count = uint_of(part, "split.count");
    if (count && *count > 1) {
      refuse(path, "split.count", part.find("split.count")->value_offset,
             "the file is one part of " + std::to_string(*count) + ", but its name does not say which",
             "give the parts their names back: NAME-00001-of-" + std::string("0000M.gguf"));
    }
    return parts;
  }
  for (uint32_t number = 1; number <= name->count; ++number) {
    parts.push_back(parse_part(open_file_source(name->part_path(number)), number - 1));
    // A wrong name is told before the search for files that were never there.
    check_key(*parts.back(), "split.count", name->count,
              "the file's name and its metadata disagree: was it renamed?");
    check_key(*parts.back(), "split.no", number - 1, "parts are numbered by their names: was one renamed?");
  }
  check_set(parts);
  return parts;
}

}  // namespace orcd::gguf
