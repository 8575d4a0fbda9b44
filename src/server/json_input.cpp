#include "server/json_input.h"

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "server/error_reply.h"
#include "server/json_fields.h"

namespace orcd::server {
namespace {

[[noreturn]] void refuse(std::string message, std::string param = {}) {
  throw InvalidRequest(std::move(param), std::move(message));
}

// Deepest nesting of brackets outside strings; a text that is not JSON is the parser's to refuse.
int depth_of(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

// The parser's message without its internal number, and without the excerpt: it may quote the prompt.
std::string plain_message(const nlohmann::json::parse_error& error) {
  return "the body is not valid JSON (UTF-8) at byte " + std::to_string(error.byte);
}

}  // namespace

nlohmann::json parse_json(std::string_view text) {
  if (const int depth = depth_of(text); depth > kMaxJsonDepth) {
    refuse("the body nests " + std::to_string(depth) + " levels deep, the limit is " +
           std::to_string(kMaxJsonDepth));
  }
  std::vector<std::set<std::string>> names;
  std::string repeated;
  const auto watch = [&](int, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    if (event == nlohmann::json::parse_event_t::object_start) names.emplace_back();
    if (event == nlohmann::json::parse_event_t::object_end) names.pop_back();
    if (event == nlohmann::json::parse_event_t::key && !names.back().insert(value.get<std::string>()).second)
      repeated = value.get<std::string>();
    return true;
  };
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text, watch);
  } catch (const nlohmann::json::parse_error& error) {
    refuse(plain_message(error));
  } catch (const nlohmann::json::exception&) {
    refuse("the body holds a number outside the range of binary64");
  }
  if (!repeated.empty()) refuse("the field is given twice", clipped(repeated));
  return json;
}

}  // namespace orcd::server
