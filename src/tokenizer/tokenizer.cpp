#include "tokenizer/tokenizer.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "gguf/validate.h"
#include "tokenizer/gguf_bpe.h"
#include "tokenizer/gguf_spm.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer {
namespace {

// The bytes of `id` at this place of a text. A vocabulary with a space prefix puts one before the text and
// after each token matched in it; there it is dropped again, so that decoding undoes encoding.
std::string_view bytes_in_place(const Tokenizer& tokenizer, int32_t id, bool special, bool& at_start) {
  std::string_view bytes = tokenizer.token_bytes(id, special);
  if (!tokenizer.adds_space_prefix()) return bytes;
  if (tokenizer.is_control(id) || tokenizer.is_user_defined(id)) {
    at_start = true;
    return bytes;
  }
  if (at_start && !bytes.empty() && bytes.front() == ' ') bytes.remove_prefix(1);
  at_start = false;
  return bytes;
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::from_gguf(const std::shared_ptr<const gguf::File>& file) {
  constexpr std::string_view kKey = "tokenizer.ggml.model";
  const std::string_view model = file->need_string(kKey);
  if (model == "gemma4") return make_gguf_gemma4(file);
  if (model == "gpt2") return make_gguf_bpe(file);
  if (model == "llama") return make_gguf_spm(file);
  throw gguf::load_error(
      *file, kKey, file->find(kKey)->value_offset,
      "tokenizer model \"" + std::string(model) + "\" is not supported",
      "supported: gpt2 (byte-level BPE), gemma4 (BPE over characters), llama (SentencePiece BPE)");
}

std::shared_ptr<const Tokenizer> Tokenizer::open(const std::string& path, const Tokenizer* model) {
  std::ifstream stream;
  // Opening a pipe would wait for a writer.
  if (std::error_code error; std::filesystem::is_regular_file(path, error))
    stream.open(path, std::ios::binary);
  char first = 0;
  if (stream.is_open() && stream >> first && first == '{') {  // skips white space
    stream.seekg(0);
    const std::string json{std::istreambuf_iterator<char>(stream), {}};
    if (!stream.bad()) return from_hf_json(json, model);
  }
  const auto file = gguf::File::open(path);  // also tells why a file cannot be read
  gguf::validate_tokenizer(*file);
  return from_gguf(file);
}

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool special)
    : tokenizer_(&tokenizer), special_(special) {}

Detokenizer::Detokenizer(const Tokenizer& tokenizer, std::span<const int32_t> before, bool special)
    : tokenizer_(&tokenizer), special_(special) {
  at_start_ =
      before.empty() || tokenizer.is_control(before.back()) || tokenizer.is_user_defined(before.back());
}

std::string Detokenizer::push(int32_t id) {
  pending_ += bytes_in_place(*tokenizer_, id, special_, at_start_);
  std::string text;
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Char c = decode_utf8(std::string_view(pending_).substr(at));
    if (c.status == Utf8Status::kIncomplete) break;
    if (c.status == Utf8Status::kValid) {
      text.append(pending_, at, c.n_bytes);
    } else {
      text += kReplacement;
    }
    at += c.n_bytes;
  }
  pending_.erase(0, at);
  return text;
}

std::string Detokenizer::finish() {
  std::string text(pending_.empty() ? std::string_view() : kReplacement);
  pending_.clear();
  at_start_ = true;
  return text;
}

std::string decode_bytes(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool special) {
  std::string bytes;
  bool at_start = true;
  for (const int32_t id : ids) bytes += bytes_in_place(tokenizer, id, special, at_start);
  return bytes;
}

}  // namespace orcd::tokenizer
