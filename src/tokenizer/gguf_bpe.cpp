#include "tokenizer/gguf_bpe.h"

#include <nlohmann/json.hpp>

#include "tokenizer/byte_bpe.h"
#include "tokenizer/hf_bpe.h"
#include "tokenizer/hf_decoder.h"
#include "tokenizer/hf_document.h"
#include "tokenizer/pre_families.h"
#include "tokenizer/vocabulary.h"

namespace orcd::tokenizer {
namespace {

constexpr std::string_view kPreKey = "tokenizer.ggml.pre";
constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";

const PreFamily& read_family(const gguf::File& file) {
  const std::string_view name = file.need_string(kPreKey);
  const PreFamily* family = find_pre_family(name);
  if (family == nullptr) {
    throw gguf::load_error(file, kPreKey, file.find(kPreKey)->value_offset,
                           "pre-tokenizer family \"" + std::string(name) + "\" is not known",
                           "known: " + pre_family_names());
  }
  return *family;
}

MergeTable read_merges(const gguf::File& file, const Vocabulary& vocabulary) {
  const gguf::Array& merges = file.need_array(kMergesKey);
  if (merges.element_type != gguf::ValueType::kString || merges.size > UINT32_MAX) {
    throw gguf::load_error(file, kMergesKey, file.find(kMergesKey)->value_offset,
                           "merges must be an array of strings");
  }
  MergeTable table(merges.size);
  for (uint64_t rank = 0; rank < merges.size; ++rank) {
    const std::string_view text = merges.strings[rank];
    const size_t blank = text.find(' ');
    if (blank == std::string_view::npos || blank == 0 || blank + 1 == text.size() ||
        text.find(' ', blank + 1) != std::string_view::npos) {
      throw array_error(file, kMergesKey, rank, "a merge must be two tokens with one blank between them");
    }
    if (!add_merge(vocabulary, table, static_cast<uint32_t>(rank), text.substr(0, blank),
                   text.substr(blank + 1))) {
      throw array_error(file, kMergesKey, rank, "a merge names a token that the vocabulary does not hold");
    }
  }
  return table;
}

// Runs of newlines are cut out before anything else, as Gemma's tokenizer.json has it; its converter types
// them as ordinary tokens.
void match_newlines(Vocabulary& vocabulary) {
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view text = vocabulary.texts[id];
    if (text.find_first_not_of('\n') != std::string_view::npos || !vocabulary.is_plain(id)) continue;
    vocabulary.user_defined.add(text, id);
    vocabulary.all_special.add(text, id);
  }
}

}  // namespace

std::shared_ptr<const Tokenizer> make_gguf_gemma4(const std::shared_ptr<const gguf::File>& file) {
  // The converter names no ids where they are these, and early files deny the BOS that the model needs.
  Vocabulary vocabulary = read_vocabulary(
      file, {.bos_id = 2, .eos_id = 1, .unknown_id = 3, .adds_bos = true, .adds_space_prefix = false});
  vocabulary.adds_bos = true;
  match_newlines(vocabulary);
  MergeTable merges = read_merges(*file, vocabulary);
  const hf::Json normalizer = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\xE2\x96\x81"}};
  const hf::Json spaces = {{"type", "Replace"}, {"pattern", {{"String", "\xE2\x96\x81"}}}, {"content", " "}};
  const hf::Json decoder = {{"type", "Sequence"},
                            {"decoders", hf::Json::array({spaces, {{"type", "ByteFallback"}}})}};
  hf::decode_pieces(decoder, vocabulary);
  return hf::make_bpe(std::move(vocabulary), hf::Normalizer(normalizer), hf::TextCutter(nullptr),
                      {.kind = "gguf-bpe", .pre = "gemma4", .byte_fallback = true, .fuse_unknown = true},
                      std::move(merges));
}

std::shared_ptr<const Tokenizer> make_gguf_bpe(const std::shared_ptr<const gguf::File>& file) {
  const PreFamily& family = read_family(*file);
  VocabularyDefaults defaults;
  defaults.adds_bos = family.add_bos;
  Vocabulary vocabulary = read_vocabulary(file, defaults);
  MergeTable merges = read_merges(*file, vocabulary);
  const auto patterns = family.used_patterns();
  const auto byte_patterns = family.used_byte_patterns();
  ByteBpeRules rules{"gguf-bpe",
                     std::string(family.name),
                     {patterns.begin(), patterns.end()},
                     {byte_patterns.begin(), byte_patterns.end()},
                     family.normalize_nfc,
                     family.ignore_merges};
  return make_byte_bpe(std::move(vocabulary), std::move(rules), std::move(merges));
}

}  // namespace orcd::tokenizer
