// Values of the template language with the meaning that Python gives them: undefined, None, bool, int, float,
// str, list, tuple, dict, and the few other objects that templates meet.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace orcd::jinja {

class Dict;
class Renderer;
struct Callable;
struct Namespace;
struct Sequence;

// What a name that stands for nothing gives: prints as "", is false and empty, fails when it is used
// otherwise.
struct Undefined {
  std::shared_ptr<const std::string> reason;  // told when it is used; may be null
};
struct None {};

enum class SequenceKind : uint8_t {
  kList,
  kTuple,
  kRange,      // range(..)
  kView,       // dict.keys(), .values(), .items(): a length, no index
  kGenerator,  // what filters such as map give: read once, no length, always true
};

class Value {
 public:
  Value() : data_(Undefined{}) {}
  // What a template can write is a value without ceremony: filters return 0, a text or a list as they are.
  // NOLINTBEGIN(google-explicit-constructor)
  Value(None) : data_(None{}) {}
  Value(bool value) : data_(value) {}
  Value(int value) : data_(int64_t{value}) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(std::string text) : data_(std::make_shared<const std::string>(std::move(text))) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(Dict dict);
  Value(std::shared_ptr<Namespace> object) : data_(std::move(object)) {}
  Value(Callable callable);
  // NOLINTEND(google-explicit-constructor)

  static Value undefined(std::string reason) {
    Value value;
    value.data_ = Undefined{std::make_shared<const std::string>(std::move(reason))};
    return value;
  }
  static Value sequence(SequenceKind kind, std::vector<Value> items, std::string label = {});
  static Value list(std::vector<Value> items) { return sequence(SequenceKind::kList, std::move(items)); }
  static Value group(Value grouper, std::vector<Value> items);  // a pair of groupby
  static Value tuple(std::vector<Value> items) { return sequence(SequenceKind::kTuple, std::move(items)); }
  static Value generator(std::vector<Value> items) {
    return sequence(SequenceKind::kGenerator, std::move(items));
  }

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return std::holds_alternative<StringPointer>(data_); }
  // nullptr, or the value as that type.
  const Undefined* as_undefined() const { return std::get_if<Undefined>(&data_); }
  const std::string* as_string() const { return pointee<StringPointer>(); }
  const Sequence* as_sequence() const { return pointee<SequencePointer>(); }
  const Dict* as_dict() const { return pointee<DictPointer>(); }
  Namespace* as_namespace() const { return pointee<std::shared_ptr<Namespace>>(); }
  const Callable* as_callable() const { return pointee<CallablePointer>(); }
  bool is_sequence(SequenceKind kind) const;
  // REQUIRES is_bool() or is_int().
  int64_t integer() const { return is_bool() ? std::get<bool>(data_) : std::get<int64_t>(data_); }
  // REQUIRES is_number().
  double number() const { return is_float() ? std::get<double>(data_) : static_cast<double>(integer()); }
  bool boolean() const { return std::get<bool>(data_); }  // REQUIRES is_bool()

  bool is_true() const;           // Python's bool()
  const char* type_name() const;  // Python's name of the type
  const void* identity() const;   // of what is shared; null for plain values

 private:
  using StringPointer = std::shared_ptr<const std::string>;
  using SequencePointer = std::shared_ptr<const Sequence>;
  using DictPointer = std::shared_ptr<const Dict>;
  using CallablePointer = std::shared_ptr<const Callable>;
  template <class Pointer>
  typename Pointer::element_type* pointee() const {
    const Pointer* pointer = std::get_if<Pointer>(&data_);
    return pointer ? pointer->get() : nullptr;
  }
  std::variant<Undefined, None, bool, int64_t, double, StringPointer, SequencePointer, DictPointer,
               std::shared_ptr<Namespace>, CallablePointer>
      data_;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Items are never changed once the sequence is shared.
struct Sequence {
  SequenceKind kind = SequenceKind::kList;
  std::vector<Value> items;
  std::string label;                 // how a range or a view prints before its items
  mutable bool is_consumed = false;  // generators
  bool is_group = false;             // a tuple of groupby: its items are .grouper and .list, too
};

// Keeps the order of insertion.
class Dict {
 public:
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  const Value* find(const char* key) const { return find(std::string_view(key)); }
  void set(Value key, Value value);  // replaces the value of an equal key in its place
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  void clear();

 private:
  static constexpr size_t kIndexFrom = 16;
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string, size_t, Hash, std::equal_to<>> index_;  // of text keys, once there are many
};

// namespace(..): the one object whose attributes templates may set.
struct Namespace {
  Dict attributes;
};

struct Callable {
  std::string name;
  std::function<Value(Renderer&, const Arguments&)> call;
  // Attributes of objects that are called, such as `loop`; may be empty.
  std::function<const Value*(std::string_view)> attribute;
};

// Python's ==.
bool equal(const Value& a, const Value& b);
// Python's <. Throws TemplateFailure for types that have no order.
bool less(const Value& a, const Value& b);
// Python's str() and repr(). Undefined gives "".
std::string to_text(const Value& value);
std::string to_repr(const Value& value);

// What goes wrong while a template renders; Template::render turns it into an orcd::Error with the place.
struct TemplateFailure {
  std::string message;
};

}  // namespace orcd::jinja
