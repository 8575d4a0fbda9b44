// Text <-> token ids for one vocabulary. Kinds: gguf-bpe (byte-level BPE), gguf-spm (SentencePiece), hf-json
// (tokenizer.json of Hugging Face).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/file.h"

namespace orcd::tokenizer {

// What the pre-tokenizer did with the probe texts of its family when it was loaded (conformance.h).
struct Conformance {
  uint32_t passed = 0;
  uint32_t total = 0;  // 0: the tokenizer has no pre-tokenizer, or one of its own
};

struct EncodeOptions {
  bool add_bos = true;  // prepend BOS if the vocabulary says so (tokenizer.ggml.add_bos_token)
  bool parse_special =
      false;  // control tokens written in the text become their ids; otherwise they are plain text
  // Ascending offsets in the text. A control token written around one of them, or of a single character
  // behind it, is plain text all the same.
  std::span<const size_t> guards = {};
};

// Immutable after construction, so safe to share between threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Any bytes are accepted: those that are not UTF-8 become byte tokens. Time is linear in the text but for a
  // logarithm.
  virtual std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const = 0;
  // The bytes of one token as they appear in text. Control tokens give "" unless `special` (then their
  // written form); so do ids outside the vocabulary, which a model can draw that has more rows than tokens.
  // SPM: the leading space of the first piece of a text is dropped by Detokenizer, not here.
  virtual std::string_view token_bytes(int32_t id, bool special) const = 0;
  virtual std::string_view token_text(int32_t id) const = 0;  // as the vocabulary spells it; "" outside it

  virtual std::string_view kind() const = 0;  // "gguf-bpe", "gguf-spm", "hf-json"
  virtual std::string_view pre() const = 0;   // pre-tokenizer family, "" for spm
  virtual Conformance conformance() const { return {}; }
  virtual int32_t vocab_size() const = 0;
  virtual int32_t bos_id() const = 0;  // -1 if the vocabulary has none
  virtual int32_t eos_id() const = 0;
  virtual bool adds_bos() const = 0;
  virtual bool adds_space_prefix()
      const = 0;  // the text's first piece carries a space that the text does not
  // End-of-generation ids: eos, eot, eom and the family's end-of-turn tokens (<|im_end|>, <end_of_turn>,
  // <|eot_id|>...).
  virtual std::span<const int32_t> end_ids() const = 0;
  virtual bool is_control(int32_t id) const = 0;  // false for ids outside the vocabulary
  virtual bool is_user_defined(
      int32_t id) const = 0;  // always matched in text; false for ids outside the vocabulary
  virtual int32_t token_id(std::string_view text) const = 0;  // by token_text; -1 if no token is spelled so

  // kind chosen from the file's metadata; an unknown model or pre family is an Error that names it.
  static std::shared_ptr<const Tokenizer> from_gguf(const std::shared_ptr<const gguf::File>& file);
  // From the text of a tokenizer.json. What it holds and is not supported is an Error that names it.
  // `model`, if given, is the tokenizer that the model's own file carries: it tells BOS, EOS and the ids that
  // end a turn, and must spell every token that both know in the same way.
  static std::shared_ptr<const Tokenizer> from_hf_json(std::string_view json,
                                                       const Tokenizer* model = nullptr);
  // A tokenizer.json (its first character is "{"), or a GGUF file, which may hold nothing but a vocabulary.
  static std::shared_ptr<const Tokenizer> open(const std::string& path, const Tokenizer* model = nullptr);
};

// Streams token ids to text. Every piece returned is whole UTF-8; what is not UTF-8 becomes U+FFFD, one for
// each maximal subpart (WHATWG Encoding), however the bytes are spread over tokens. Byte-exact text:
// decode_bytes.
class Detokenizer {
 public:
  // At the start of a text: the space prefix of its first piece is dropped, if the vocabulary adds one.
  explicit Detokenizer(const Tokenizer& tokenizer, bool special = false);
  // For ids that follow the ids of a prompt: its last one decides whether a space prefix is dropped.
  Detokenizer(const Tokenizer& tokenizer, std::span<const int32_t> before, bool special);
  std::string push(int32_t id);  // text completed by this token, "" while a character is incomplete
  std::string finish();          // what is left: an incomplete tail becomes one U+FFFD
  bool holds_back() const { return !pending_.empty(); }

 private:
  const Tokenizer* tokenizer_;
  bool special_;
  bool at_start_ = true;
  std::string pending_;
};

// All at once, byte-exact (no U+FFFD): the inverse of encode, with two exceptions that the oracles share: a
// family that normalises gives NFC back, and a SentencePiece vocabulary gives a space back for U+2581, its
// sign for a space.
std::string decode_bytes(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool special);

}  // namespace orcd::tokenizer
