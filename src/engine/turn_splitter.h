// The parts of a turn whose format is plain text: a thought in <think> marks, the answer, tool calls
// (tool_call_reader.h). Harmony has special tokens for that (harmony.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tool_call_reader.h"

namespace orcd::engine {

inline constexpr std::string_view kThoughtOpen = "<think>", kThoughtClose = "</think>";

// Every piece is whole UTF-8 where those pushed are. Neighbours of one kind joined, the result does not
// depend on how the text was cut. Blanks around a thought and before a call belong to the format and are
// dropped; an answer without them is left as it is.
class TurnSplitter {
 public:
  struct Options {
    bool thinks = false;      // a turn may begin with <think>; anywhere else it is text
    bool in_thought = false;  // the prompt has opened one already
    bool calls = false;       // <tool_call> begins a call
  };
  explicit TurnSplitter(Options options);

  void push(std::string_view text, std::vector<TurnPart>* parts);
  void finish(std::vector<TurnPart>* parts);  // what was held back
  // Whether what comes next belongs to a thought.
  bool in_thought() const { return place_ == Place::kThought; }

 private:
  enum class Place : uint8_t { kStart, kThought, kContent, kCall };
  bool step(std::vector<TurnPart>* parts);  // false: nothing more to do without more text
  bool at_start();
  bool in_thought(std::vector<TurnPart>* parts);
  bool in_content(std::vector<TurnPart>* parts);
  bool in_call(std::vector<TurnPart>* parts);
  void release(size_t n, TurnPart::Kind kind, std::vector<TurnPart>* parts);
  bool drop_blanks();  // false: nothing but blanks

  Options options_;
  Place place_;
  std::string held_;
  bool trims_ = false;  // blanks at the beginning of what follows are dropped
  std::string blanks_;  // that stood before the call being read
  ToolCallReader call_;
};

}  // namespace orcd::engine
