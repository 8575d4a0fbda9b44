#include "jinja/renderer.h"

#include <utility>

#include "jinja/globals.h"

namespace orcd::jinja {

Renderer::Renderer(const Dict& variables, std::chrono::system_clock::time_point now,
                   const RenderLimits& limits)
    : now_(now), limits_(limits) {
  for (auto& [name, value] : global_functions()) globals_.set(name, value);
  for (const auto& [name, value] : variables.entries()) {
    if (const std::string* text = name.as_string()) globals_.set(*text, value);
  }
}

Renderer::~Renderer() {
  for (const auto& object : namespaces_) object->attributes.clear();
  for (const auto& scope : kept_scopes_) scope->names.clear();
  globals_.names.clear();
}

std::string Renderer::run(const Body& body) {
  execute(body);
  return std::move(output_);
}

void Renderer::charge(uint64_t steps) {
  steps_ += steps;
  if (steps_ > limits_.max_steps) {
    throw TemplateFailure{"takes more than " + std::to_string(limits_.max_steps) + " steps"};
  }
}

std::shared_ptr<Namespace> Renderer::make_namespace() {
  return namespaces_.emplace_back(std::make_shared<Namespace>());
}

class Renderer::Depth {
 public:
  explicit Depth(Renderer& renderer) : depth_(renderer.depth_) {
    if (++depth_ <= renderer.limits_.max_depth) return;
    --depth_;
    throw TemplateFailure{"nests deeper than " + std::to_string(renderer.limits_.max_depth) + " levels"};
  }
  ~Depth() { --depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  uint32_t& depth_;
};

template <class Function>
auto Renderer::in_scope(Scope* parent, Function&& body) {
  struct Restore {
    Renderer& renderer;
    Scope* outer;
    std::unique_ptr<Scope> inner;
    ~Restore() {
      renderer.scope_ = outer;
      if (inner->is_kept) renderer.kept_scopes_.push_back(std::move(inner));
    }
  } restore{*this, scope_, std::make_unique<Scope>()};
  restore.inner->parent = parent;
  scope_ = restore.inner.get();
  return body();
}

void Renderer::write(std::string_view text) {
  charge_bytes(text.size());
  if (captured_bytes_ + output_.size() + text.size() > limits_.max_output_bytes) {
    throw TemplateFailure{"writes more than " + std::to_string(limits_.max_output_bytes) + " bytes"};
  }
  output_ += text;
}

std::string Renderer::capture(const Body& body, Flow* flow) {
  struct Restore {
    Renderer& renderer;
    std::string outer;
    ~Restore() {
      renderer.captured_bytes_ -= outer.size();
      renderer.output_ = std::move(outer);
    }
  } restore{*this, std::exchange(output_, {})};
  captured_bytes_ += restore.outer.size();
  const Flow ended = execute(body);
  if (flow != nullptr) *flow = ended;
  return std::move(output_);
}

Renderer::Flow Renderer::execute(const Body& body) {
  const Depth depth(*this);
  for (const auto& statement : body) {
    const Flow flow = execute(*statement);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Renderer::Flow Renderer::execute(const Statement& statement) {
  at_ = statement.at;
  charge(1);
  switch (statement.kind) {
    case StatementKind::kText:
      write(statement.text);
      return Flow::kNext;
    case StatementKind::kOutput:
      write(to_text(evaluate(*statement.expression)));
      return Flow::kNext;
    case StatementKind::kIf:
      for (const auto& [condition, body] : statement.branches) {
        if (evaluate(*condition).is_true()) return execute(body);
      }
      return execute(statement.else_body);
    case StatementKind::kFor:
      return execute_for(statement);
    case StatementKind::kSet:
      assign(statement.target, evaluate(*statement.expression));
      return Flow::kNext;
    case StatementKind::kSetBlock: {
      Flow flow = Flow::kNext;
      Value text = in_scope(scope_, [&] { return Value(capture(statement.body, &flow)); });
      if (statement.expression) text = evaluate_filter(*statement.expression, &text);
      assign(statement.target, std::move(text));
      return flow;
    }
    case StatementKind::kMacro:
      scope_->set(statement.text, make_macro(statement));
      return Flow::kNext;
    case StatementKind::kCall:
      execute_call_block(statement);
      return Flow::kNext;
    case StatementKind::kFilter: {
      Flow flow = Flow::kNext;
      const Value text = in_scope(scope_, [&] { return Value(capture(statement.body, &flow)); });
      write(to_text(evaluate_filter(*statement.expression, &text)));
      return flow;
    }
    case StatementKind::kWith: {
      std::vector<Value> values;  // all seen from outside
      for (const auto& [target, value] : statement.assignments) values.push_back(evaluate(*value));
      return in_scope(scope_, [&] {
        for (size_t i = 0; i < values.size(); ++i) assign(statement.assignments[i].first, values[i]);
        return execute(statement.body);
      });
    }
    case StatementKind::kGeneration:
      in_scope(scope_, [&] { return execute(statement.body); });
      return Flow::kNext;
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

void Renderer::assign(const Target& target, Value value) {
  if (!target.items.empty()) {
    const std::vector<Value> items = items_of(value);
    if (items.size() != target.items.size()) {
      throw TemplateFailure{"cannot unpack " + std::to_string(items.size()) + " values into " +
                            std::to_string(target.items.size()) + " names"};
    }
    for (size_t i = 0; i < items.size(); ++i) assign(target.items[i], items[i]);
    return;
  }
  if (target.attribute.empty()) {
    scope_->set(target.name, std::move(value));
    return;
  }
  const Value* object = scope_->find(target.name);
  Namespace* names = object ? object->as_namespace() : nullptr;
  if (names == nullptr) throw TemplateFailure{"cannot assign attribute on non-namespace object"};
  names->attributes.set(target.attribute, std::move(value));
}

// What `loop` is inside the body.
struct Renderer::LoopState : std::enable_shared_from_this<LoopState> {
  std::vector<Value> items;
  size_t index = 0;
  int depth = 0;
  Value last_changed;
  bool has_changed = false;
  Value attribute;  // backs the pointer that a lookup gives

  const Value* find(std::string_view name) {
    const auto index0 = static_cast<int64_t>(index);
    const auto size = static_cast<int64_t>(items.size());
    if (name == "index") return give(index0 + 1);
    if (name == "index0") return give(index0);
    if (name == "revindex") return give(size - index0);
    if (name == "revindex0") return give(size - index0 - 1);
    if (name == "first") return give(index0 == 0);
    if (name == "last") return give(index0 == size - 1);
    if (name == "length") return give(size);
    if (name == "depth") return give(depth + 1);
    if (name == "depth0") return give(depth);
    if (name == "previtem")
      return index == 0 ? give(Value::undefined("there is no previous item")) : &items[index - 1];
    if (name == "nextitem") {
      return index + 1 == items.size() ? give(Value::undefined("there is no next item")) : &items[index + 1];
    }
    if (name == "changed") return method(&LoopState::changed);
    if (name == "cycle") return method(&LoopState::cycle);
    return nullptr;
  }
  Value changed(const Arguments& arguments) {
    Value now = Value::tuple(arguments.positional);
    const bool differs = !has_changed || !equal(now, last_changed);
    has_changed = true;
    last_changed = std::move(now);
    return differs;
  }
  Value cycle(const Arguments& arguments) {
    if (arguments.positional.empty()) throw TemplateFailure{"no items for cycling given"};
    return arguments.positional[index % arguments.positional.size()];
  }
  const Value* method(Value (LoopState::*function)(const Arguments&)) {
    return give(Callable{"loop method",
                         [weak = weak_from_this(), function](Renderer&, const Arguments& arguments) {
                           const auto self = weak.lock();
                           if (!self) throw TemplateFailure{"the loop has ended"};
                           return (self.get()->*function)(arguments);
                         },
                         {}});
  }
  const Value* give(Value value) {
    attribute = std::move(value);
    return &attribute;
  }
};

Renderer::Flow Renderer::execute_for(const Statement& statement) {
  return loop_over(statement, evaluate(*statement.expression), 0);
}

Renderer::Flow Renderer::loop_over(const Statement& statement, const Value& iterable, int depth) {
  const Depth nesting(*this);
  const auto state = std::make_shared<LoopState>();
  state->depth = depth;
  for (Value& item : items_of(iterable)) {
    const bool wanted = !statement.condition || in_scope(scope_, [&] {
      assign(statement.target, item);
      return evaluate(*statement.condition).is_true();
    });
    if (wanted) state->items.push_back(std::move(item));
  }
  Scope* const outer = scope_;
  Callable loop{"loop", {}, [state](std::string_view name) { return state->find(name); }};
  if (statement.is_recursive) {
    loop.call = [&statement, outer, depth](Renderer& renderer, const Arguments& arguments) {
      if (arguments.positional.size() != 1) throw TemplateFailure{"loop(...) takes one iterable"};
      const std::string before = std::exchange(renderer.output_, {});
      renderer.captured_bytes_ += before.size();
      Scope* const caller = std::exchange(renderer.scope_, outer);
      renderer.loop_over(statement, arguments.positional[0], depth + 1);
      renderer.scope_ = caller;
      renderer.captured_bytes_ -= before.size();
      return Value(std::exchange(renderer.output_, before));
    };
  }
  const Value loop_value(std::move(loop));
  for (; state->index < state->items.size(); ++state->index) {
    const Flow flow = in_scope(outer, [&] {
      scope_->set("loop", loop_value);
      assign(statement.target, state->items[state->index]);
      return execute(statement.body);
    });
    if (flow == Flow::kBreak) break;
  }
  if (state->items.empty()) return in_scope(outer, [&] { return execute(statement.else_body); });
  return Flow::kNext;
}

Value Renderer::make_macro(const Statement& statement) {
  for (Scope* scope = scope_; scope != nullptr && !scope->is_kept; scope = scope->parent)
    scope->is_kept = true;
  return Callable{
      "Macro '" + statement.text + "'",
      [&statement, closure = scope_](Renderer& renderer, const Arguments& arguments) {
        return renderer.call_macro(statement, closure, arguments);
      },
      [name = Value(statement.text)](std::string_view wanted) { return wanted == "name" ? &name : nullptr; }};
}

Value Renderer::call_macro(const Statement& statement, Scope* closure, const Arguments& arguments) {
  const Depth depth(*this);
  charge(1);
  return in_scope(closure, [&] {
    bind_parameters(statement, arguments);
    return Value(capture(statement.body));
  });
}

void Renderer::bind_parameters(const Statement& statement, const Arguments& arguments) {
  const auto& parameters = statement.parameters;
  std::vector<bool> used(arguments.named.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    const std::string& name = parameters[i].name;
    const Value* given = i < arguments.positional.size() ? &arguments.positional[i] : nullptr;
    for (size_t j = 0; j < used.size(); ++j) {
      if (arguments.named[j].first != name) continue;
      if (given != nullptr) throw TemplateFailure{"got several values for the argument '" + name + "'"};
      given = &arguments.named[j].second;
      used[j] = true;
    }
    if (given != nullptr) {
      scope_->set(name, *given);
    } else if (parameters[i].default_value) {
      scope_->set(name, evaluate(*parameters[i].default_value));
    } else {
      scope_->set(name, Value::undefined("parameter '" + name + "' was not provided"));
    }
  }
  Dict rest;
  bool has_caller = false;
  for (size_t j = 0; j < used.size(); ++j) {
    const auto& [name, value] = arguments.named[j];
    if (used[j]) continue;
    if (name == "caller" && statement.uses_caller) {
      scope_->set("caller", value);
      has_caller = true;
    } else if (statement.uses_kwargs && name != "caller") {
      rest.set(name, value);
    } else {
      throw TemplateFailure{"macro '" + statement.text + "' takes no argument '" + name + "'"};
    }
  }
  if (statement.uses_caller && !has_caller) {
    scope_->set("caller", Value::undefined("No caller defined"));
  }
  if (statement.uses_kwargs) scope_->set("kwargs", std::move(rest));
  std::vector<Value> more;
  for (size_t i = parameters.size(); i < arguments.positional.size(); ++i)
    more.push_back(arguments.positional[i]);
  if (statement.uses_varargs) {
    scope_->set("varargs", Value::tuple(std::move(more)));
  } else if (!more.empty()) {
    throw TemplateFailure{"macro '" + statement.text + "' takes not more than " +
                          std::to_string(parameters.size()) + " argument(s)"};
  }
}

void Renderer::execute_call_block(const Statement& statement) {
  const Value caller = make_macro(statement);
  write(to_text(evaluate_call(*statement.expression, &caller)));
}

}  // namespace orcd::jinja
