// Reads one tool call in the form that Hermes and Qwen models write, character by character:
//   <tool_call>{"name": "f", "arguments": {...}}</tool_call>          (NousResearch, Hermes Function Calling)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace orcd::engine {

// A piece of a turn as a client of a chat sees it.
struct TurnPart {
  enum class Kind : uint8_t {
    kContent,
    kReasoning,
    kCall,       // begins a call; text: the function's name
    kArguments,  // more of the arguments of the call begun last, JSON as the model wrote it
  };
  Kind kind;
  std::string text;
  bool operator==(const TurnPart&) const = default;
};

// Adds to the last part where that is of the same kind, else a part of its own; nothing for no text.
void append_text(TurnPart::Kind kind, std::string_view text, std::vector<TurnPart>* parts);

inline constexpr std::string_view kBlanks = " \n\r\t";  // around the parts of a turn, and in JSON
inline constexpr std::string_view kCallOpen = "<tool_call>", kCallClose = "</tool_call>";

// Fed with what follows <tool_call>. The name is told as soon as it and the beginning of the arguments are
// known; the arguments as they come. Also taken: `parameters` for `arguments`, arguments before the name,
// arguments that are JSON text in a string, and a call whose last bracket is missing. A mark inside a JSON
// string is text.
class ToolCallReader {
 public:
  enum class State : uint8_t {
    kReading,
    kDone,      // </tool_call> was read
    kNotACall,  // it was something else: text() has all of it
  };
  // Takes a character, and appends what it completes.
  State push(char c, std::vector<TurnPart>* parts);
  // Whether the call has been told. If not, the turn that ends here ends in text().
  bool announced() const { return announced_; }
  const std::string& text() const { return text_; }  // what was read; complete while not announced

 private:
  enum class Place : uint8_t {
    kOpen,
    kKeyOrEnd,
    kKey,
    kColon,
    kValue,
    kText,
    kNested,
    kScalar,
    kNext,
    kClose
  };
  enum class Member : uint8_t { kOther, kName, kArguments };
  void step(char c, std::vector<TurnPart>* parts);
  bool ends_string(char c);
  void read_key(char c);
  void begin_value(char c, std::vector<TurnPart>* parts);
  void read_text(char c, std::vector<TurnPart>* parts);
  void read_nested(char c, std::vector<TurnPart>* parts);
  void end_object(std::vector<TurnPart>* parts);
  void take_argument(char c, std::vector<TurnPart>* parts);
  void announce(std::vector<TurnPart>* parts);
  void malformed();

  Place place_ = Place::kOpen;
  Member member_ = Member::kOther;
  bool announced_ = false, failed_ = false, has_name_ = false, has_arguments_ = false;
  bool in_string_ = false, escaped_ = false;
  uint32_t depth_ = 0;
  std::string text_;       // all of it, until the call is told
  std::string token_;      // the key or string value being read, as written
  std::string name_;       // of the function
  std::string arguments_;  // that came before the name
  size_t n_close_ = 0;     // characters of </tool_call> seen
};

}  // namespace orcd::engine
