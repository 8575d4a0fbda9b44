// Ids equal to those of PyPI's `tokenizers`, on small vocabularies (tools/tokenizer_goldens.py).
#include <gtest/gtest.h>

#include <charconv>
#include <fstream>

#include "unit/tokenizer/vocabularies.h"

namespace orcd::test {
namespace {

std::string from_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = (bits << 6) | static_cast<uint32_t>(kDigits.find(c));
    if ((n_bits += 6) >= 8) bytes.push_back(static_cast<char>((bits >> (n_bits -= 8)) & 0xFF));
  }
  return bytes;
}

// What follows "key": up to the end of its value. The writer puts no blanks, and strings hold base64 or plain
// names.
std::string_view value_of(std::string_view line, const std::string& key) {
  const size_t start = line.find("\"" + key + "\":");
  if (start == std::string_view::npos) throw std::invalid_argument("golden without " + key);
  line.remove_prefix(start + key.size() + 3);
  if (line.front() == '[') return line.substr(1, line.find(']') - 1);
  if (line.front() == '"') return line.substr(1, line.find('"', 1) - 1);
  return line.substr(0, line.find_first_of(",}"));
}

std::vector<std::string_view> items_of(std::string_view list) {
  std::vector<std::string_view> items;
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    items.push_back(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return items;
}

std::vector<std::string> texts_of(std::string_view list) {
  std::vector<std::string> texts;
  for (const std::string_view item : items_of(list))
    texts.push_back(from_base64(item.substr(1, item.size() - 2)));
  return texts;
}

template <typename T>
std::vector<T> numbers_of(std::string_view list) {
  std::vector<T> numbers;
  for (const std::string_view item : items_of(list)) {
    T number{};
    std::from_chars(item.data(), item.data() + item.size(), number);
    numbers.push_back(number);
  }
  return numbers;
}

std::shared_ptr<const tokenizer::Tokenizer> tokenizer_of(std::string_view header) {
  GgufWriter w;
  w.add("tokenizer.ggml.model", value_of(header, "model")).add("tokenizer.ggml.pre", value_of(header, "pre"));
  w.add("tokenizer.ggml.tokens", texts_of(value_of(header, "tokens")));
  w.add("tokenizer.ggml.token_type", numbers_of<int32_t>(value_of(header, "types")));
  w.add("tokenizer.ggml.merges", texts_of(value_of(header, "merges")));
  w.add("tokenizer.ggml.scores", numbers_of<float>(value_of(header, "scores")));
  w.add("tokenizer.ggml.add_space_prefix", value_of(header, "add_space_prefix") == "true");
  return make_tokenizer(w);
}

class TokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGolden, IdsEqualTheOracleAndDecodeToTheText) {
  std::ifstream in(std::string(ORCD_SOURCE_DIR "/tests/golden/tokenizer/") + GetParam() + ".jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(in, line));
  const auto tokenizer = tokenizer_of(line);
  const std::string_view name = GetParam();
  int n_strings = 0;
  while (std::getline(in, line)) {
    const std::string text = from_base64(value_of(line, "text"));
    const bool special = value_of(line, "special") == "true";
    const auto ids = tokenizer->encode(text, special ? kSpecial : kPlain);
    ASSERT_EQ(ids, numbers_of<int32_t>(value_of(line, "ids"))) << testing::PrintToString(text);
    std::string normalized;
    const bool changed = name == "bpe_qwen2" && tokenizer::normalize_nfc(text, normalized);
    std::string decoded = decode_bytes(*tokenizer, ids, /*special=*/true);
    if (changed)
      tokenizer::normalize_nfc(std::string(decoded), decoded);  // marks may meet across a special token
    std::string want = changed ? normalized : text;
    if (name.starts_with("spm")) {
      for (size_t at; (at = want.find("\u2581")) != std::string::npos;) want.replace(at, 3, " ");
    }
    ASSERT_EQ(decoded, want);
    ++n_strings;
  }
  EXPECT_GT(n_strings, 500);
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerGolden,
                         testing::Values("bpe_gpt-2", "bpe_smollm", "bpe_qwen2", "bpe_llama-bpe",
                                         "bpe_default", "spm_prefix", "spm_plain"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace orcd::test
