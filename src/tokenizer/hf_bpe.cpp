#include "tokenizer/hf_bpe.h"

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "tokenizer/unicode.h"

namespace orcd::tokenizer::hf {
namespace {

class Bpe final : public VocabularyTokenizer {
 public:
  Bpe(Vocabulary vocabulary, Normalizer normalizer, TextCutter cutter, BpeRules rules, MergeTable merges)
      : VocabularyTokenizer(std::move(vocabulary)),
        normalizer_(std::move(normalizer)),
        cutter_(std::move(cutter)),
        rules_(rules),
        merges_(std::move(merges)) {
    constexpr char kHex[] = "0123456789ABCDEF";
    for (size_t byte = 0; byte < 256; ++byte) {
      const char text[] = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>', '\0'};
      byte_ids_[byte] = rules_.byte_fallback ? find(text) : -1;
    }
  }

  std::string_view kind() const override { return rules_.kind; }
  std::string_view pre() const override { return rules_.pre; }

 protected:
  void encode_plain(std::string_view text, bool at_start, const SpecialMatcher& late,
                    std::vector<int32_t>& ids) const override {
    const std::string normalized = normalizer_.apply(std::string(text));
    encode_around_late(normalized, late, ids, [&](size_t begin, size_t end) {
      for (const std::string& piece :
           cutter_.cut(normalized.substr(begin, end - begin), at_start && begin == 0))
        encode_piece(piece, ids);
    });
  }

 private:
  // Text never spells a control token.
  int32_t find(std::string_view text) const {
    const int32_t id = vocabulary().ids.find(text);
    return id < 0 || vocabulary().is_control(id) ? -1 : id;
  }

  void encode_piece(std::string_view piece, std::vector<int32_t>& ids) const {
    if (rules_.ignore_merges) {
      if (const int32_t id = find(piece); id >= 0) {
        ids.push_back(id);
        return;
      }
    }
    const size_t first = ids.size();
    add_symbols(piece, ids);
    ids.resize(first + merge_symbols(merges_, std::span(ids).subspan(first)));
  }

  void add_symbols(std::string_view piece, std::vector<int32_t>& ids) const {
    bool has_unknown = false;  // one that waits for the next symbol, as the reference has it
    const auto flush = [&] {
      if (std::exchange(has_unknown, false)) ids.push_back(vocabulary().unknown_id);
    };
    while (!piece.empty()) {
      const Utf8Char c = decode_utf8(piece);
      const std::string_view character = piece.substr(0, c.n_bytes);
      piece.remove_prefix(c.n_bytes);
      if (const int32_t id = find(character); id >= 0) {
        flush();
        ids.push_back(id);
      } else if (!add_bytes(character, ids) && vocabulary().unknown_id >= 0) {
        if (!rules_.fuse_unknown) flush();
        has_unknown = true;
      }
    }
    flush();
  }

  bool add_bytes(std::string_view character, std::vector<int32_t>& ids) const {
    for (const char c : character) {
      if (byte_ids_[static_cast<uint8_t>(c)] < 0) return false;
    }
    for (const char c : character) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
    return true;
  }

  const Normalizer normalizer_;
  const TextCutter cutter_;
  const BpeRules rules_;
  const MergeTable merges_;
  std::array<int32_t, 256> byte_ids_{};  // -1 where the vocabulary has no token for the byte
};

}  // namespace

std::shared_ptr<const Tokenizer> make_bpe(Vocabulary vocabulary, Normalizer normalizer, TextCutter cutter,
                                          BpeRules rules, MergeTable merges) {
  return std::make_shared<Bpe>(std::move(vocabulary), std::move(normalizer), std::move(cutter), rules,
                               std::move(merges));
}

}  // namespace orcd::tokenizer::hf
