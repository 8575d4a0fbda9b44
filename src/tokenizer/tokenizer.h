// Text <-> token ids for one vocabulary. Kinds: gguf-bpe (byte-level BPE), gguf-spm (SentencePiece), hf-json (later).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/file.h"

namespace orcd::tokenizer {

struct EncodeOptions {
  bool add_bos = true;         // prepend BOS if the vocabulary says so (tokenizer.ggml.add_bos_token)
  bool parse_special = false;  // control tokens written in the text become their ids; otherwise they are plain text
};

// Immutable after construction, so safe to share between threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Any bytes are accepted, invalid UTF-8 too (byte tokens or U+FFFD as the vocabulary's oracle does it); linear in text.
  virtual std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const = 0;
  // The bytes of one token as they appear in text. Control tokens give "" unless `special` (then their written form).
  // SPM: the leading space of the first piece of a text is dropped by Detokenizer, not here.
  virtual std::string_view token_bytes(int32_t id, bool special) const = 0;
  virtual std::string_view token_text(int32_t id) const = 0;  // as the vocabulary spells it

  virtual std::string_view kind() const = 0;  // "gguf-bpe", "gguf-spm", "hf-json"
  virtual std::string_view pre() const = 0;   // pre-tokenizer family, "" for spm
  virtual int32_t vocab_size() const = 0;
  virtual int32_t bos_id() const = 0;         // -1 if the vocabulary has none
  virtual int32_t eos_id() const = 0;
  virtual bool adds_bos() const = 0;
  virtual bool adds_space_prefix() const = 0;  // the text's first piece carries a space that the text does not
  // End-of-generation ids: eos, eot, eom and the family's end-of-turn tokens (<|im_end|>, <end_of_turn>, <|eot_id|>...).
  virtual std::span<const int32_t> end_ids() const = 0;
  virtual bool is_control(int32_t id) const = 0;

  // kind chosen from the file's metadata; an unknown model or pre family is an Error that names it.
  static std::shared_ptr<const Tokenizer> from_gguf(const std::shared_ptr<const gguf::File>& file);
};

// Streams token ids to text. Every piece returned is whole UTF-8; bytes that cannot start or continue a sequence
// are each replaced by U+FFFD only in `text` mode; in `bytes` mode the concatenation is byte-exact.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool special = false);
  std::string push(int32_t id);  // text completed by this token, "" while a character is incomplete
  std::string finish();          // what is left: an incomplete tail becomes one U+FFFD
 private:
  const Tokenizer* tokenizer_;
  bool special_;
  bool at_start_ = true;
  std::string pending_;
};

// All at once, byte-exact (no U+FFFD): the inverse of encode.
std::string decode_bytes(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool special);

}  // namespace orcd::tokenizer
