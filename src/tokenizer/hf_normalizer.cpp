#include "tokenizer/hf_normalizer.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "tokenizer/character_sets.h"

namespace orcd::tokenizer::hf {
namespace {

constexpr size_t kMaxGrownBytes = size_t{1} << 20;  // a file may ask to double a text a hundred times

constexpr std::array<std::pair<std::string_view, UnicodeForm>, 4> kForms = {{{"NFC", UnicodeForm::kNfc},
                                                                             {"NFD", UnicodeForm::kNfd},
                                                                             {"NFKC", UnicodeForm::kNfkc},
                                                                             {"NFKD", UnicodeForm::kNfkd}}};

// The characters of `text`, each through `change`, which appends what it becomes. Bytes that are not UTF-8
// stay.
template <typename Change>
std::string each_character(std::string_view text, Change&& change) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (c.status == Utf8Status::kValid) {
      change(c.code_point, out);
    } else {
      out.append(text.substr(0, c.n_bytes));
    }
    text.remove_prefix(c.n_bytes);
  }
  return out;
}

std::string stripped(std::string_view text, bool left, bool right) {
  size_t begin = text.size(), end = 0;  // of what is not white space
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    if (c.status != Utf8Status::kValid || !is_white_space(c.code_point)) {
      begin = std::min(begin, at);
      end = at + c.n_bytes;
    }
    at += c.n_bytes;
  }
  if (!left) begin = 0;
  if (!right) end = text.size();
  return std::string(begin < end ? text.substr(begin, end - begin) : std::string_view());
}

std::string replaced(std::string_view text, const PatternFinder& finder, const std::string& content) {
  std::string out;
  size_t at = 0;
  for (const auto& [begin, end] : finder.find(text)) {
    out.append(text.substr(at, begin - at)).append(content);
    at = end;
  }
  return out.append(text.substr(at));
}

}  // namespace

Normalizer::Normalizer(const Json& value) {
  for (const Part& part : parts_of(value, "normalizers", "normalizer")) steps_.push_back(read(part));
}

Normalizer::Step Normalizer::read(const Part& part) {
  for (const auto& [name, form] : kForms) {
    if (part.type == name) return {.kind = Kind::kForm, .form = form, .finder = {}, .content = {}};
  }
  Step step{.kind = Kind::kLowercase, .finder = {}, .content = {}};
  if (part.type == "Lowercase") return step;
  if (part.type == "StripAccents") {
    step.kind = Kind::kReplace;
    step.finder = std::make_shared<PatternFinder>(kAccent);
  } else if (part.type == "Strip") {
    step.kind = Kind::kStrip;
    step.strips_left = flag(*part.json, "strip_left", part.path, true);
    step.strips_right = flag(*part.json, "strip_right", part.path, true);
  } else if (part.type == "Replace") {
    step.kind = Kind::kReplace;
    step.finder = std::make_shared<PatternFinder>(pattern_of(*part.json, part.path));
    step.content = text(*part.json, "content", part.path);
  } else if (part.type == "Prepend") {
    step.kind = Kind::kPrepend;
    step.content = text(*part.json, "prepend", part.path);
  } else {
    refuse(part.path,
           "the normalizer " + part.type +
               " is not supported (supported: NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, "
               "Replace, Prepend, Sequence)");
  }
  return step;
}

bool Normalizer::is_nfc() const {
  return steps_.size() == 1 && steps_[0].kind == Kind::kForm && steps_[0].form == UnicodeForm::kNfc;
}

std::string Normalizer::apply(std::string text) const {
  const size_t limit = kMaxGrownBytes + 8 * text.size();
  for (const Step& step : steps_) {
    text = apply(step, std::move(text));
    if (text.size() > limit) refuse("normalizer", "it makes a text too long");
  }
  return text;
}

std::string Normalizer::apply(const Step& step, std::string text) {
  switch (step.kind) {
    case Kind::kForm:
      return normalized(text, step.form);
    case Kind::kLowercase:
      return each_character(text, append_lowercase);
    case Kind::kStrip:
      return stripped(text, step.strips_left, step.strips_right);
    case Kind::kReplace:
      return replaced(text, *step.finder, step.content);
    case Kind::kPrepend:
      return text.empty() ? text : step.content + text;
  }
  return text;
}

}  // namespace orcd::tokenizer::hf
