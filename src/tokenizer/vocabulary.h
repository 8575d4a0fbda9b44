// What every kind of tokenizer shares: the token texts and types, the tokens matched in text
// before anything else, the ids that open and end a text; and a Tokenizer that leaves only plain stretches to
// its kind.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gguf/file.h"
#include "tokenizer/special_matcher.h"
#include "tokenizer/token_map.h"
#include "tokenizer/tokenizer.h"

namespace orcd::tokenizer {

// tokenizer.ggml.token_type, as the file stores it.
enum class TokenType : uint8_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct Vocabulary {
  std::shared_ptr<const void> owner;    // keeps what texts point to
  std::vector<std::string_view> texts;  // as the file spells them
  std::vector<TokenType> types;
  std::vector<std::string_view>
      pieces;  // the bytes of each token in text, control tokens in their written form
  std::vector<std::string> own_pieces;  // backs those pieces that the file does not spell
  TokenMap ids;
  SpecialMatcher user_defined;   // always matched in text
  SpecialMatcher all_special;    // these, and control and unknown tokens: matched on request
  SpecialMatcher late;           // user-defined, but matched in normalised text, between the others
  SpecialMatcher all_late;       // these, and control tokens that are matched there: on request
  std::vector<int32_t> end_ids;  // ascending
  int32_t bos_id = -1;
  int32_t eos_id = -1;
  int32_t unknown_id = -1;
  bool adds_bos = false;
  bool adds_space_prefix = false;

  int32_t size() const { return static_cast<int32_t>(texts.size()); }
  bool has(int32_t id) const { return id >= 0 && id < size(); }
  // Never produced from plain text: control and unknown tokens.
  bool is_control(int32_t id) const {
    return types[id] == TokenType::kControl || types[id] == TokenType::kUnknown;
  }
  // A token that stands for text by its spelling, not matched before: normal, unused.
  bool is_plain(int32_t id) const {
    return types[id] == TokenType::kNormal || types[id] == TokenType::kUnused;
  }
};

// The byte that a token of byte fallback stands for: "<0x0A>" -> 10; -1 for any other spelling.
int byte_of_token(std::string_view text);

// What the metadata says where it says nothing, by kind.
struct VocabularyDefaults {
  int32_t bos_id = -1;
  int32_t eos_id = -1;
  int32_t unknown_id = -1;
  bool adds_bos = false;
  bool adds_space_prefix = false;
};

// Reads tokens, types and ids; `pieces` are the texts until the kind fills in others. Throws
// Error(kModelLoadFailed).
Vocabulary read_vocabulary(const std::shared_ptr<const gguf::File>& file, const VocabularyDefaults& defaults);
// The error for a bad element of a tokenizer array: names key, index and the element's byte offset.
Error array_error(const gguf::File& file, std::string_view key, uint64_t index, std::string message);
// An id read from `key`, or `missing`. Throws when it is not an id of the vocabulary.
int32_t read_id(const gguf::File& file, std::string_view key, uint64_t n_tokens, int32_t missing);

// What a tokenizer.json says about an added token beyond its text and type.
struct AddedTokenRules {
  SpecialMatcher::Rules surroundings;
  std::optional<std::string> normalized;  // matched in normalised text, where it reads so
};
// Fills ids, pieces and matchers from texts and types, which must stay where they are.
void index_tokens(Vocabulary& vocabulary, const std::unordered_map<int32_t, AddedTokenRules>& rules = {});
// The end-of-generation ids: `named` (-1 is none), eos, and the tokens by which the families end a turn.
std::vector<int32_t> find_end_ids(const Vocabulary& vocabulary, std::vector<int32_t> named);

class VocabularyTokenizer : public Tokenizer {
 public:
  explicit VocabularyTokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const final;
  std::string_view token_bytes(int32_t id, bool special) const final;
  std::string_view token_text(int32_t id) const final;
  int32_t token_id(std::string_view text) const final { return vocabulary_.ids.find(text); }
  int32_t vocab_size() const final { return vocabulary_.size(); }
  int32_t bos_id() const final { return vocabulary_.bos_id; }
  int32_t eos_id() const final { return vocabulary_.eos_id; }
  bool adds_bos() const final { return vocabulary_.adds_bos; }
  bool adds_space_prefix() const final { return vocabulary_.adds_space_prefix; }
  std::span<const int32_t> end_ids() const final { return vocabulary_.end_ids; }
  bool is_control(int32_t id) const final { return vocabulary_.has(id) && vocabulary_.is_control(id); }
  bool is_user_defined(int32_t id) const final {
    return vocabulary_.has(id) && vocabulary_.types[id] == TokenType::kUserDefined;
  }

 protected:
  // Appends the ids of a stretch without special tokens; at_start: it is the first of the text; late: the
  // tokens to look for once it is normalised. REQUIRES !text.empty().
  virtual void encode_plain(std::string_view text, bool at_start, const SpecialMatcher& late,
                            std::vector<int32_t>& ids) const = 0;
  // Appends the ids of the late tokens in a normalised stretch, and what `encode(begin, end)` appends between
  // them.
  template <typename Encode>
  static void encode_around_late(std::string_view text, const SpecialMatcher& late, std::vector<int32_t>& ids,
                                 Encode&& encode) {
    size_t at = 0;
    while (at < text.size()) {
      const SpecialMatcher::Match match = late.find(text, at);
      const size_t end = match.n_bytes == 0 ? text.size() : match.offset;
      if (end > at) encode(at, end);
      if (match.n_bytes != 0) ids.push_back(match.id);
      at = end + match.n_bytes;
    }
  }
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  // The next token that is matched in the text itself.
  SpecialMatcher::Match next_match(std::string_view text, size_t from, const EncodeOptions& options) const;
  // The late tokens of the stretch from `begin` to `end`.
  const SpecialMatcher& late_of(size_t begin, size_t end, const EncodeOptions& options) const;
  Vocabulary vocabulary_;
};

}  // namespace orcd::tokenizer
