// The normalizers of a tokenizer.json: what happens to a text before it is cut.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tokenizer/hf_document.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer::hf {

// Immutable once read, so safe to share between threads.
class Normalizer {
 public:
  Normalizer() = default;
  // NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Replace, Prepend and sequences of these; others are
  // refused.
  explicit Normalizer(const Json& value);

  bool empty() const { return steps_.empty(); }
  bool is_nfc() const;  // that and nothing else
  std::string apply(std::string text) const;

 private:
  enum class Kind { kForm, kLowercase, kStrip, kReplace, kPrepend };
  struct Step {
    Kind kind;
    UnicodeForm form = UnicodeForm::kNfc;
    bool strips_left = false, strips_right = false;
    std::shared_ptr<const PatternFinder> finder;
    std::string content;
  };
  static Step read(const Part& part);
  static std::string apply(const Step& step, std::string text);
  std::vector<Step> steps_;
};

}  // namespace orcd::tokenizer::hf
