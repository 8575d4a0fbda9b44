#include "tokenizer/byte_bpe.h"

#include <algorithm>
#include <array>

#include "tokenizer/byte_level.h"
#include "tokenizer/conformance.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer {
namespace {

std::vector<std::string_view> views(const std::vector<std::string>& texts) {
  return {texts.begin(), texts.end()};
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

}  // namespace

void decode_byte_level_pieces(Vocabulary& vocabulary) {
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

namespace {

class ByteBpe final : public VocabularyTokenizer {
 public:
  ByteBpe(Vocabulary vocabulary, ByteBpeRules rules, MergeTable merges)
      : VocabularyTokenizer(std::move(vocabulary)),
        rules_(std::move(rules)),
        pre_tokenizer_(views(rules_.patterns), views(rules_.byte_patterns)),
        conformance_(check_conformance(rules_.pre, pre_tokenizer_, rules_.normalize_nfc)),
        merges_(std::move(merges)) {
    constexpr auto kAlphabet = byte_level_alphabet();
    for (int byte = 0; byte < 256; ++byte) {
      append_utf8(kAlphabet[byte], byte_texts_[byte]);
      byte_ids_[byte] = this->vocabulary().ids.find(byte_texts_[byte]);
    }
  }

  std::string_view kind() const override { return rules_.kind; }
  std::string_view pre() const override { return rules_.pre; }
  Conformance conformance() const override { return conformance_; }

 protected:
  void encode_plain(std::string_view text, bool /*at_start*/, const SpecialMatcher& late,
                    std::vector<int32_t>& ids) const override {
    std::string normalized;
    if (rules_.normalize_nfc && normalize_nfc(text, normalized)) text = normalized;
    if (late.empty()) return encode_stretch(text, ids);
    encode_around_late(text, late, ids, [&](size_t begin, size_t end) {
      encode_stretch(text.substr(begin, end - begin), ids);
    });
  }

 private:
  void encode_stretch(std::string_view text, std::vector<int32_t>& ids) const {
    std::vector<size_t> ends;
    pre_tokenizer_.split(text, ends);
    size_t begin = 0;
    for (const size_t end : ends) {
      encode_word(text.substr(begin, end - begin), ids);
      begin = end;
    }
  }

  void encode_word(std::string_view word, std::vector<int32_t>& ids) const {
    if (rules_.ignore_merges) {
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

  const ByteBpeRules rules_;
  PreTokenizer pre_tokenizer_;
  Conformance conformance_;
  MergeTable merges_;
  std::array<std::string, 256> byte_texts_;  // each byte in the byte-level alphabet
  std::array<int32_t, 256> byte_ids_{};      // its token, -1 if the vocabulary has none
};

}  // namespace

bool add_merge(const Vocabulary& vocabulary, MergeTable& table, uint32_t rank, std::string_view left,
               std::string_view right) {
  const int32_t left_id = find_merge_token(vocabulary, left);
  const int32_t right_id = find_merge_token(vocabulary, right);
  const int32_t id = find_merge_token(vocabulary, std::string(left).append(right));
  if (left_id < 0 || right_id < 0 || id < 0) return false;
  // Text never spells a control token.
  if (!vocabulary.is_control(id)) table.add(left_id, right_id, {rank, id});
  return true;
}

std::shared_ptr<const Tokenizer> make_byte_bpe(Vocabulary vocabulary, ByteBpeRules rules, MergeTable merges) {
  decode_byte_level_pieces(vocabulary);
  return std::make_shared<ByteBpe>(std::move(vocabulary), std::move(rules), std::move(merges));
}

}  // namespace orcd::tokenizer
