// Bugs of chat templates that were.
#include <gtest/gtest.h>

#include "jinja/json.h"
#include "jinja/template.h"

namespace orcd::jinja {
namespace {

std::string render(std::string_view source) { return Template(source).render({}, {}, {}); }

// tojson(ensure_ascii=true) left DEL as it is; Python escapes all but the printable characters of ASCII.
TEST(TemplateRegression, AsciiJsonEscapesDel) {
  EXPECT_EQ(render("{{ '~\\x7f' | tojson(ensure_ascii=true) }}"), "\"~\\u007f\"");
  EXPECT_EQ(render("{{ '~\\x7f' | tojson }}"), "\"~\x7f\"");
}

// A tuple ended before `in`, as if every one were the target of a loop.
TEST(TemplateRegression, InIsANameBehindAComma) { EXPECT_EQ(render("{{ 1, in }}"), "(1, Undefined)"); }

}  // namespace
}  // namespace orcd::jinja
