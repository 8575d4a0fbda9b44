#include "tokenizer/pre_families.h"

#include <algorithm>

#include "tokenizer/character_sets.h"

namespace orcd::tokenizer {
namespace {

// The expression of OpenAI's GPT-2 encoder, as Hugging Face's ByteLevel pre-tokenizer has it.
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// OpenAI's cl100k with runs of three digits, and Qwen's form of it with single ones.
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
// OpenAI's o200k: words are cut where capitals begin.
constexpr std::string_view kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kKimi =
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// DeepSeek's: ideographs (and what lies between U+0800 and U+4E00) with Hangul; letters of the scripts with
// two cases.
constexpr std::string_view kDeepSeekIdeographs = R"([\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";
constexpr std::string_view kDeepSeekLetters =
    R"(\s?[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}]+)";
constexpr std::string_view kDeepSeekPunctuation =
    R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)";
constexpr std::string_view kDeepSeek3Cjk = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";
constexpr std::string_view kDeepSeek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// BLOOM's: words end at blanks and at the punctuation of its scripts.
constexpr std::string_view kBloom =
    R"( ?[^(\s|[.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C}])]+)";

// The splitting of each family is that of its reference's own tokenizer.json; llama.cpp simplifies some of
// them (falcon, falcon3). Refused because one name stands for several tokenizers, or because no reference is
// public: docs/FUTURE_WORK.md.
constexpr PreFamily kFamilies[] = {
    {"default", {}, {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", R"([0-9][0-9][0-9])"}},
    {"gpt-2", {"phi-2", "mellum", "exaone4", "trillion", "a.x-4.0"}, {kGpt2}},
    {.name = "olmo", .aliases = {"mpt"}, .patterns = {kGpt2}, .normalize_nfc = true},
    {"smollm", {"starcoder", "refact", "codeshell"}, {kDigit, kGpt2}},
    {.name = "command-r", .aliases = {}, .patterns = {kDigit, kGpt2}, .normalize_nfc = true},
    {"falcon", {}, {kPunctuationRun, kGpt2}, {R"(\p{N}+)", R"([0-9][0-9][0-9])"}},
    {"falcon3", {}, {kPunctuationRun, kGpt2}, {R"(\p{N})"}},
    {.name = "qwen2",
     .aliases = {"deepseek-r1-qwen", "stablelm2", "hunyuan"},
     .patterns = {kQwen2},
     .normalize_nfc = true},
    {"grok-2", {"megrez"}, {kQwen2}},
    {.name = "qwen35", .aliases = {}, .patterns = {kQwen35}, .normalize_nfc = true},
    {"seed-coder", {}, {kSeedCoder}},
    {"bailingmoe", {"bailingmoe2", "llada-moe"}, {kBailing}},
    {.name = "llama-bpe",
     .aliases = {"llama3", "llama-v3", "pixtral", "midm-2.0", "lfm2"},
     .patterns = {kLlama3},
     .ignore_merges = true,
     .add_bos = true},
    {"dbrx", {"smaug-bpe", "chatglm-bpe", "glm4"}, {kLlama3}},
    {"gpt-4o", {"o200k", "llama4", "minimax-m2"}, {kO200k}},
    {.name = "tekken", .aliases = {}, .patterns = {kTekken}, .ignore_merges = true, .add_bos = true},
    {"kimi-k2", {}, {kKimi}},
    {"deepseek-llm",
     {},
     {R"([\r\n])", kDeepSeekLetters, kDeepSeekPunctuation, R"(\s+$)", kDeepSeekIdeographs, kDigit}},
    {"deepseek-coder", {}, {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepSeekIdeographs, kDigit}},
    {"deepseek-v3", {"hunyuan-dense", "joyai-llm"}, {R"(\p{N}{1,3})", kDeepSeek3Cjk, kDeepSeek3}},
    {"bloom", {"poro-chat", "gpt3-finnish"}, {kBloom}},
    {"viking", {}, {kBloom, kDigit}},
    {"superbpe", {}, {kDigitRun, R"((?=(\d{3})+(?!\d)))"}},
};

template <size_t kSize>
std::span<const std::string_view> used(const std::array<std::string_view, kSize>& patterns) {
  return {patterns.begin(), std::find(patterns.begin(), patterns.end(), std::string_view())};
}

}  // namespace

std::span<const std::string_view> PreFamily::used_patterns() const { return used(patterns); }
std::span<const std::string_view> PreFamily::used_byte_patterns() const { return used(byte_patterns); }

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
    for (const std::string_view alias : family.aliases) {
      if (!alias.empty()) names.append(", ").append(alias);
    }
  }
  return names;
}

}  // namespace orcd::tokenizer
