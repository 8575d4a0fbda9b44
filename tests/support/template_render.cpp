// Renders chat templates for tools/template_oracle.py: each line of standard input is {"template": ..,
// "variables":
// {..}, "now": seconds}, each line of output {"text": ..} or {"error": ..}.
#include <chrono>
#include <iostream>
#include <string>

#include "base/error.h"
#include "jinja/json.h"
#include "jinja/template.h"

using orcd::jinja::Dict;
using orcd::jinja::Value;

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    Dict answer;
    try {
      const Value input = orcd::jinja::parse_json(line);
      const Dict& fields = *input.as_dict();
      const orcd::jinja::Template chat(*fields.find("template")->as_string());
      const std::chrono::system_clock::time_point now(std::chrono::seconds(fields.find("now")->integer()));
      answer.set("text", chat.render(*fields.find("variables")->as_dict(), now));
    } catch (const orcd::Error& error) {
      answer.set("error", error.line());
    }
    orcd::jinja::JsonStyle style;
    style.ensure_ascii = true;
    std::cout << orcd::jinja::to_json(answer, style) << std::endl;
  }
  return 0;
}
