#include "jinja/globals.h"

#include <array>
#include <chrono>
#include <ctime>
#include <memory>

#include "jinja/arguments.h"
#include "jinja/renderer.h"
#include "jinja/text.h"

namespace orcd::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as jinja2's sandbox has it

Value range(Renderer& renderer, const Arguments& arguments) {
  const auto& given = arguments.positional;
  if (given.empty() || given.size() > 3) throw TemplateFailure{"range() takes 1 to 3 arguments"};
  int64_t part[3] = {0, 0, 1};
  for (size_t i = 0; i < given.size(); ++i) {
    part[given.size() == 1 ? 1 : i] = integer_argument(given[i], "range()");
  }
  const auto [start, stop, step] = part;
  if (step == 0) throw TemplateFailure{"range() step must not be zero"};
  std::vector<Value> items;
  for (__int128 i = start; step > 0 ? i < stop : i > stop; i += step) {
    if (std::ssize(items) >= kMaxRange) {
      throw TemplateFailure{"range() gives more than " + std::to_string(kMaxRange) + " items"};
    }
    items.emplace_back(static_cast<int64_t>(i));
  }
  renderer.charge(items.size());
  std::string label = "range(" + std::to_string(start) + ", " + std::to_string(stop);
  if (step != 1) label += ", " + std::to_string(step);
  return Value::sequence(SequenceKind::kRange, std::move(items), label + ")");
}

Dict dict_of(Renderer& renderer, const Arguments& arguments) {
  Dict dict;
  for (const Value& value : arguments.positional) {
    if (const Dict* other = value.as_dict()) {
      for (const auto& [key, item] : other->entries()) dict.set(key, item);
      continue;
    }
    for (const Value& pair : renderer.items_of(value)) {
      const std::vector<Value> items = renderer.items_of(pair);
      if (items.size() != 2) throw TemplateFailure{"dict() takes pairs"};
      dict.set(items[0], items[1]);
    }
  }
  for (const auto& [name, value] : arguments.named) dict.set(name, value);
  return dict;
}

Value make_namespace(Renderer& renderer, const Arguments& arguments) {
  auto object = renderer.make_namespace();
  object->attributes = dict_of(renderer, arguments);
  return object;
}

Value cycler(Renderer&, const Arguments& arguments) {
  if (arguments.positional.empty()) throw TemplateFailure{"at least one item has to be provided"};
  struct State {
    std::vector<Value> items;
    size_t at = 0;
    Value next, reset;
  };
  const auto state = std::make_shared<State>();
  state->items = arguments.positional;
  const std::weak_ptr<State> weak = state;  // the state owns its methods
  state->next = Callable{"next",
                         [weak](Renderer&, const Arguments&) {
                           const auto self = weak.lock();
                           if (!self) return Value();
                           Value item = self->items[self->at];
                           self->at = (self->at + 1) % self->items.size();
                           return item;
                         },
                         {}};
  state->reset = Callable{"reset",
                          [weak](Renderer&, const Arguments&) {
                            if (const auto self = weak.lock()) self->at = 0;
                            return Value(None{});
                          },
                          {}};
  return Callable{"Cycler", {}, [state](std::string_view name) -> const Value* {
                    if (name == "next") return &state->next;
                    if (name == "reset") return &state->reset;
                    if (name == "current") return &state->items[state->at];
                    return nullptr;
                  }};
}

Value joiner(Renderer&, const Arguments& arguments) {
  const Value* given = argument(arguments, 0, "sep");
  return Callable{
      "Joiner",
      [separator = given ? *given : Value(", "), used = std::make_shared<bool>(false)](
          Renderer&, const Arguments&) { return std::exchange(*used, true) ? separator : Value(""); },
      {}};
}

Value raise_exception(Renderer&, const Arguments& arguments) {
  const Value* message = argument(arguments, 0, "message");
  throw TemplateFailure{"refused: " + (message ? to_text(*message) : std::string())};
}

Value strftime_now(Renderer& renderer, const Arguments& arguments) {
  const Value* given = argument(arguments, 0, "format");
  const std::string* format = given ? given->as_string() : nullptr;
  if (format == nullptr) throw TemplateFailure{"strftime_now() takes a format"};
  if (format->empty()) return "";
  const std::time_t seconds = std::chrono::system_clock::to_time_t(renderer.now());
  std::tm parts{};
  localtime_r(&seconds, &parts);
  std::array<char, 1024> text{};
  const size_t n = std::strftime(text.data(), text.size(), format->c_str(), &parts);
  return std::string(text.data(), n);
}

Value function(std::string_view name, Value (*call)(Renderer&, const Arguments&)) {
  return Callable{"function " + std::string(name), call, {}};
}

}  // namespace

const std::vector<std::pair<std::string_view, Value>>& global_functions() {
  static const std::vector<std::pair<std::string_view, Value>> kFunctions = [] {
    std::vector<std::pair<std::string_view, Value>> list;
    const auto add = [&](std::string_view name, Value (*call)(Renderer&, const Arguments&)) {
      list.emplace_back(name, function(name, call));
    };
    add("range", range);
    add("dict",
        [](Renderer& renderer, const Arguments& arguments) { return Value(dict_of(renderer, arguments)); });
    add("namespace", make_namespace);
    add("cycler", cycler);
    add("joiner", joiner);
    add("raise_exception", raise_exception);
    add("strftime_now", strftime_now);
    return list;
  }();
  return kFunctions;
}

}  // namespace orcd::jinja
