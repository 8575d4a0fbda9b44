// Small vocabularies for the tests of this folder, as GGUF bytes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "support/gguf_writer.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace orcd::test {

// A file over bytes must not outlive them, so the bytes travel with it.
inline std::shared_ptr<const gguf::File> parse_owned(const GgufWriter& writer) {
  auto bytes = std::make_shared<Bytes>(writer.bytes());
  auto file = gguf::File::parse(*bytes);
  struct Both {
    std::shared_ptr<Bytes> bytes;
    std::shared_ptr<const gguf::File> file;
  };
  auto both = std::make_shared<Both>(Both{bytes, file});
  return {both, both->file.get()};
}
inline std::shared_ptr<const tokenizer::Tokenizer> make_tokenizer(const GgufWriter& writer) {
  return tokenizer::Tokenizer::from_gguf(parse_owned(writer));
}

// `bytes` as byte-level token texts spell them.
inline std::string spell(std::string_view bytes) {
  constexpr auto kAlphabet = tokenizer::byte_level_alphabet();
  std::string out;
  for (const char c : bytes) tokenizer::append_utf8(kAlphabet[static_cast<uint8_t>(c)], out);
  return out;
}

// Ids 0-255: the bytes. Then one token for each merge {left, right}, then <|bos|> (control), <|im_end|>
// (control),
// "[UD]" and "[UD][UD]" (user-defined).
inline GgufWriter small_bpe(const std::string& pre,
                            const std::vector<std::pair<std::string, std::string>>& merges = {}) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(spell(std::string(1, static_cast<char>(byte))));
  std::vector<std::string> texts;
  for (const auto& [left, right] : merges) {
    tokens.push_back(spell(left + right));
    texts.push_back(spell(left) + " " + spell(right));
  }
  std::vector<int32_t> types(tokens.size(), 1);
  for (const auto& [text, type] : std::vector<std::pair<std::string, int32_t>>{
           {"<|bos|>", 3}, {"<|im_end|>", 3}, {"[UD]", 4}, {"[UD][UD]", 4}}) {
    tokens.push_back(text);
    types.push_back(type);
  }
  const auto n = static_cast<uint32_t>(tokens.size());
  GgufWriter w;
  w.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", pre);
  w.add("tokenizer.ggml.tokens", tokens).add("tokenizer.ggml.token_type", types);
  w.add("tokenizer.ggml.merges", texts);
  w.add("tokenizer.ggml.bos_token_id", n - 4).add("tokenizer.ggml.eos_token_id", n - 3);
  return w;
}

// Ids: 0 <unk>, 1 <s>, 2 </s>, 3 + byte: byte tokens, then `pieces` with scores -1, -2, ..., then "\n\n" and
// "  " (user-defined).
inline GgufWriter small_spm(const std::vector<std::string>& pieces, bool add_space_prefix) {
  std::vector<std::string> tokens{"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types{2, 3, 3};
  std::vector<float> scores{0, 0, 0};
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    tokens.push_back(text);
    types.push_back(6);
    scores.push_back(0);
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    tokens.push_back(pieces[i]);
    types.push_back(1);
    scores.push_back(-1.0f - static_cast<float>(i));
  }
  for (const char* text : {"\n\n", "  "}) {
    tokens.push_back(text);
    types.push_back(4);
    scores.push_back(0);
  }
  GgufWriter w;
  w.add("tokenizer.ggml.model", "llama").add("tokenizer.ggml.tokens", tokens);
  w.add("tokenizer.ggml.token_type", types).add("tokenizer.ggml.scores", scores);
  w.add("tokenizer.ggml.add_space_prefix", add_space_prefix);
  return w;
}

inline constexpr tokenizer::EncodeOptions kPlain{.add_bos = false, .parse_special = false};
inline constexpr tokenizer::EncodeOptions kSpecial{.add_bos = false, .parse_special = true};

}  // namespace orcd::test
