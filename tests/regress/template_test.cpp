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

// groupby's pairs had no names, which gave "" in silence; a default did not reach inside a path. Found by
// comparing with jinja2, as the next two.
TEST(TemplateRegression, GroupsHaveNamesAndDefaultsReachEveryPart) {
  const auto of_rows = [](std::string_view rest) {
    std::string source = "{% set rows = [{'r': 'u', 'n': 1}, {'r': 'a', 'n': 2}, {'r': 'u', 'n': 3}] %}";
    return render(source.append(rest));
  };
  EXPECT_EQ(of_rows("{% for g in rows | groupby('r') %}{{ g.grouper }}{{ g.list | length }}{% endfor %}"),
            "a1u2");
  EXPECT_EQ(of_rows("{{ rows | groupby('r') | map(attribute='grouper') | join }}"), "au");
  EXPECT_EQ(of_rows("{{ rows | groupby('r') | first }}"), "('a', [{'r': 'a', 'n': 2}])");
  EXPECT_EQ(of_rows("{{ rows | groupby('q.z', default='-') | map('first') | list }}"), "['-']");
  EXPECT_EQ(render("{{ [{}, {'a': [{'b': 1}]}] | map(attribute='a.0.b', default='x') | list }}"), "['x', 1]");
}

TEST(TemplateRegression, IntegersAreRoundedToTens) {
  EXPECT_EQ(
      render("{{ 1234 | round(-2) }} {{ 1250 | round(-2) }} {{ 1350 | round(-2) }} {{ -1251 | round(-2) }}"),
      "1200 1200 1400 -1300");
  EXPECT_EQ(render("{{ 5 | round(-19) }} {{ 6 | round(-1) }} {{ -9223372036854775807 | round(-18) }}"),
            "0 10 -9000000000000000000");
}

TEST(TemplateRegression, CasefoldIsMoreThanLower) {
  EXPECT_EQ(render("{{ 'ǅStraße Σς ﬃ İ'.casefold() }}"), "ǆstrasse σσ ffi i̇");
}

}  // namespace
}  // namespace orcd::jinja
