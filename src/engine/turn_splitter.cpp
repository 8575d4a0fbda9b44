#include "engine/turn_splitter.h"

#include <algorithm>

namespace orcd::engine {
namespace {

using Kind = TurnPart::Kind;

size_t without_blanks(std::string_view text) {
  const size_t last = text.find_last_not_of(kBlanks);
  return last == text.npos ? 0 : last + 1;
}

// How much of the end of `text` may be the beginning of `mark`.
size_t begun(std::string_view text, std::string_view mark) {
  for (size_t n = std::min(text.size(), mark.size() - 1); n > 0; --n) {
    if (text.ends_with(mark.substr(0, n))) return n;
  }
  return 0;
}

}  // namespace

TurnSplitter::TurnSplitter(Options options)
    : options_(options),
      place_(options.in_thought ? Place::kThought
             : options.thinks   ? Place::kStart
                                : Place::kContent),
      trims_(options.in_thought) {}

void TurnSplitter::push(std::string_view text, std::vector<TurnPart>* parts) {
  held_ += text;
  while (step(parts)) {
  }
}

bool TurnSplitter::step(std::vector<TurnPart>* parts) {
  switch (place_) {
    case Place::kStart:
      return at_start();
    case Place::kThought:
      return in_thought(parts);
    case Place::kContent:
      return in_content(parts);
    case Place::kCall:
      return in_call(parts);
  }
  return false;
}

bool TurnSplitter::at_start() {
  const size_t first = held_.find_first_not_of(kBlanks);
  if (first == held_.npos) return false;
  const std::string_view text = std::string_view(held_).substr(first);
  if (text.starts_with(kThoughtOpen)) {
    held_.erase(0, first + kThoughtOpen.size());
    place_ = Place::kThought;
    trims_ = true;
    return true;
  }
  if (kThoughtOpen.starts_with(text)) return false;
  place_ = Place::kContent;
  return true;
}

bool TurnSplitter::drop_blanks() {
  if (trims_) held_.erase(0, std::min(held_.find_first_not_of(kBlanks), held_.size()));
  if (!held_.empty()) trims_ = false;
  return !held_.empty();
}

void TurnSplitter::release(size_t n, Kind kind, std::vector<TurnPart>* parts) {
  append_text(kind, std::string_view(held_).substr(0, n), parts);
  held_.erase(0, n);
}

bool TurnSplitter::in_thought(std::vector<TurnPart>* parts) {
  if (!drop_blanks()) return false;
  const std::string_view text = held_;
  const size_t close = text.find(kThoughtClose);
  if (close == text.npos) {
    release(without_blanks(text.substr(0, text.size() - begun(text, kThoughtClose))), Kind::kReasoning,
            parts);
    return false;
  }
  const size_t n_blanks = close - without_blanks(text.substr(0, close));
  release(close - n_blanks, Kind::kReasoning, parts);
  held_.erase(0, n_blanks + kThoughtClose.size());
  place_ = Place::kContent;
  trims_ = true;
  return true;
}

bool TurnSplitter::in_content(std::vector<TurnPart>* parts) {
  if (!drop_blanks()) return false;
  const std::string_view text = held_;
  if (!options_.calls) {
    release(text.size(), Kind::kContent, parts);
    return false;
  }
  const size_t open = text.find(kCallOpen);
  if (open == text.npos) {
    release(without_blanks(text.substr(0, text.size() - begun(text, kCallOpen))), Kind::kContent, parts);
    return false;
  }
  const size_t n_blanks = open - without_blanks(text.substr(0, open));
  release(open - n_blanks, Kind::kContent, parts);
  blanks_ = held_.substr(0, n_blanks);
  held_.erase(0, n_blanks + kCallOpen.size());
  place_ = Place::kCall;
  call_ = {};
  return true;
}

bool TurnSplitter::in_call(std::vector<TurnPart>* parts) {
  for (size_t i = 0; i < held_.size(); ++i) {
    const ToolCallReader::State state = call_.push(held_[i], parts);
    if (state == ToolCallReader::State::kReading) continue;
    held_.erase(0, i + 1);
    place_ = Place::kContent;
    trims_ = state == ToolCallReader::State::kDone;
    if (state == ToolCallReader::State::kNotACall) {
      // Text after all, and its mark is not looked at again.
      std::string text = blanks_ + std::string(kCallOpen) + call_.text();
      text.swap(held_);
      release(held_.size(), Kind::kContent, parts);
      held_ = std::move(text);
    }
    return true;
  }
  held_.clear();
  return false;
}

void TurnSplitter::finish(std::vector<TurnPart>* parts) {
  if (place_ == Place::kCall && !call_.announced()) {
    held_ = blanks_ + std::string(kCallOpen) + call_.text();
    place_ = Place::kContent;
    trims_ = false;
  }
  if (place_ != Place::kCall && !trims_) {
    release(held_.size(), place_ == Place::kThought ? Kind::kReasoning : Kind::kContent, parts);
  }
  held_.clear();
}

}  // namespace orcd::engine
