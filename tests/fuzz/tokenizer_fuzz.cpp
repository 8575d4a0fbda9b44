// libFuzzer target: any text comes back from its ids byte for byte (in NFC where the family normalises),
// streams as the same characters, and never throws, in each pre-tokenizer family. Any file that starts with
// GGUF either gives a tokenizer or one MODEL_LOAD_FAILED.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tokenizer/pre_families.h"
#include "unit/tokenizer/vocabularies.h"

namespace {

using orcd::tokenizer::Tokenizer;

void check_text(const Tokenizer& tokenizer, std::string_view text, bool special, bool normalizes) {
  const auto ids = tokenizer.encode(text, {.add_bos = false, .parse_special = special});
  const std::string back = decode_bytes(tokenizer, ids, /*special=*/true);
  if (!normalizes && back != text) std::abort();
  // What has been normalised is so.
  if (normalizes && back != text) check_text(tokenizer, back, special, false);
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
  struct Subject {
    std::shared_ptr<const Tokenizer> tokenizer;
    bool normalizes;
  };
  static const std::vector<Subject> families = [] {
    std::vector<Subject> all;
    for (const tokenizer::PreFamily& family : tokenizer::pre_families()) {
      const std::string name(family.name);
      all.push_back({test::make_tokenizer(test::small_bpe(name, merges)), family.normalize_nfc});
    }
    return all;
  }();
  static const std::vector<std::string> pieces{"\u2581a", "\u2581", "ab", "a", "b"};
  static const std::shared_ptr<const Tokenizer> spm[] = {
      test::make_tokenizer(test::small_spm(pieces, true)),
      test::make_tokenizer(test::small_spm(pieces, false))};
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
  // Which family is the input's own choice, so that a finding stays one.
  size_t choice = 0;
  for (const char c : text) choice = choice * 31 + static_cast<uint8_t>(c);
  const Subject& subject = families[choice % families.size()];
  for (const bool special : {false, true}) {
    check_text(*subject.tokenizer, text, special, subject.normalizes);
    // U+2581 stands for a space in SentencePiece vocabularies, so it cannot come back.
    if (text.find("\u2581") != std::string_view::npos) continue;
    for (const auto& one : spm) check_text(*one, text, special, false);
  }
  return 0;
}
