#include "jinja/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "jinja/json.h"

namespace orcd::jinja {
namespace {

std::string render(std::string_view source, std::string_view variables = "{}",
                   const RenderLimits& limits = {}) {
  const Value input = parse_json(variables);
  return Template(source).render(*input.as_dict(),
                                 std::chrono::system_clock::time_point(std::chrono::hours(24)), limits);
}

struct Place {
  ErrorCode code;
  uint64_t line, column;
  bool operator==(const Place&) const = default;
};
void PrintTo(const Place& place, std::ostream* out) {
  *out << error_code_name(place.code) << " at " << place.line << ":" << place.column;
}

template <class Function>
Place place_of(Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    Place place{error.code(), 0, 0};
    for (const auto& [name, value] : error.values()) {
      if (name == "line") place.line = std::get<uint64_t>(value);
      if (name == "column") place.column = std::get<uint64_t>(value);
    }
    return place;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

std::string error_of(std::string_view source, std::string_view variables = "{}",
                     const RenderLimits& limits = {}) {
  try {
    return "no error: " + render(source, variables, limits);
  } catch (const Error& error) {
    return error.message();
  }
}

TEST(Template, BlocksTakeTheirLineWithThem) {
  EXPECT_EQ(render("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
  EXPECT_EQ(render("a\n  {%+ if true %}b{% endif +%}\nc"), "a\n  b\nc");
  EXPECT_EQ(render("a  {%- if true -%}  b  {%- endif -%}  c"), "abc");
  EXPECT_EQ(render("a {{- 1 -}} b\n"), "a1b");
  EXPECT_EQ(render("x\n  {# note #}\ny"), "x\ny");
}

TEST(Template, UndefinedNamesPrintNothingButCannotBeUsed) {
  EXPECT_EQ(render("[{{ nothing }}{{ messages.nothing }}]", R"({"messages": {}})"), "[]");
  EXPECT_THAT(error_of("{{ nothing.more }}"), testing::HasSubstr("'nothing' is undefined"));
  EXPECT_THAT(error_of("{{ 'a' + nothing }}"), testing::HasSubstr("'nothing' is undefined"));
}

TEST(Template, SetInsideALoopStaysThereUnlessItIsANamespace) {
  EXPECT_EQ(render("{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}"),
            "231");
  EXPECT_EQ(
      render("{% set n = namespace(x=1) %}{% for i in [1, 2] %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}"),
      "4");
}

TEST(Template, MacrosSeeNamesAsTheyAreWhenCalled) {
  EXPECT_EQ(render("{% set x = 1 %}{% macro m(a, b=a ~ '!') %}{{ x }}{{ b }}{% endmacro %}{% set x = 2 %}"
                   "{{ m('k') }}{{ m(b=3, a=0) }}"),
            "2k!23");
}

TEST(Template, RecursiveLoopsWalkTrees) {
  EXPECT_EQ(render("{% for n in t recursive %}{{ n.v }}{% if n.c %}({{ loop(n.c) }}){% endif %}{% endfor %}",
                   R"({"t": [{"v": 1, "c": [{"v": 2}, {"v": 3, "c": [{"v": 4}]}]}, {"v": 5}]})"),
            "1(23(4))5");
}

TEST(Template, JsonKeepsOrderAndDoesNotEscapeHtml) {
  EXPECT_EQ(render("{{ x | tojson }}", R"({"x": {"b": "<é\u0001>", "a": [1, 2.0, null, true]}})"),
            "{\"b\": \"<é\\u0001>\", \"a\": [1, 2.0, null, true]}");
  EXPECT_EQ(render("{{ x | tojson(indent=2) }}", R"({"x": {"b": [], "a": [1]}})"),
            "{\n  \"b\": [],\n  \"a\": [\n    1\n  ]\n}");
}

TEST(Template, ManyNamesOfADictAreFoundAndKeepTheirOrder) {
  Dict dict;
  for (int i = 0; i < 100; ++i) dict.set("k" + std::to_string(i), i);
  dict.set("k7", -7);
  ASSERT_EQ(dict.size(), 100u);
  EXPECT_EQ(dict.find("k7")->integer(), -7);
  EXPECT_EQ(dict.find("k99")->integer(), 99);
  EXPECT_EQ(dict.find("k100"), nullptr);
  EXPECT_EQ(*dict.entries()[7].first.as_string(), "k7");
}

TEST(Template, TimeIsTheCallersAndTheMethodsThatChangeAreNot) {
  EXPECT_EQ(render("{{ strftime_now('%Y') }}"), "1970");
  EXPECT_THAT(error_of("{% set x = [] %}{{ x.append(1) }}"), testing::HasSubstr("'append' changes a list"));
  EXPECT_THAT(error_of("{{ ''.__class__.x }}"), testing::HasSubstr("unsafe"));
}

TEST(Template, SyntaxErrorsNameLineAndColumn) {
  const auto parse = [](std::string_view source) { return place_of([source] { Template chat(source); }); };
  EXPECT_EQ(parse("ab\nc{{ 1 + }}"), (Place{ErrorCode::kModelLoadFailed, 2, 9}));
  EXPECT_EQ(parse("é{{ x | nope }}"), (Place{ErrorCode::kModelLoadFailed, 1, 9}));
  EXPECT_EQ(parse("{% include 'x' %}"), (Place{ErrorCode::kModelLoadFailed, 1, 4}));
  EXPECT_EQ(parse("\n{% if x %}"), (Place{ErrorCode::kModelLoadFailed, 2, 11}));
  EXPECT_EQ(parse("{{ 'abc }}"), (Place{ErrorCode::kModelLoadFailed, 1, 4}));
  EXPECT_EQ(parse("{# never ends"), (Place{ErrorCode::kModelLoadFailed, 1, 1}));
}

TEST(Template, RefusalsAreTheClientsAndNameTheirPlace) {
  EXPECT_EQ(place_of([] { render("\n{{ raise_exception('no') }}"); }),
            (Place{ErrorCode::kInvalidRequest, 2, 19}));
  EXPECT_THAT(error_of("{{ raise_exception('roles!') }}"), testing::HasSubstr("roles!"));
}

TEST(Template, LimitsEndWhatWouldNotEnd) {
  RenderLimits limits;
  limits.max_steps = 10'000;
  EXPECT_THAT(
      error_of("{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}", "{}", limits),
      testing::HasSubstr("more than 10000 steps"));
  EXPECT_THAT(error_of("{{ 'a' * 16000000 }}", "{}", limits), testing::HasSubstr("more than 10000 steps"));
  EXPECT_THAT(error_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
              testing::HasSubstr("nests deeper"));
  limits = {};
  limits.max_output_bytes = 100;
  EXPECT_THAT(error_of("{% for a in range(60) %}ab{% endfor %}", "{}", limits),
              testing::HasSubstr("100 bytes"));
  EXPECT_THAT(error_of("{{ range(100001) }}"), testing::HasSubstr("100000"));
}

TEST(Template, DeepSourcesAreRefusedNotCrashedOn) {
  std::string brackets(100'000, '('), chain = "{{ 1", blocks;
  for (int i = 0; i < 100'000; ++i) chain += "+1";
  for (int i = 0; i < 10'000; ++i) blocks += "{% if 1 %}";
  EXPECT_THROW(Template("{{ " + brackets), Error);
  EXPECT_THROW(Template(chain + " }}"), Error);
  EXPECT_THROW(Template{blocks}, Error);
}

// tools/template_syntax_goldens.py has the templates and asks jinja2.
TEST(Template, EveryTurnOfTheLanguageIsWhatJinja2MakesOfIt) {
  std::ifstream file(ORCD_SOURCE_DIR "/tests/golden/templates/syntax.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  ASSERT_GT(golden["cases"].size(), 170u);
  const std::string variables = golden["variables"].dump();
  for (const nlohmann::json& one : golden["cases"]) {
    const auto source = one["template"].get<std::string>();
    SCOPED_TRACE(source);
    if (one["text"].is_null()) {
      EXPECT_THROW(render(source, variables), Error);
    } else {
      try {
        EXPECT_EQ(render(source, variables), one["text"].get<std::string>());
      } catch (const Error& error) {
        ADD_FAILURE() << error.line();
      }
    }
  }
}

TEST(Template, WhatPythonTakesAndATemplateNeedsNotIsRefused) {
  EXPECT_THAT(error_of("{{ 99999999999999999999 }}"), testing::HasSubstr("64 bits"));
  EXPECT_THAT(error_of("{{ '\\ud800' }}"), testing::HasSubstr("escape of no character"));
  EXPECT_THAT(error_of("{{ '\\N{DIGIT ONE}' }}"), testing::HasSubstr("not supported"));
  EXPECT_THAT(error_of("{{ l[] }}", R"({"l": [1]})"), testing::HasSubstr("expected an expression"));
  EXPECT_THAT(error_of("{#"), testing::HasSubstr("end of comment"));
}

TEST(Template, JsonOfWhatIsNestedWithoutEndIsRefused) {
  EXPECT_THAT(
      error_of("{% set ns = namespace(l=[]) %}{% for i in range(150) %}{% set ns.l = [ns.l] %}{% endfor %}"
               "{{ ns.l | tojson }}"),
      testing::HasSubstr("nested too deeply"));
}

TEST(ParseJson, BadJsonNamesItsByteAndDepthIsBounded) {
  EXPECT_THROW(parse_json("{\"a\": }"), Error);
  EXPECT_THROW(parse_json(std::string(100, '[') + std::string(100, ']')), Error);
  EXPECT_EQ(to_json(parse_json("[18446744073709551615, -3, 1.5]"), {}), "[1.8446744073709552e+19, -3, 1.5]");
}

}  // namespace
}  // namespace orcd::jinja
