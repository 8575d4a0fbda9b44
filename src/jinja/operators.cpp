#include "jinja/operators.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "jinja/filters.h"
#include "jinja/format.h"
#include "jinja/text.h"

namespace orcd::jinja {
namespace {

[[noreturn]] void fail_operands(std::string_view sign, const Value& left, const Value& right) {
  throw TemplateFailure{"unsupported operand type(s) for " + std::string(sign) + ": '" + left.type_name() +
                        "' and '" + right.type_name() + "'"};
}

[[noreturn]] void fail_overflow() { throw TemplateFailure{"an integer does not fit 64 bits"}; }

Value float_operation(char sign, bool floor_division, double a, double b) {
  switch (sign) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    default:
      break;
  }
  if (b == 0) throw TemplateFailure{"division by zero"};
  if (sign == '%') {
    double rest = std::fmod(a, b);
    if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
    return rest;
  }
  return floor_division ? std::floor(a / b) : a / b;
}

Value integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? int64_t{1} : base;
  if (base == -1) return exponent % 2 ? int64_t{-1} : int64_t{1};
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(result, base, &result)) fail_overflow();
  }
  return result;
}

Value integer_operation(std::string_view sign, int64_t a, int64_t b) {
  int64_t result = 0;
  if (sign == "+") {
    if (__builtin_add_overflow(a, b, &result)) fail_overflow();
    return result;
  }
  if (sign == "-") {
    if (__builtin_sub_overflow(a, b, &result)) fail_overflow();
    return result;
  }
  if (sign == "*") {
    if (__builtin_mul_overflow(a, b, &result)) fail_overflow();
    return result;
  }
  if (sign == "**") return integer_power(a, b);
  if (b == 0) throw TemplateFailure{"division by zero"};
  if (sign == "/") return static_cast<double>(a) / static_cast<double>(b);
  if (b == -1) {  // the smallest integer has no negative
    if (sign == "%") return 0;
    if (__builtin_sub_overflow(int64_t{0}, a, &result)) fail_overflow();
    return result;
  }
  const int64_t quotient = a / b, rest = a % b;
  const bool rounds_down = rest != 0 && (rest < 0) != (b < 0);
  return sign == "//" ? quotient - rounds_down : rounds_down ? rest + b : rest;
}

Value number_operation(std::string_view sign, const Value& left, const Value& right) {
  if (!left.is_float() && !right.is_float()) {
    return integer_operation(sign, left.integer(), right.integer());
  }
  if (sign == "**") return std::pow(left.number(), right.number());
  return float_operation(sign[0], sign == "//", left.number(), right.number());
}

Value repeat(Renderer& renderer, const Value& value, int64_t times) {
  const auto n = static_cast<uint64_t>(std::max<int64_t>(times, 0));
  constexpr uint64_t kMaxTimes = 1u << 24;
  if (const std::string* text = value.as_string()) {
    if (n > kMaxTimes) throw TemplateFailure{"a string repeated too often"};
    renderer.charge_bytes(text->size() * n);
    std::string out;
    for (uint64_t i = 0; i < n && !text->empty(); ++i) out += *text;
    return out;
  }
  const Sequence& sequence = *value.as_sequence();
  if (n > kMaxTimes) throw TemplateFailure{"a list repeated too often"};
  renderer.charge(sequence.items.size() * n);
  std::vector<Value> items;
  for (uint64_t i = 0; i < n && !sequence.items.empty(); ++i) {
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return Value::sequence(sequence.kind, std::move(items));
}

bool repeats(const Value& value) {
  return value.is_string() || value.is_sequence(SequenceKind::kList) ||
         value.is_sequence(SequenceKind::kTuple);
}

// An index that may count from the end, -1 when it is outside.
int64_t resolve_index(int64_t index, size_t size) {
  const auto n = static_cast<int64_t>(size);
  if (index < 0) index += n;
  return index < 0 || index >= n ? -1 : index;
}

// Python's rules for the bounds of a slice.
struct Bounds {
  int64_t start, stop, step;
};

Bounds resolve_bounds(const Value& start, const Value& stop, const Value& step, size_t size) {
  const auto read = [](const Value& value, int64_t missing) {
    if (value.is_none()) return missing;
    if (value.is_undefined()) fail_undefined(value);
    if (!value.is_int() && !value.is_bool()) {
      throw TemplateFailure{"slice indices must be integers or None"};
    }
    return value.integer();
  };
  const auto n = static_cast<int64_t>(size);
  Bounds bounds{};
  bounds.step = read(step, 1);
  if (bounds.step == 0) throw TemplateFailure{"slice step cannot be zero"};
  const int64_t low = bounds.step < 0 ? -1 : 0, high = bounds.step < 0 ? n - 1 : n;
  const auto clamp = [&](int64_t at) {
    if (at < 0) at = at < -n ? low : at + n;
    return std::min(std::max(at, low), high);
  };
  bounds.start = start.is_none() ? (bounds.step < 0 ? high : low) : clamp(read(start, 0));
  bounds.stop = stop.is_none() ? (bounds.step < 0 ? low : high) : clamp(read(stop, 0));
  return bounds;
}

template <class Function>
void for_each_index(const Bounds& bounds, Function&& function) {
  const auto inside = [&](int64_t at) { return bounds.step > 0 ? at < bounds.stop : at > bounds.stop; };
  for (int64_t at = bounds.start; inside(at);) {
    function(static_cast<size_t>(at));
    if (__builtin_add_overflow(at, bounds.step, &at)) return;
  }
}

bool is_unsafe(const Value& value, std::string_view name) {
  static constexpr std::array<std::string_view, 8> kListNames = {"append", "clear", "pop",    "reverse",
                                                                 "insert", "sort",  "extend", "remove"};
  static constexpr std::array<std::string_view, 5> kDictNames = {"clear", "pop", "popitem", "setdefault",
                                                                 "update"};
  const auto has = [name](const auto& names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  return (value.is_sequence(SequenceKind::kList) && has(kListNames)) || (value.as_dict() && has(kDictNames));
}

}  // namespace

void fail_undefined(const Value& value) {
  const auto& reason = value.as_undefined()->reason;
  throw TemplateFailure{reason ? *reason : std::string("a value is undefined")};
}

Value binary_operation(Renderer& renderer, std::string_view sign, const Value& left, const Value& right) {
  if (left.is_undefined()) fail_undefined(left);
  if (sign == "%" && left.is_string()) {
    std::string text = format_percent(*left.as_string(), right);
    renderer.charge_bytes(text.size());
    return text;
  }
  if (right.is_undefined()) fail_undefined(right);
  if (left.is_number() && right.is_number()) return number_operation(sign, left, right);
  if (sign == "+" && left.is_string() && right.is_string()) {
    renderer.charge_bytes(left.as_string()->size() + right.as_string()->size());
    return *left.as_string() + *right.as_string();
  }
  if (sign == "+" && repeats(left) && repeats(right) && !left.is_string() && !right.is_string()) {
    const Sequence &a = *left.as_sequence(), &b = *right.as_sequence();
    if (a.kind != b.kind) fail_operands(sign, left, right);
    renderer.charge(a.items.size() + b.items.size());
    std::vector<Value> items = a.items;
    items.insert(items.end(), b.items.begin(), b.items.end());
    return Value::sequence(a.kind, std::move(items));
  }
  if (sign == "*" && repeats(left) && (right.is_int() || right.is_bool())) {
    return repeat(renderer, left, right.integer());
  }
  if (sign == "*" && repeats(right) && (left.is_int() || left.is_bool())) {
    return repeat(renderer, right, left.integer());
  }
  fail_operands(sign, left, right);
}

Value negative(const Value& value) {
  if (value.is_undefined()) fail_undefined(value);
  if (!value.is_number())
    throw TemplateFailure{std::string("bad operand type for unary -: '") + value.type_name() + "'"};
  if (value.is_float()) return -value.number();
  return integer_operation("-", 0, value.integer());
}

bool compare(Renderer& renderer, std::string_view sign, const Value& left, const Value& right) {
  renderer.charge(1);
  if (sign == "==") return equal(left, right);
  if (sign == "!=") return !equal(left, right);
  if (sign == "in") return contains(renderer, right, left);
  if (sign == "not in") return !contains(renderer, right, left);
  if (left.is_undefined()) fail_undefined(left);
  if (right.is_undefined()) fail_undefined(right);
  if (sign == "<") return less(left, right);
  if (sign == ">") return less(right, left);
  const bool is_nan = left.is_number() && right.is_number() &&
                      (left.number() != left.number() || right.number() != right.number());
  if (is_nan) return false;
  return sign == "<=" ? !less(right, left) : !less(left, right);
}

bool contains(Renderer& renderer, const Value& container, const Value& item) {
  if (const std::string* text = container.as_string()) {
    if (item.is_undefined()) fail_undefined(item);
    const std::string* part = item.as_string();
    if (part == nullptr) {
      throw TemplateFailure{std::string("'in <string>' requires string as left operand, not ") +
                            item.type_name()};
    }
    renderer.charge_bytes(text->size());
    return text->find(*part) != std::string::npos;
  }
  if (const Dict* dict = container.as_dict()) return dict->find(item) != nullptr;
  for (const Value& other : renderer.items_of(container)) {
    if (equal(other, item)) return true;
  }
  return false;
}

Value subscript(Renderer& renderer, const Value& value, const Value& key) {
  if (value.is_undefined()) fail_undefined(value);
  if (const Dict* dict = value.as_dict()) {
    if (const Value* found = dict->find(key)) return *found;
  } else if (const Sequence* sequence = value.as_sequence();
             sequence && sequence->kind <= SequenceKind::kRange && (key.is_int() || key.is_bool())) {
    const int64_t index = resolve_index(key.integer(), sequence->items.size());
    if (index >= 0) return sequence->items[static_cast<size_t>(index)];
    return Value::undefined(std::string(value.type_name()) + " object has no element " +
                            std::to_string(key.integer()));
  } else if (const std::string* text = value.as_string(); text && (key.is_int() || key.is_bool())) {
    renderer.charge_bytes(text->size());
    const std::vector<size_t> offsets = code_point_offsets(*text);
    const int64_t index = resolve_index(key.integer(), offsets.size() - 1);
    if (index < 0) return Value::undefined("str object has no element " + std::to_string(key.integer()));
    const auto at = static_cast<size_t>(index);
    return text->substr(offsets[at], offsets[at + 1] - offsets[at]);
  }
  if (const std::string* name = key.as_string()) {
    if (is_unsafe(value, *name)) return attribute(renderer, value, *name);
    if (auto method = method_of(value, *name)) return *method;
    const Sequence* sequence = value.as_sequence();
    if (value.as_namespace() || value.as_callable() || (sequence && sequence->is_group))
      return attribute(renderer, value, *name);
  }
  return Value::undefined(concatenated({"'", value.type_name(), " object' has no attribute ", to_repr(key)}));
}

Value attribute(Renderer& renderer, const Value& value, std::string_view name) {
  if (value.is_undefined()) fail_undefined(value);
  if (name.starts_with("_")) {
    return Value::undefined(
        concatenated({"access to attribute '", name, "' of '", value.type_name(), "' object is unsafe"}));
  }
  if (is_unsafe(value, name)) {
    return Value::undefined(
        concatenated({"'", name, "' changes a ", value.type_name(), ", which templates must not"}));
  }
  if (auto method = method_of(value, name)) return *method;
  const Value* found = nullptr;
  if (const Namespace* object = value.as_namespace()) found = object->attributes.find(name);
  if (const Dict* dict = value.as_dict()) found = dict->find(name);
  if (const Callable* callable = value.as_callable(); callable && callable->attribute) {
    found = callable->attribute(name);
  }
  if (const Sequence* pair = value.as_sequence(); pair && pair->is_group) {
    if (name == "grouper") found = &pair->items[0];
    if (name == "list") found = &pair->items[1];
  }
  renderer.charge(1);
  if (found != nullptr) return *found;
  return Value::undefined(concatenated({"'", value.type_name(), " object' has no attribute '", name, "'"}));
}

Value slice(Renderer& renderer, const Value& value, const Value& start, const Value& stop,
            const Value& step) {
  if (value.is_undefined()) fail_undefined(value);
  if (const std::string* text = value.as_string()) {
    renderer.charge_bytes(text->size());
    const std::vector<size_t> offsets = code_point_offsets(*text);
    const Bounds bounds = resolve_bounds(start, stop, step, offsets.size() - 1);
    std::string out;
    for_each_index(bounds, [&](size_t at) { out.append(*text, offsets[at], offsets[at + 1] - offsets[at]); });
    return out;
  }
  const Sequence* sequence = value.as_sequence();
  if (sequence == nullptr || sequence->kind > SequenceKind::kRange) {
    return Value::undefined(std::string(value.type_name()) + " object cannot be sliced");
  }
  const Bounds bounds = resolve_bounds(start, stop, step, sequence->items.size());
  std::vector<Value> items;
  for_each_index(bounds, [&](size_t at) { items.push_back(sequence->items[at]); });
  renderer.charge(items.size());
  std::string label;
  if (sequence->kind == SequenceKind::kRange) label = "range(...)";
  return Value::sequence(sequence->kind, std::move(items), label);
}

}  // namespace orcd::jinja
