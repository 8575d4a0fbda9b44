#include "jinja/value.h"

#include <algorithm>

#include "jinja/text.h"

namespace orcd::jinja {
namespace {

constexpr int kMaxNesting = 100;

// -1, 0, 1; numbers of both kinds compare by value.
int compare_numbers(const Value& a, const Value& b) {
  if (!a.is_float() && !b.is_float()) return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  return a.number() < b.number() ? -1 : a.number() > b.number();
}

bool equal_sequences(const Sequence& a, const Sequence& b, int depth);
bool equal_dicts(const Dict& a, const Dict& b, int depth);

bool equal_at(const Value& a, const Value& b, int depth) {
  if (depth > kMaxNesting) throw TemplateFailure{"maximum recursion depth exceeded in comparison"};
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return a.number() == b.number();
    return a.integer() == b.integer();
  }
  if (a.is_string() && b.is_string()) return *a.as_string() == *b.as_string();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.identity() != nullptr && a.identity() == b.identity()) return true;
  if (a.as_sequence() && b.as_sequence()) return equal_sequences(*a.as_sequence(), *b.as_sequence(), depth);
  if (a.as_dict() && b.as_dict()) return equal_dicts(*a.as_dict(), *b.as_dict(), depth);
  return false;
}

bool equal_sequences(const Sequence& a, const Sequence& b, int depth) {
  if (a.kind != b.kind || a.kind == SequenceKind::kGenerator || a.items.size() != b.items.size())
    return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!equal_at(a.items[i], b.items[i], depth + 1)) return false;
  }
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b, int depth) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key);
    if (other == nullptr || !equal_at(value, *other, depth + 1)) return false;
  }
  return true;
}

std::string joined_reprs(const std::vector<Value>& items, int depth);

std::string repr_at(const Value& value, int depth) {
  if (depth > kMaxNesting) throw TemplateFailure{"maximum recursion depth exceeded while printing a value"};
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "None";
  if (value.is_bool()) return value.boolean() ? "True" : "False";
  if (value.is_int()) return std::to_string(value.integer());
  if (value.is_float()) return float_text(value.number());
  if (const std::string* text = value.as_string()) return string_repr(*text);
  if (const Sequence* sequence = value.as_sequence()) {
    switch (sequence->kind) {
      case SequenceKind::kList:
        return concatenated({"[", joined_reprs(sequence->items, depth), "]"});
      case SequenceKind::kTuple:
        return concatenated(
            {"(", joined_reprs(sequence->items, depth), sequence->items.size() == 1 ? ",)" : ")"});
      case SequenceKind::kRange:
        return sequence->label;
      case SequenceKind::kView:
        return concatenated({sequence->label, "([", joined_reprs(sequence->items, depth), "])"});
      case SequenceKind::kGenerator:
        return "<generator object>";
    }
  }
  const Namespace* object = value.as_namespace();
  if (const Dict* dict = object ? &object->attributes : value.as_dict()) {
    std::string text = object ? "<Namespace {" : "{";
    const char* separator = "";
    for (const auto& [key, item] : dict->entries()) {
      text += separator + repr_at(key, depth + 1) + ": " + repr_at(item, depth + 1);
      separator = ", ";
    }
    return text + (object ? "}>" : "}");
  }
  return "<" + value.as_callable()->name + ">";
}

std::string joined_reprs(const std::vector<Value>& items, int depth) {
  std::string text;
  for (const Value& item : items) {
    if (&item != items.data()) text += ", ";
    text += repr_at(item, depth + 1);
  }
  return text;
}

}  // namespace

const Value* Dict::find(const Value& key) const {
  if (const std::string* text = key.as_string()) return find(std::string_view(*text));
  for (const auto& [name, value] : entries_) {
    if (equal(name, key)) return &value;
  }
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  if (entries_.size() >= kIndexFrom) {
    const auto found = index_.find(key);
    return found == index_.end() ? nullptr : &entries_[found->second].second;
  }
  for (const auto& [name, value] : entries_) {
    const std::string* text = name.as_string();
    if (text != nullptr && *text == key) return &value;
  }
  return nullptr;
}

void Dict::set(Value key, Value value) {
  if (const Value* old = find(key)) {
    *const_cast<Value*>(old) = std::move(value);
    return;
  }
  entries_.emplace_back(std::move(key), std::move(value));
  if (entries_.size() < kIndexFrom) return;
  for (size_t i = index_.empty() ? 0 : entries_.size() - 1; i < entries_.size(); ++i) {
    if (const std::string* text = entries_[i].first.as_string()) index_.emplace(*text, i);
  }
}

void Dict::clear() {
  entries_.clear();
  index_.clear();
}

Value::Value(Dict dict) : data_(std::make_shared<const Dict>(std::move(dict))) {}
Value::Value(Callable callable) : data_(std::make_shared<const Callable>(std::move(callable))) {}

Value Value::sequence(SequenceKind kind, std::vector<Value> items, std::string label) {
  Value value;
  value.data_ = std::make_shared<const Sequence>(Sequence{kind, std::move(items), std::move(label)});
  return value;
}

Value Value::group(Value grouper, std::vector<Value> items) {
  Sequence pair{.kind = SequenceKind::kTuple,
                .items = {std::move(grouper), list(std::move(items))},
                .label = {},
                .is_group = true};
  Value value;
  value.data_ = std::make_shared<const Sequence>(std::move(pair));
  return value;
}

bool Value::is_sequence(SequenceKind kind) const {
  const Sequence* sequence = as_sequence();
  return sequence != nullptr && sequence->kind == kind;
}

bool Value::is_true() const {
  if (is_undefined() || is_none()) return false;
  if (is_float()) return number() != 0;
  if (is_number()) return integer() != 0;
  if (const std::string* text = as_string()) return !text->empty();
  if (const Dict* dict = as_dict()) return dict->size() != 0;
  const Sequence* sequence = as_sequence();
  return sequence == nullptr || sequence->kind == SequenceKind::kGenerator || !sequence->items.empty();
}

const char* Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return "str";
  if (as_dict()) return "dict";
  if (as_namespace()) return "Namespace";
  if (as_callable()) return "function";
  switch (as_sequence()->kind) {
    case SequenceKind::kList:
      return "list";
    case SequenceKind::kTuple:
      return "tuple";
    case SequenceKind::kRange:
      return "range";
    case SequenceKind::kView:
      return "dict view";
    case SequenceKind::kGenerator:
      return "generator";
  }
  return "object";
}

const void* Value::identity() const {
  if (const void* sequence = as_sequence()) return sequence;
  if (const void* dict = as_dict()) return dict;
  if (const void* object = as_namespace()) return object;
  if (const void* callable = as_callable()) return callable;
  return as_string();
}

bool equal(const Value& a, const Value& b) { return equal_at(a, b, 0); }

bool less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) < 0;
  if (a.is_string() && b.is_string())
    return *a.as_string() < *b.as_string();  // UTF-8 sorts as code points do
  const Sequence *x = a.as_sequence(), *y = b.as_sequence();
  const bool ordered = x != nullptr && y != nullptr && x->kind == y->kind && x->kind <= SequenceKind::kTuple;
  if (!ordered) {
    throw TemplateFailure{std::string("'<' not supported between instances of '") + a.type_name() +
                          "' and '" + b.type_name() + "'"};
  }
  const size_t n = std::min(x->items.size(), y->items.size());
  for (size_t i = 0; i < n; ++i) {
    if (!equal(x->items[i], y->items[i])) return less(x->items[i], y->items[i]);
  }
  return x->items.size() < y->items.size();
}

std::string to_text(const Value& value) {
  if (value.is_undefined()) return {};
  if (const std::string* text = value.as_string()) return *text;
  return repr_at(value, 0);
}

std::string to_repr(const Value& value) { return repr_at(value, 0); }

}  // namespace orcd::jinja
