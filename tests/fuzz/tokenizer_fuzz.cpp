// libFuzzer target: any text comes back from its ids byte for byte, streams as the same characters, and never
// throws. Any file that starts with GGUF either gives a tokenizer or one MODEL_LOAD_FAILED.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "unit/tokenizer/vocabularies.h"

namespace {

using orcd::tokenizer::Tokenizer;

void check_text(const Tokenizer& tokenizer, std::string_view text, bool special) {
  const auto ids = tokenizer.encode(text, {.add_bos = false, .parse_special = special});
  if (decode_bytes(tokenizer, ids, /*special=*/true) != text) std::abort();
  orcd::tokenizer::Detokenizer detokenizer(tokenizer, /*special=*/true);
  std::string streamed;
  for (const int32_t id : ids) streamed += detokenizer.push(id);
  streamed += detokenizer.finish();
  for (std::string_view rest = streamed; !rest.empty();) {
    const auto c = orcd::tokenizer::decode_utf8(rest);
    if (c.status != orcd::tokenizer::Utf8Status::kValid) std::abort();
    rest.remove_prefix(c.n_bytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace orcd;
  static const std::vector<std::pair<std::string, std::string>> merges{
      {"a", "b"}, {"ab", "a"}, {" ", " "}, {"\xC3", "\xA9"}};
  static const std::shared_ptr<const Tokenizer> tokenizers[] = {
      test::make_tokenizer(test::small_bpe("gpt-2", merges)),
      test::make_tokenizer(test::small_bpe("smollm", merges)),
      test::make_tokenizer(test::small_bpe("llama-bpe", merges)),
      test::make_tokenizer(test::small_bpe("default", merges)),
      test::make_tokenizer(test::small_spm({"\u2581a", "\u2581", "ab", "a", "b"}, true)),
      test::make_tokenizer(test::small_spm({"\u2581a", "\u2581", "ab", "a", "b"}, false))};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with("GGUF")) {
    try {
      const auto tokenizer = Tokenizer::from_gguf(gguf::File::parse({data, size}));
      tokenizer->encode(text, {.add_bos = true, .parse_special = true});
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kModelLoadFailed) std::abort();
    }
    return 0;
  }
  // U+2581 stands for a space in SentencePiece vocabularies, so it cannot come back.
  const size_t n_tokenizers = text.find("\u2581") == std::string_view::npos ? 6 : 4;
  for (size_t i = 0; i < n_tokenizers; ++i) {
    check_text(*tokenizers[i], text, false);
    check_text(*tokenizers[i], text, true);
  }
  return 0;
}
