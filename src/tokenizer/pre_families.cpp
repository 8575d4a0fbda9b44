#include "tokenizer/pre_families.h"

#include <algorithm>

namespace orcd::tokenizer {
namespace {

// The expression of OpenAI's GPT-2 encoder, as Hugging Face's ByteLevel pre-tokenizer has it.
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Every digit by itself. The reference takes digits from a newer Unicode (17) than its expressions do (16):
// the two spelled-out ranges are the difference.
constexpr std::string_view kSingleDigits = R"([\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}])";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr PreFamily kFamilies[] = {
    {"default", {}, {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", R"([0-9][0-9][0-9])"}},
    {"gpt-2", {"phi-2", "mellum"}, {kGpt2}},
    {"smollm", {}, {kSingleDigits, kGpt2}},
    {"qwen2", {}, {kQwen2}, /*normalize_nfc=*/true},
    {"llama-bpe",
     {"llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
     {kLlama3},
     /*normalize_nfc=*/false,
     /*ignore_merges=*/true,
     /*add_bos=*/true},
};

}  // namespace

std::span<const std::string_view> PreFamily::used_patterns() const {
  const auto end = std::find(patterns.begin(), patterns.end(), std::string_view());
  return {patterns.begin(), end};
}

std::span<const PreFamily> pre_families() { return kFamilies; }

const PreFamily* find_pre_family(std::string_view name) {
  if (name.empty()) return nullptr;
  for (const PreFamily& family : kFamilies) {
    const auto& aliases = family.aliases;
    if (family.name == name || std::find(aliases.begin(), aliases.end(), name) != aliases.end())
      return &family;
  }
  return nullptr;
}

std::string pre_family_names() {
  std::string names;
  for (const PreFamily& family : kFamilies) {
    if (!names.empty()) names += ", ";
    names += family.name;
  }
  return names;
}

}  // namespace orcd::tokenizer
