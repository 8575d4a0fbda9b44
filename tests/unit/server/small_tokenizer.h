// A tokenizer of bytes for server tests: one token a byte, 256 = BOS written "<s>", 257 = end.
#pragma once

#include <array>
#include <string>

#include "tokenizer/tokenizer.h"

namespace orcd::test {

class ByteTokenizer : public tokenizer::Tokenizer {
 public:
  explicit ByteTokenizer(bool adds_bos = true) : adds_bos_(adds_bos) {
    for (int i = 0; i < 256; ++i) bytes_[static_cast<size_t>(i)] = static_cast<char>(i);
  }
  std::vector<int32_t> encode(std::string_view text, const tokenizer::EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    if (options.add_bos && adds_bos_) ids.push_back(256);
    for (size_t i = 0; i < text.size(); ++i) {
      if (options.parse_special && text.substr(i).starts_with("<s>")) {
        ids.push_back(256);
        i += 2;
      } else {
        ids.push_back(static_cast<unsigned char>(text[i]));
      }
    }
    return ids;
  }
  std::string_view token_bytes(int32_t id, bool) const override {
    return id < 256 ? std::string_view(&bytes_[static_cast<size_t>(id)], 1) : std::string_view();
  }
  std::string_view token_text(int32_t id) const override { return token_bytes(id, true); }
  std::string_view kind() const override { return "gguf-bpe"; }
  std::string_view pre() const override { return ""; }
  int32_t vocab_size() const override { return 258; }
  int32_t bos_id() const override { return 256; }
  int32_t eos_id() const override { return 257; }
  bool adds_bos() const override { return adds_bos_; }
  bool adds_space_prefix() const override { return false; }
  std::span<const int32_t> end_ids() const override { return end_ids_; }
  bool is_control(int32_t id) const override { return id == 256 || id == 257; }
  bool is_user_defined(int32_t) const override { return false; }
  int32_t token_id(std::string_view text) const override { return text == "<s>" ? 256 : -1; }

 private:
  bool adds_bos_;
  std::array<char, 256> bytes_{};
  std::array<int32_t, 1> end_ids_ = {257};
};

}  // namespace orcd::test
