// `value is name(..)`.
#include <cmath>

#include "jinja/arguments.h"
#include "jinja/filters.h"
#include "jinja/operators.h"
#include "jinja/text.h"

namespace orcd::jinja {
namespace {

const Value& other(const Arguments& arguments) {
  if (arguments.positional.size() != 1) throw TemplateFailure{"the test takes one argument"};
  return arguments.positional[0];
}

bool is_integer(const Value& value) { return value.is_int(); }

int64_t remainder(Renderer& renderer, const Value& value, const Value& by) {
  const Value rest = binary_operation(renderer, "%", value, by);
  if (rest.is_float()) return rest.number() == 0 ? 0 : rest.number() == 1 ? 1 : 2;
  return rest.is_number() ? rest.integer() : 2;
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_string() || value.as_dict() || value.as_sequence();
}

bool is_cased_as(const Value& value, std::string (*function)(std::string_view)) {
  const std::string text = to_text(value);
  return has_cased(text) && function(text) == text;
}

bool is_same(const Value& a, const Value& b) {
  if (a.identity() != nullptr || b.identity() != nullptr) {
    // Python keeps one object for equal short strings of a template, so strings compare by value.
    if (a.is_string() && b.is_string()) return equal(a, b);
    return a.identity() == b.identity();
  }
  return a.is_bool() == b.is_bool() && a.is_float() == b.is_float() && equal(a, b);
}

template <int kSign>
bool compare_test(Renderer& renderer, const Value& value, const Arguments& arguments) {
  constexpr std::string_view kSigns[] = {"==", "!=", "<", "<=", ">", ">=", "in"};
  return compare(renderer, kSigns[kSign], value, other(arguments));
}

struct Entry {
  std::string_view name;
  Test test;
};
constexpr Entry kTests[] = {
    {"boolean", [](Renderer&, const Value& value, const Arguments&) { return value.is_bool(); }},
    {"callable",
     [](Renderer&, const Value& value, const Arguments&) {
       return value.as_callable() != nullptr && value.as_callable()->call != nullptr;
     }},
    {"defined", [](Renderer&, const Value& value, const Arguments&) { return !value.is_undefined(); }},
    {"divisibleby",
     [](Renderer& renderer, const Value& value, const Arguments& arguments) {
       return remainder(renderer, value, other(arguments)) == 0;
     }},
    {"eq", compare_test<0>},
    {"equalto", compare_test<0>},
    {"==", compare_test<0>},
    {"escaped", [](Renderer&, const Value&, const Arguments&) { return false; }},
    {"even", [](Renderer& renderer, const Value& value,
                const Arguments&) { return remainder(renderer, value, 2) == 0; }},
    {"false",
     [](Renderer&, const Value& value, const Arguments&) { return value.is_bool() && !value.boolean(); }},
    {"filter",
     [](Renderer&, const Value& value, const Arguments&) { return find_filter(to_text(value)) != nullptr; }},
    {"float", [](Renderer&, const Value& value, const Arguments&) { return value.is_float(); }},
    {"ge", compare_test<5>},
    {">=", compare_test<5>},
    {"greaterthan", compare_test<4>},
    {"gt", compare_test<4>},
    {">", compare_test<4>},
    {"in", compare_test<6>},
    {"integer", [](Renderer&, const Value& value, const Arguments&) { return is_integer(value); }},
    {"iterable", [](Renderer&, const Value& value, const Arguments&) { return is_iterable(value); }},
    {"le", compare_test<3>},
    {"<=", compare_test<3>},
    {"lessthan", compare_test<2>},
    {"lower", [](Renderer&, const Value& value, const Arguments&) { return is_cased_as(value, lower); }},
    {"lt", compare_test<2>},
    {"<", compare_test<2>},
    {"mapping", [](Renderer&, const Value& value, const Arguments&) { return value.as_dict() != nullptr; }},
    {"ne", compare_test<1>},
    {"!=", compare_test<1>},
    {"none", [](Renderer&, const Value& value, const Arguments&) { return value.is_none(); }},
    {"number", [](Renderer&, const Value& value, const Arguments&) { return value.is_number(); }},
    {"odd", [](Renderer& renderer, const Value& value,
               const Arguments&) { return remainder(renderer, value, 2) == 1; }},
    {"sameas", [](Renderer&, const Value& value,
                  const Arguments& arguments) { return is_same(value, other(arguments)); }},
    {"sequence",
     [](Renderer&, const Value& value, const Arguments&) {
       const Sequence* sequence = value.as_sequence();
       return value.is_undefined() || value.is_string() || value.as_dict() ||
              (sequence != nullptr && sequence->kind <= SequenceKind::kRange);
     }},
    {"string", [](Renderer&, const Value& value, const Arguments&) { return value.is_string(); }},
    {"test",
     [](Renderer&, const Value& value, const Arguments&) { return find_test(to_text(value)) != nullptr; }},
    {"true",
     [](Renderer&, const Value& value, const Arguments&) { return value.is_bool() && value.boolean(); }},
    {"undefined", [](Renderer&, const Value& value, const Arguments&) { return value.is_undefined(); }},
    {"upper", [](Renderer&, const Value& value, const Arguments&) { return is_cased_as(value, upper); }},
};

}  // namespace

Test find_test(std::string_view name) {
  for (const Entry& entry : kTests) {
    if (entry.name == name) return entry.test;
  }
  return nullptr;
}

bool apply_test(Renderer& renderer, std::string_view name, const Value& subject, const Arguments& arguments) {
  const Test test = find_test(name);
  if (test == nullptr) throw TemplateFailure{"no test named '" + std::string(name) + "'"};
  renderer.charge(1);
  return test(renderer, subject, arguments);
}

}  // namespace orcd::jinja
