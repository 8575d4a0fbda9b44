#include "tokenizer/gguf_bpe.h"

#include <algorithm>
#include <array>

#include "tokenizer/bpe_merger.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/pre_families.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/unicode.h"
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

// The token that merges spell `text`. User-defined tokens (runs of blanks, say) stand in the vocabulary as
// plain text, but merges spell them in the byte-level alphabet like the others.
int32_t find_merge_token(const Vocabulary& vocabulary, std::string_view text) {
  int32_t id = vocabulary.ids.find(text);
  if (id < 0) {
    const auto bytes = byte_level_decode(text);
    if (bytes && !bytes->empty()) id = vocabulary.ids.find(*bytes);
    if (id >= 0 && vocabulary.types[id] != TokenType::kUserDefined) id = -1;
  }
  return id;
}

MergeTable read_merges(const gguf::File& file, const Vocabulary& vocabulary) {
  const gguf::Array& merges = file.need_array(kMergesKey);
  if (merges.element_type != gguf::ValueType::kString || merges.size > UINT32_MAX) {
    throw gguf::load_error(file, kMergesKey, file.find(kMergesKey)->value_offset,
                           "merges must be an array of strings");
  }
  MergeTable table(merges.size);
  std::string merged;
  for (uint64_t rank = 0; rank < merges.size; ++rank) {
    const std::string_view text = merges.strings[rank];
    const size_t blank = text.find(' ');
    if (blank == std::string_view::npos || blank == 0 || blank + 1 == text.size() ||
        text.find(' ', blank + 1) != std::string_view::npos) {
      throw array_error(file, kMergesKey, rank, "a merge must be two tokens with one blank between them");
    }
    merged.assign(text, 0, blank).append(text, blank + 1);
    const int32_t left = find_merge_token(vocabulary, text.substr(0, blank));
    const int32_t right = find_merge_token(vocabulary, text.substr(blank + 1));
    const int32_t id = find_merge_token(vocabulary, merged);
    if (left < 0 || right < 0 || id < 0) {
      throw array_error(file, kMergesKey, rank, "a merge names a token that the vocabulary does not hold");
    }
    if (vocabulary.is_control(id)) continue;  // text never spells a control token
    table.add(left, right, {static_cast<uint32_t>(rank), id});
  }
  return table;
}

// Fills in the bytes of the tokens that are spelled in the byte-level alphabet.
void decode_pieces(Vocabulary& vocabulary) {
  vocabulary.own_pieces.reserve(vocabulary.texts.size());
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.is_plain(id)) continue;
    const std::string_view text = vocabulary.texts[id];
    const auto is_own = [](char c) { return c > ' ' && c < 0x7F; };
    if (std::all_of(text.begin(), text.end(), is_own)) continue;  // spelled as it is
    if (auto bytes = byte_level_decode(text)) {
      vocabulary.pieces[id] = vocabulary.own_pieces.emplace_back(std::move(*bytes));
    }
  }
}

class GgufBpe final : public VocabularyTokenizer {
 public:
  GgufBpe(Vocabulary vocabulary, const PreFamily& family, MergeTable merges)
      : VocabularyTokenizer(std::move(vocabulary)),
        family_(family),
        pre_tokenizer_(family.used_patterns()),
        merges_(std::move(merges)) {
    constexpr auto kAlphabet = byte_level_alphabet();
    for (int byte = 0; byte < 256; ++byte) {
      append_utf8(kAlphabet[byte], byte_texts_[byte]);
      byte_ids_[byte] = this->vocabulary().ids.find(byte_texts_[byte]);
    }
  }

  std::string_view kind() const override { return "gguf-bpe"; }
  std::string_view pre() const override { return family_.name; }

 protected:
  void encode_plain(std::string_view text, std::vector<int32_t>& ids) const override {
    std::string normalized;
    if (family_.normalize_nfc && normalize_nfc(text, normalized)) text = normalized;
    std::vector<size_t> ends;
    pre_tokenizer_.split(text, ends);
    size_t begin = 0;
    for (const size_t end : ends) {
      encode_word(text.substr(begin, end - begin), ids);
      begin = end;
    }
  }

 private:
  void encode_word(std::string_view word, std::vector<int32_t>& ids) const {
    if (family_.ignore_merges) {
      std::string spelled;
      for (const char c : word) spelled += byte_texts_[static_cast<uint8_t>(c)];
      const int32_t id = vocabulary().ids.find(spelled);
      if (id >= 0 && !vocabulary().is_control(id)) {
        ids.push_back(id);
        return;
      }
    }
    const size_t first = ids.size();
    for (const char c : word) {
      const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
      // A few vocabularies lack bytes that valid text hardly has (SmolLM2: 0xF1 and some more). Such a byte
      // is dropped, as the reference does: the unknown token is often a control token, which text must never
      // spell.
      if (id >= 0) ids.push_back(id);
    }
    ids.resize(first + merge_symbols(merges_, std::span(ids).subspan(first)));
  }

  const PreFamily& family_;
  PreTokenizer pre_tokenizer_;
  MergeTable merges_;
  std::array<std::string, 256> byte_texts_;  // each byte in the byte-level alphabet
  std::array<int32_t, 256> byte_ids_{};      // its token, -1 if the vocabulary has none
};

}  // namespace

std::shared_ptr<const Tokenizer> make_gguf_bpe(const std::shared_ptr<const gguf::File>& file) {
  const PreFamily& family = read_family(*file);
  VocabularyDefaults defaults;
  defaults.adds_bos = family.add_bos;
  Vocabulary vocabulary = read_vocabulary(file, defaults);
  MergeTable merges = read_merges(*file, vocabulary);
  decode_pieces(vocabulary);
  return std::make_shared<GgufBpe>(std::move(vocabulary), family, std::move(merges));
}

}  // namespace orcd::tokenizer
