// A vocabulary given as a list of byte strings; ids beyond it are spelled "<id>"; "<|...|>" are control
// tokens. Any byte encodes to id 0.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace orcd::test {

class FakeTokenizer final : public tokenizer::Tokenizer {
 public:
  explicit FakeTokenizer(int32_t n_vocab, std::vector<std::string> pieces = {}, int32_t end_id = 2)
      : pieces_(std::move(pieces)), ends_{end_id} {
    for (auto id = static_cast<int32_t>(pieces_.size()); id < n_vocab; ++id) {
      std::string piece(1, '<');
      piece += std::to_string(id);
      piece += '>';
      pieces_.push_back(std::move(piece));
    }
  }
  std::vector<int32_t> encode(std::string_view text, const tokenizer::EncodeOptions&) const override {
    return std::vector<int32_t>(text.size());
  }
  std::string_view token_bytes(int32_t id, bool special) const override {
    return !special && is_control(id) ? std::string_view() : pieces_.at(static_cast<size_t>(id));
  }
  std::string_view token_text(int32_t id) const override { return token_bytes(id, true); }
  std::string_view kind() const override { return "fake"; }
  std::string_view pre() const override { return ""; }
  int32_t vocab_size() const override { return static_cast<int32_t>(pieces_.size()); }
  int32_t bos_id() const override { return -1; }
  int32_t eos_id() const override { return ends_[0]; }
  bool adds_bos() const override { return false; }
  bool adds_space_prefix() const override { return false; }
  std::span<const int32_t> end_ids() const override { return ends_; }
  bool is_control(int32_t id) const override { return pieces_.at(static_cast<size_t>(id)).starts_with("<|"); }
  bool is_user_defined(int32_t) const override { return false; }
  int32_t token_id(std::string_view text) const override {
    const auto found = std::find(pieces_.begin(), pieces_.end(), text);
    return found == pieces_.end() ? -1 : static_cast<int32_t>(found - pieces_.begin());
  }

 private:
  std::vector<std::string> pieces_;
  std::vector<int32_t> ends_;
};

}  // namespace orcd::test
