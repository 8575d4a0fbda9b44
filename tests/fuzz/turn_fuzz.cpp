// libFuzzer target: the parts of a turn do not depend on how its text is cut, and none of the text of an
// answer is lost. The first character picks what is looked for, the second how the text is cut.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "engine/turn_splitter.h"

namespace {

using namespace orcd::engine;
using Parts = std::vector<TurnPart>;

Parts joined(const Parts& parts) {
  Parts out;
  for (const TurnPart& part : parts) {
    if (!out.empty() && out.back().kind == part.kind && part.kind != TurnPart::Kind::kCall)
      out.back().text += part.text;
    else
      out.push_back(part);
  }
  return out;
}

// Pieces of `n` bytes, n growing by one at each.
Parts split(TurnSplitter::Options options, std::string_view text, size_t n) {
  TurnSplitter splitter(options);
  Parts parts;
  for (; !text.empty(); ++n) {
    splitter.push(text.substr(0, n), &parts);
    text.remove_prefix(std::min(n, text.size()));
  }
  splitter.finish(&parts);
  return joined(parts);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const TurnSplitter::Options options{
      .thinks = (data[0] & 1) != 0, .in_thought = (data[0] & 2) != 0, .calls = (data[0] & 4) != 0};
  const std::string_view text(reinterpret_cast<const char*>(data + 2), size - 2);
  const Parts whole = split(options, text, text.size() + 1);
  if (split(options, text, 1 + data[1] % 16) != whole) std::abort();
  bool begun = false;
  for (const TurnPart& part : whole) {
    begun |= part.kind == TurnPart::Kind::kCall;
    if (part.text.empty() || (part.kind == TurnPart::Kind::kArguments && !begun)) std::abort();
  }
  const bool is_plain = text.find('<') == text.npos && !options.in_thought;
  if (is_plain && !text.empty() && whole != Parts{{TurnPart::Kind::kContent, std::string(text)}})
    std::abort();
  return 0;
}
