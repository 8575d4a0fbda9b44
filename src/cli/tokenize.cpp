#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/session.h"

namespace orcd::cli {
namespace {

std::string vocabulary_path(const Options& o) {
  return o.tokenizer_file.empty() ? o.model : o.tokenizer_file;
}

[[noreturn]] void refuse_id(const std::string& id, int32_t vocab_size) {
  throw Error(ErrorCode::kInvalidRequest, "not a token id of this vocabulary",
              {{"id", id}, {"vocab_size", int64_t{vocab_size}}});
}

std::vector<int32_t> parse_ids(const std::string& text, int32_t vocab_size) {
  std::vector<int32_t> ids;
  constexpr const char* kBetween = " \t\r\n,[]";
  for (size_t begin = text.find_first_not_of(kBetween); begin != text.npos;) {
    const size_t end = std::min(text.find_first_of(kBetween, begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    const bool digits = word.find_first_not_of("0123456789") == word.npos && word.size() <= 9;
    if (!digits || std::stoi(word) >= vocab_size) refuse_id(word, vocab_size);
    ids.push_back(std::stoi(word));
    begin = text.find_first_not_of(kBetween, end);
  }
  return ids;
}

}  // namespace

int tokenize(const Options& options) {
  const auto tokenizer = tokenizer::Tokenizer::open(vocabulary_path(options));
  const std::vector<int32_t> ids = tokenizer->encode(
      read_text(options.text, options.file), {.add_bos = options.bos, .parse_special = options.special});
  if (options.json) {
    nlohmann::ordered_json tokens = nlohmann::ordered_json::array();
    for (const int32_t id : ids)
      tokens.push_back({{"id", id}, {"text", std::string(tokenizer->token_text(id))}});
    const nlohmann::ordered_json json = {
        {"ids", ids}, {"n_tokens", ids.size()}, {"tokenizer_kind", tokenizer->kind()}, {"tokens", tokens}};
    std::printf("%s\n", json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
    return 0;
  }
  std::string line;
  for (const int32_t id : ids) line += (line.empty() ? "" : " ") + std::to_string(id);
  std::printf("%s\n", line.c_str());
  return 0;
}

int detokenize(const Options& options) {
  const auto tokenizer = tokenizer::Tokenizer::open(vocabulary_path(options));
  const std::string text =
      tokenizer::decode_bytes(*tokenizer, parse_ids(options.ids, tokenizer->vocab_size()), options.special);
  if (options.json) {
    const nlohmann::ordered_json json = {{"text", text}};
    std::printf("%s\n", json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
  } else {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fputc('\n', stdout);
  }
  return 0;
}

}  // namespace orcd::cli
