// The filters that take or give sequences.
#include <algorithm>
#include <charconv>

#include "jinja/arguments.h"
#include "jinja/filters.h"
#include "jinja/operators.h"
#include "jinja/text.h"

namespace orcd::jinja {
namespace {

Value length(Renderer& renderer, const Value& subject, const Arguments&) {
  if (subject.is_undefined()) return 0;
  if (const std::string* text = subject.as_string()) {
    renderer.charge_bytes(text->size());
    return static_cast<int64_t>(count_code_points(*text));
  }
  if (const Dict* dict = subject.as_dict()) return static_cast<int64_t>(dict->size());
  if (const Sequence* sequence = subject.as_sequence();
      sequence && sequence->kind != SequenceKind::kGenerator) {
    return static_cast<int64_t>(sequence->items.size());
  }
  throw TemplateFailure{std::string("object of type '") + subject.type_name() + "' has no len()"};
}

Value default_value(Renderer&, const Value& subject, const Arguments& arguments) {
  const Value* given = argument(arguments, 0, "default_value");
  const bool missing =
      subject.is_undefined() || (flag_or(arguments, 1, "boolean", false) && !subject.is_true());
  return !missing ? subject : given ? *given : Value("");
}

// "a.0.b": what each item holds there.
class AttributePath {
 public:
  explicit AttributePath(const Value& path) {
    if (!path.is_string()) {
      parts_.push_back(path);
      return;
    }
    std::string_view rest = *path.as_string();
    for (;;) {
      const size_t dot = rest.find('.');
      const std::string_view part = rest.substr(0, dot);
      int64_t index = 0;
      const auto read = std::from_chars(part.data(), part.data() + part.size(), index);
      const bool is_index =
          !part.empty() && part[0] != '-' && read.ec == std::errc() && read.ptr == part.data() + part.size();
      parts_.push_back(is_index ? Value(index) : Value(part));
      if (dot == std::string_view::npos) return;
      rest.remove_prefix(dot + 1);
    }
  }
  // missing: what stands for each part that is not there, where it is given.
  Value read(Renderer& renderer, Value item, const Value* missing = nullptr) const {
    for (const Value& part : parts_) {
      item = subscript(renderer, item, part);
      if (item.is_undefined() && missing != nullptr && !missing->is_none()) item = *missing;
    }
    return item;
  }

 private:
  std::vector<Value> parts_;
};

// The key of an item for sort, unique, min, max and groupby.
class Key {
 public:
  Key(const Value* attribute, bool case_sensitive) : folds_(!case_sensitive) {
    if (attribute == nullptr || attribute->is_none()) return;
    if (!attribute->is_string()) {
      paths_.emplace_back(*attribute);
      return;
    }
    std::string_view rest = *attribute->as_string();
    for (size_t comma; (comma = rest.find(',')) != std::string_view::npos; rest.remove_prefix(comma + 1)) {
      paths_.emplace_back(Value(rest.substr(0, comma)));
    }
    paths_.emplace_back(Value(rest));
  }
  Value of(Renderer& renderer, const Value& item) const {
    if (paths_.empty()) return folded(item);
    if (paths_.size() == 1) return folded(paths_[0].read(renderer, item));
    std::vector<Value> parts;
    for (const AttributePath& path : paths_) parts.push_back(folded(path.read(renderer, item)));
    return Value::tuple(std::move(parts));
  }

 private:
  Value folded(const Value& value) const {
    const std::string* text = value.as_string();
    return folds_ && text ? Value(lower(*text)) : value;
  }
  std::vector<AttributePath> paths_;
  bool folds_;
};

using Keyed = std::pair<Value, Value>;

std::vector<Keyed> with_keys(Renderer& renderer, const Value& subject, const Key& key) {
  std::vector<Keyed> out;
  for (Value& item : renderer.items_of(subject)) {
    Value of = key.of(renderer, item);
    out.emplace_back(std::move(of), std::move(item));
  }
  return out;
}

// Stable; a reversed order keeps equal items in their places too, as Python has it. A merge sort of our own:
// an order that is none (NaN) must not break it.
void sort_keyed(Renderer& renderer, std::vector<Keyed>& items, bool reverse) {
  const auto before = [&](const Keyed& a, const Keyed& b) {
    renderer.charge(1);
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  };
  std::vector<Keyed> from(items.size());
  for (size_t width = 1; width < items.size(); width *= 2) {
    from.swap(items);
    for (size_t begin = 0; begin < from.size(); begin += 2 * width) {
      size_t left = begin, right = std::min(begin + width, from.size());
      const size_t middle = right, end = std::min(begin + 2 * width, from.size());
      for (size_t at = begin; at < end; ++at) {
        const bool takes_right = left == middle || (right < end && before(from[right], from[left]));
        items[at] = std::move(from[takes_right ? right++ : left++]);
      }
    }
  }
}

std::vector<Value> values_of(std::vector<Keyed> items) {
  std::vector<Value> out;
  out.reserve(items.size());
  for (auto& [key, value] : items) out.push_back(std::move(value));
  return out;
}

Value sort(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const Key key(argument(arguments, 2, "attribute"), flag_or(arguments, 1, "case_sensitive", false));
  std::vector<Keyed> items = with_keys(renderer, subject, key);
  sort_keyed(renderer, items, flag_or(arguments, 0, "reverse", false));
  return Value::list(values_of(std::move(items)));
}

Value dictsort(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const Dict* dict = subject.as_dict();
  if (dict == nullptr)
    throw TemplateFailure{std::string("'") + subject.type_name() + "' object has no attribute 'items'"};
  const Value* given = argument(arguments, 1, "by");
  const std::string by = given ? to_text(*given) : "key";
  if (by != "key" && by != "value") throw TemplateFailure{"You can only sort by either \"key\" or \"value\""};
  const Key key(nullptr, flag_or(arguments, 0, "case_sensitive", false));
  std::vector<Keyed> items;
  for (const auto& [name, value] : dict->entries()) {
    items.emplace_back(key.of(renderer, by == "key" ? name : value), Value::tuple({name, value}));
  }
  sort_keyed(renderer, items, flag_or(arguments, 2, "reverse", false));
  return Value::list(values_of(std::move(items)));
}

Value unique(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const Key key(argument(arguments, 1, "attribute"), flag_or(arguments, 0, "case_sensitive", false));
  std::vector<Value> out, seen;
  Dict known;
  for (auto& [of, item] : with_keys(renderer, subject, key)) {
    if (!of.is_string()) renderer.charge(known.size());
    if (known.find(of) != nullptr) continue;
    known.set(std::move(of), true);
    out.push_back(std::move(item));
  }
  return Value::generator(std::move(out));
}

template <bool kMax>
Value extreme(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const Key key(argument(arguments, 1, "attribute"), flag_or(arguments, 0, "case_sensitive", false));
  std::vector<Keyed> items = with_keys(renderer, subject, key);
  if (items.empty()) return Value::undefined("no aggregated item, sequence was empty");
  const Keyed* best = items.data();
  for (const Keyed& item : items) {
    if (kMax ? less(best->first, item.first) : less(item.first, best->first)) best = &item;
  }
  return best->second;
}

Value groupby(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const Value* by = argument(arguments, 0, "attribute");
  const Value* missing = argument(arguments, 1, "default");
  if (by == nullptr) throw TemplateFailure{"groupby takes an attribute"};
  const AttributePath path(*by);
  const bool folds = !flag_or(arguments, 2, "case_sensitive", false);
  std::vector<Keyed> items;
  for (Value& item : renderer.items_of(subject)) {
    Value key = path.read(renderer, item, missing);
    if (folds && key.is_string()) key = lower(*key.as_string());
    items.emplace_back(std::move(key), std::move(item));
  }
  sort_keyed(renderer, items, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size();) {
    size_t end = begin;
    std::vector<Value> members;
    while (end < items.size() && equal(items[end].first, items[begin].first))
      members.push_back(items[end++].second);
    Value shown = path.read(renderer, members.front(), missing);
    groups.push_back(Value::group(std::move(shown), std::move(members)));
    begin = end;
  }
  return Value::list(std::move(groups));
}

Value first(Renderer& renderer, const Value& subject, const Arguments&) {
  const std::vector<Value> items = renderer.items_of(subject);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(Renderer& renderer, const Value& subject, const Arguments&) {
  if (subject.is_sequence(SequenceKind::kGenerator))
    throw TemplateFailure{"'generator' object is not reversible"};
  const std::vector<Value> items = renderer.items_of(subject);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value list(Renderer& renderer, const Value& subject, const Arguments&) {
  return Value::list(renderer.items_of(subject));
}

Value items(Renderer& renderer, const Value& subject, const Arguments&) {
  if (subject.is_undefined()) return Value::generator({});
  const Dict* dict = subject.as_dict();
  if (dict == nullptr) throw TemplateFailure{"Can only get item pairs from a mapping."};
  std::vector<Value> pairs;
  renderer.charge(dict->size());
  for (const auto& [key, value] : dict->entries()) pairs.push_back(Value::tuple({key, value}));
  return Value::generator(std::move(pairs));
}

Value reverse(Renderer& renderer, const Value& subject, const Arguments&) {
  std::vector<Value> all = renderer.items_of(subject);
  std::reverse(all.begin(), all.end());
  if (!subject.is_string()) return Value::generator(std::move(all));
  std::string text;
  for (const Value& item : all) text += *item.as_string();
  return text;
}

Value join(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const Value* separator = argument(arguments, 0, "d");
  const Value* by = argument(arguments, 1, "attribute");
  const std::string between = separator ? to_text(*separator) : "";
  std::string out;
  bool is_first = true;
  for (const Value& item : renderer.items_of(subject)) {
    if (!is_first) out += between;
    is_first = false;
    const std::string text = to_text(by && !by->is_none() ? AttributePath(*by).read(renderer, item) : item);
    renderer.charge_bytes(text.size() + between.size());
    out += text;
  }
  return out;
}

Value sum(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const Value* by = argument(arguments, 0, "attribute");
  const Value* start = argument(arguments, 1, "start");
  Value total = start ? *start : Value(0);
  for (const Value& item : renderer.items_of(subject)) {
    const bool has_path = by && !by->is_none();
    total = binary_operation(renderer, "+", total, has_path ? AttributePath(*by).read(renderer, item) : item);
  }
  return total;
}

Value map(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  std::vector<Value> out;
  if (arguments.positional.empty()) {
    const Value* by = argument(arguments, 0, "attribute");
    const Value* missing = argument(arguments, 1, "default");
    if (by == nullptr) throw TemplateFailure{"map requires a filter argument"};
    const AttributePath path(*by);
    for (const Value& item : renderer.items_of(subject)) {
      out.push_back(path.read(renderer, item, missing));
    }
    return Value::generator(std::move(out));
  }
  const std::string name = string_argument(arguments.positional[0], "map");
  const Arguments rest{{arguments.positional.begin() + 1, arguments.positional.end()}, arguments.named};
  for (const Value& item : renderer.items_of(subject))
    out.push_back(apply_filter(renderer, name, item, rest));
  return Value::generator(std::move(out));
}

template <bool kKeeps, bool kByAttribute>
Value choose(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const size_t skip = kByAttribute ? 1 : 0;
  if (arguments.positional.size() < skip) throw TemplateFailure{"Missing parameter for attribute name"};
  const AttributePath path(kByAttribute ? arguments.positional[0] : Value(""));
  const bool has_test = arguments.positional.size() > skip;
  const std::string name = has_test ? string_argument(arguments.positional[skip], "select") : "";
  Arguments rest;
  if (has_test) {
    rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(skip) + 1,
                           arguments.positional.end());
    rest.named = arguments.named;
  }
  std::vector<Value> out;
  for (Value& item : renderer.items_of(subject)) {
    const Value value = kByAttribute ? path.read(renderer, item) : item;
    const bool holds = has_test ? apply_test(renderer, name, value, rest) : value.is_true();
    if (holds == kKeeps) out.push_back(std::move(item));
  }
  return Value::generator(std::move(out));
}

Value batch(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const int64_t size = integer_or(arguments, 0, "linecount", 0);
  const Value* fill = argument(arguments, 1, "fill_with");
  std::vector<Value> rows, row;
  for (Value& item : renderer.items_of(subject)) {
    if (std::ssize(row) == size) rows.push_back(Value::list(std::exchange(row, {})));
    row.push_back(std::move(item));
  }
  if (!row.empty()) {
    if (fill && !fill->is_none()) {
      renderer.charge(static_cast<uint64_t>(std::max<int64_t>(0, size)));
      while (std::ssize(row) < size) row.push_back(*fill);
    }
    rows.push_back(Value::list(std::move(row)));
  }
  return Value::generator(std::move(rows));
}

Value slice_filter(Renderer& renderer, const Value& subject, const Arguments& arguments) {
  const int64_t n_slices = integer_or(arguments, 0, "slices", 0);
  const Value* fill = argument(arguments, 1, "fill_with");
  if (n_slices <= 0) throw TemplateFailure{"integer division or modulo by zero"};
  renderer.charge(static_cast<uint64_t>(n_slices));
  const std::vector<Value> all = renderer.items_of(subject);
  const auto n = static_cast<int64_t>(all.size());
  const int64_t per_slice = n / n_slices, with_extra = n % n_slices;
  std::vector<Value> out;
  auto at = all.begin();
  for (int64_t i = 0; i < n_slices; ++i) {
    const auto end = at + static_cast<std::ptrdiff_t>(per_slice + (i < with_extra));
    std::vector<Value> part(at, end);
    if (fill && !fill->is_none() && i >= with_extra) part.push_back(*fill);
    out.push_back(Value::list(std::move(part)));
    at = end;
  }
  return Value::generator(std::move(out));
}

Value attr(Renderer&, const Value& subject, const Arguments& arguments) {
  const Value* name = argument(arguments, 0, "name");
  if (name == nullptr) throw TemplateFailure{"attr takes a name"};
  // Attributes only, not the items of a dict.
  if (auto method = method_of(subject, to_text(*name))) return *method;
  if (const Namespace* object = subject.as_namespace()) {
    if (const Value* found = object->attributes.find(*name)) return *found;
  }
  return Value::undefined(
      concatenated({"'", subject.type_name(), " object' has no attribute ", to_repr(*name)}));
}

struct Entry {
  std::string_view name;
  Filter filter;
};
constexpr Entry kFilters[] = {
    {"attr", attr},
    {"batch", batch},
    {"count", length},
    {"d", default_value},
    {"default", default_value},
    {"dictsort", dictsort},
    {"first", first},
    {"groupby", groupby},
    {"items", items},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", list},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", choose<false, false>},
    {"rejectattr", choose<false, true>},
    {"reverse", reverse},
    {"select", choose<true, false>},
    {"selectattr", choose<true, true>},
    {"slice", slice_filter},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

}  // namespace

Filter find_sequence_filter(std::string_view name) {
  for (const Entry& entry : kFilters) {
    if (entry.name == name) return entry.filter;
  }
  return nullptr;
}

Filter find_filter(std::string_view name) {
  const Filter filter = find_text_filter(name);
  return filter ? filter : find_sequence_filter(name);
}

Value apply_filter(Renderer& renderer, std::string_view name, const Value& subject,
                   const Arguments& arguments) {
  const Filter filter = find_filter(name);
  if (filter == nullptr) throw TemplateFailure{"no filter named '" + std::string(name) + "'"};
  renderer.charge(1);
  return filter(renderer, subject, arguments);
}

}  // namespace orcd::jinja
