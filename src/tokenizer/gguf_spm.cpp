#include "tokenizer/gguf_spm.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "tokenizer/candidate_queue.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocabulary.h"

namespace orcd::tokenizer {
namespace {

constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";
constexpr std::string_view kSpaceSign = "\xE2\x96\x81";  // U+2581 stands for a space in token texts
constexpr uint32_t kEnd = std::numeric_limits<uint32_t>::max();

std::vector<float> read_scores(const gguf::File& file, uint64_t n_tokens) {
  const gguf::Array& array = file.need_array(kScoresKey);
  const bool floats =
      array.element_type == gguf::ValueType::kF32 || array.element_type == gguf::ValueType::kF64;
  if (!floats || array.size != n_tokens) {
    throw gguf::load_error(file, kScoresKey, file.find(kScoresKey)->value_offset,
                           "scores must be " + std::to_string(n_tokens) + " floats, one for each token");
  }
  std::vector<float> scores(n_tokens);
  for (uint64_t id = 0; id < n_tokens; ++id) {
    scores[id] = static_cast<float>(array.as_double(id));
    if (!std::isfinite(scores[id]))
      throw array_error(file, kScoresKey, id, "a score must be a finite number");
  }
  return scores;
}

void replace_all(std::string_view text, std::string_view from, std::string_view to, std::string& out) {
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != std::string_view::npos; at = found + from.size()) {
    out.append(text, at, found - at).append(to);
  }
  out.append(text, at);
}

// Orders scores as unsigned integers, the highest score first. REQUIRES a finite score.
uint32_t descending_key(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(score == 0.0f ? 0.0f : score);  // -0 is 0
  return (bits & 0x80000000u) ? bits : ~(bits | 0x80000000u);
}

struct Candidate {
  uint64_t key;  // descending_key(score) << 32 | left symbol: best score first, of equal ones the leftmost
  uint32_t n_bytes;  // of both symbols; tells whether one of them has changed since
  bool operator>(const Candidate& other) const { return key > other.key; }
};

// A symbol of one text in a linked list: a merged one stays at its left part's place.
struct Symbol {
  uint32_t offset;
  uint32_t n_bytes;  // 0: merged into another
  uint32_t previous;
  uint32_t next;
  std::string_view of(std::string_view text) const { return text.substr(offset, n_bytes); }
};

// One symbol for each character, and for each byte that is not UTF-8.
std::vector<Symbol> cut_into_characters(std::string_view text) {
  std::vector<Symbol> symbols;
  symbols.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    const uint32_t length = c.status == Utf8Status::kValid ? c.n_bytes : 1;
    const auto index = static_cast<uint32_t>(symbols.size());
    symbols.push_back({static_cast<uint32_t>(at), length, index > 0 ? index - 1 : kEnd, index + 1});
    at += length;
  }
  if (!symbols.empty()) symbols.back().next = kEnd;
  return symbols;
}

class GgufSpm final : public VocabularyTokenizer {
 public:
  GgufSpm(Vocabulary vocabulary, std::vector<float> scores, const std::array<int32_t, 256>& byte_ids)
      : VocabularyTokenizer(std::move(vocabulary)), byte_ids_(byte_ids) {
    keys_.reserve(scores.size());
    for (size_t id = 0; id < scores.size(); ++id) {
      keys_.push_back(descending_key(scores[id]));
      max_bytes_ = std::max(max_bytes_, this->vocabulary().texts[id].size());
    }
  }

  std::string_view kind() const override { return "gguf-spm"; }
  std::string_view pre() const override { return ""; }

 protected:
  void encode_plain(std::string_view text, bool /*at_start*/, const SpecialMatcher& /*late*/,
                    std::vector<int32_t>& ids) const override {
    std::string escaped(adds_space_prefix() ? kSpaceSign : "");
    escaped.reserve(text.size() + text.size() / 2);
    replace_all(text, " ", kSpaceSign, escaped);
    std::vector<Symbol> symbols = cut_into_characters(escaped);
    merge(escaped, symbols);
    for (uint32_t at = 0; at != kEnd; at = symbols[at].next) append(symbols[at].of(escaped), ids);
  }

 private:
  // A token that text can become by merging; -1 for control, unknown and byte tokens: text never spells
  // those.
  int32_t find_piece(std::string_view text) const {
    const int32_t id = vocabulary().ids.find(text);
    if (id < 0 || vocabulary().is_control(id) || vocabulary().types[id] == TokenType::kByte) return -1;
    return id;
  }

  void merge(std::string_view text, std::vector<Symbol>& symbols) const {
    Candidate item;
    const auto candidate = [&](const Symbol& left) {
      const uint32_t length = left.n_bytes + symbols[left.next].n_bytes;
      if (length > max_bytes_) return false;
      const int32_t id = find_piece(text.substr(left.offset, length));
      if (id < 0) return false;
      item = {(uint64_t{keys_[id]} << 32) | static_cast<uint64_t>(&left - symbols.data()), length};
      return true;
    };
    std::vector<Candidate> initial;
    initial.reserve(symbols.size());
    for (const Symbol& symbol : symbols) {
      if (symbol.next != kEnd && candidate(symbol)) initial.push_back(item);
    }
    CandidateQueue<Candidate> queue(std::move(initial));
    Candidate top;
    while (queue.pop(top)) {
      const uint32_t at = static_cast<uint32_t>(top.key);
      Symbol& symbol = symbols[at];
      if (symbol.n_bytes == 0 || symbol.next == kEnd) continue;
      Symbol& gone = symbols[symbol.next];
      if (symbol.n_bytes + gone.n_bytes != top.n_bytes) continue;  // overtaken by another merge
      symbol.n_bytes = top.n_bytes;
      symbol.next = gone.next;
      gone.n_bytes = 0;
      if (symbol.next != kEnd) {
        symbols[symbol.next].previous = at;
        if (candidate(symbol)) queue.push(item);
      }
      if (symbol.previous != kEnd && candidate(symbols[symbol.previous])) queue.push(item);
    }
  }

  // A symbol that is no token falls back to its bytes, and where one of those has no token to the unknown
  // token.
  void append(std::string_view symbol, std::vector<int32_t>& ids) const {
    const int32_t id = find_piece(symbol);
    if (id >= 0) {
      ids.push_back(id);
      return;
    }
    const auto id_of = [&](char c) { return byte_ids_[static_cast<uint8_t>(c)]; };
    if (std::all_of(symbol.begin(), symbol.end(), [&](char c) { return id_of(c) >= 0; })) {
      for (const char c : symbol) ids.push_back(id_of(c));
    } else if (vocabulary().unknown_id >= 0) {
      ids.push_back(vocabulary().unknown_id);
    }
  }

  std::vector<uint32_t> keys_;  // descending_key of each token's score
  size_t max_bytes_ = 0;        // of the longest token
  std::array<int32_t, 256> byte_ids_;
};

// Byte tokens by value, -1 where there is none. Fills in the bytes of plain and byte tokens.
std::array<int32_t, 256> decode_pieces(const gguf::File& file, Vocabulary& vocabulary) {
  constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
  std::array<int32_t, 256> byte_ids;
  byte_ids.fill(-1);
  vocabulary.own_pieces.reserve(vocabulary.texts.size());
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view text = vocabulary.texts[id];
    if (vocabulary.types[id] == TokenType::kByte) {
      const int byte = byte_of_token(text);
      if (byte < 0 || byte_ids[byte] >= 0) {
        throw array_error(
            file, kTokens, id,
            byte < 0 ? "a byte token must be spelled <0xHH>" : "two byte tokens stand for the same byte");
      }
      byte_ids[byte] = id;
      vocabulary.pieces[id] = vocabulary.own_pieces.emplace_back(1, static_cast<char>(byte));
    } else if (vocabulary.is_plain(id) && text.find(kSpaceSign) != std::string_view::npos) {
      std::string& piece = vocabulary.own_pieces.emplace_back();
      replace_all(text, kSpaceSign, " ", piece);
      vocabulary.pieces[id] = piece;
    }
  }
  return byte_ids;
}

}  // namespace

std::shared_ptr<const Tokenizer> make_gguf_spm(const std::shared_ptr<const gguf::File>& file) {
  // What SentencePiece's trainer writes unless told otherwise.
  const VocabularyDefaults defaults{
      .bos_id = 1, .eos_id = 2, .unknown_id = 0, .adds_bos = true, .adds_space_prefix = true};
  Vocabulary vocabulary = read_vocabulary(file, defaults);
  vocabulary.adds_space_prefix = file->get_bool("tokenizer.ggml.add_space_prefix").value_or(true);
  std::vector<float> scores = read_scores(*file, vocabulary.texts.size());
  const std::array<int32_t, 256> byte_ids = decode_pieces(*file, vocabulary);
  return std::make_shared<GgufSpm>(std::move(vocabulary), std::move(scores), byte_ids);
}

}  // namespace orcd::tokenizer
