// Walks the syntax tree of a template: scopes, limits, statements and expressions.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/syntax.h"
#include "jinja/template.h"
#include "jinja/value.h"

namespace orcd::jinja {

// Names of one block; lookups go up.
struct Scope {
  Scope* parent = nullptr;
  bool is_kept = false;  // a macro made here may be called after the block: the scope lives on
  std::vector<std::pair<std::string_view, Value>> names;

  const Value* find(std::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent) {
      for (const auto& [known, value] : scope->names) {
        if (known == name) return &value;
      }
    }
    return nullptr;
  }
  void set(std::string_view name, Value value) {
    for (auto& [known, old] : names) {
      if (known == name) {
        old = std::move(value);
        return;
      }
    }
    names.emplace_back(name, std::move(value));
  }
};

class Renderer {
 public:
  Renderer(const Dict& variables, std::chrono::system_clock::time_point now, const RenderLimits& limits);
  ~Renderer();  // undoes cycles between scopes, namespaces and macros
  Renderer(const Renderer&) = delete;
  Renderer& operator=(const Renderer&) = delete;

  std::string run(const Body& body);
  Position at() const { return at_; }  // of what is being evaluated

  // For filters, tests, methods and functions.
  void charge(uint64_t steps);  // fails beyond the limit
  void charge_bytes(uint64_t n_bytes) { charge(1 + n_bytes / 64); }
  Value call(const Value& callee, const Arguments& arguments);
  std::vector<Value> items_of(const Value& value);  // what a loop over the value visits; reads generators up
  std::shared_ptr<Namespace> make_namespace();
  std::chrono::system_clock::time_point now() const { return now_; }

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  struct LoopState;
  class Depth;

  Value evaluate(const Expression& node);
  Value evaluate_node(const Expression& node);
  Value lookup(const Expression& node) const;
  Value evaluate_compare(const Expression& node);
  Value evaluate_call(const Expression& node, const Value* caller);
  Value evaluate_filter(const Expression& node, const Value* subject);
  Value evaluate_test(const Expression& node);
  Value evaluate_subscript(const Expression& node);
  Arguments evaluate_arguments(const std::vector<Argument>& arguments);

  Flow execute(const Body& body);
  Flow execute(const Statement& statement);
  Flow execute_for(const Statement& statement);
  Flow loop_over(const Statement& statement, const Value& iterable, int depth);
  std::string capture(const Body& body, Flow* flow = nullptr);
  void execute_call_block(const Statement& statement);
  void assign(const Target& target, Value value);
  Value make_macro(const Statement& statement);
  Value call_macro(const Statement& statement, Scope* closure, const Arguments& arguments);
  void bind_parameters(const Statement& statement, const Arguments& arguments);
  void write(std::string_view text);

  // Runs `body` in a new scope below `parent`.
  template <class Function>
  auto in_scope(Scope* parent, Function&& body);

  const std::chrono::system_clock::time_point now_;
  const RenderLimits limits_;
  uint64_t steps_ = 0;
  uint32_t depth_ = 0;
  Position at_;
  std::string output_;
  uint64_t captured_bytes_ = 0;  // of the outputs that enclose the current one
  Scope globals_;
  Scope* scope_ = &globals_;
  std::vector<std::unique_ptr<Scope>> kept_scopes_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace orcd::jinja
