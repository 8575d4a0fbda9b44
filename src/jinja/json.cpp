#include "jinja/json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "jinja/text.h"

namespace orcd::jinja {
namespace {

constexpr size_t kMaxDepth = 64;

// Builds values from the parser's events.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Value take() { return std::move(root_); }
  bool null() override { return add(None{}); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(INT64_MAX)) return add(static_cast<double>(value));
    return add(static_cast<int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return open(true); }
  bool start_array(size_t) override { return open(false); }
  bool key(string_t& value) override {
    levels_.back().key = std::move(value);
    return true;
  }
  bool end_object() override {
    Value value(std::move(levels_.back().dict));
    levels_.pop_back();
    return add(std::move(value));
  }
  bool end_array() override {
    Value value = Value::list(std::move(levels_.back().items));
    levels_.pop_back();
    return add(std::move(value));
  }
  bool parse_error(size_t offset, const std::string&, const nlohmann::detail::exception& error) override {
    throw Error(ErrorCode::kInvalidRequest, error.what(), {{"byte", uint64_t{offset}}});
  }

 private:
  struct Level {
    bool is_object;
    Dict dict;
    std::vector<Value> items;
    std::string key;
  };
  bool open(bool is_object) {
    if (levels_.size() == kMaxDepth) {
      throw Error(ErrorCode::kInvalidRequest, "JSON nests too deeply", {{"limit", uint64_t{kMaxDepth}}});
    }
    levels_.push_back({is_object, {}, {}, {}});
    return true;
  }
  bool add(Value value) {
    if (levels_.empty()) {
      root_ = std::move(value);
    } else if (levels_.back().is_object) {
      levels_.back().dict.set(std::move(levels_.back().key), std::move(value));
    } else {
      levels_.back().items.push_back(std::move(value));
    }
    return true;
  }

  Value root_;
  std::vector<Level> levels_;
};

void append_unicode_escape(uint32_t unit, std::string& out) {
  std::array<char, 12> text{};
  std::snprintf(text.data(), text.size(), "\\u%04x", unit);
  out += text.data();
}

void append_string(std::string_view text, bool ensure_ascii, std::string& out) {
  constexpr std::string_view kPlain = "\"\\\n\r\t\f\b", kNames = "\"\\nrtfb";
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    const size_t index = c.value < 0x80 ? kPlain.find(static_cast<char>(c.value)) : std::string_view::npos;
    if (index != std::string_view::npos) {
      out += '\\';
      out += kNames[index];
    } else if (c.value < 0x20 || (ensure_ascii && c.value > 0x7E && c.value < 0x10000)) {
      append_unicode_escape(c.value, out);
    } else if (ensure_ascii && c.value >= 0x10000) {
      append_unicode_escape(0xD800 + ((c.value - 0x10000) >> 10), out);
      append_unicode_escape(0xDC00 + ((c.value - 0x10000) & 0x3FF), out);
    } else {
      out += text.substr(at, c.n_bytes);
    }
    at += c.n_bytes;
  }
  out += '"';
}

class Writer {
 public:
  explicit Writer(const JsonStyle& style) : style_(style) {}
  std::string take() { return std::move(out_); }

  void write(const Value& value, int depth) {
    if (depth > 100) throw TemplateFailure{"tojson: nested too deeply"};
    if (value.is_none()) {
      out_ += "null";
    } else if (value.is_bool()) {
      out_ += value.boolean() ? "true" : "false";
    } else if (value.is_int()) {
      out_ += std::to_string(value.integer());
    } else if (value.is_float()) {
      write_float(value.number());
    } else if (const std::string* text = value.as_string()) {
      append_string(*text, style_.ensure_ascii, out_);
    } else if (const Dict* dict = value.as_dict()) {
      write_dict(*dict, depth);
    } else if (value.is_sequence(SequenceKind::kList) || value.is_sequence(SequenceKind::kTuple)) {
      write_list(value.as_sequence()->items, depth);
    } else {
      throw TemplateFailure{std::string("Object of type ") + value.type_name() + " is not JSON serializable"};
    }
  }

 private:
  void write_float(double value) {
    if (std::isnan(value)) {
      out_ += "NaN";
    } else if (std::isinf(value)) {
      out_ += value < 0 ? "-Infinity" : "Infinity";
    } else {
      out_ += float_text(value);
    }
  }

  void new_line(int depth) {
    if (!style_.is_indented) return;
    out_ += '\n';
    for (int i = 0; i < depth; ++i) out_ += style_.indent;
  }

  void write_list(const std::vector<Value>& items, int depth) {
    out_ += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(depth + 1);
      write(items[i], depth + 1);
    }
    if (!items.empty()) new_line(depth);
    out_ += ']';
  }

  static std::string key_text(const Value& key) {
    if (const std::string* text = key.as_string()) return *text;
    if (key.is_none()) return "null";
    if (key.is_bool()) return key.boolean() ? "true" : "false";
    if (key.is_number()) return to_repr(key);
    throw TemplateFailure{std::string("keys must be str, int, float, bool or None, not ") + key.type_name()};
  }

  void write_dict(const Dict& dict, int depth) {
    std::vector<std::pair<std::string, const Value*>> entries;
    for (const auto& [key, value] : dict.entries()) entries.emplace_back(key_text(key), &value);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    out_ += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(depth + 1);
      append_string(entries[i].first, style_.ensure_ascii, out_);
      out_ += style_.key_separator;
      write(*entries[i].second, depth + 1);
    }
    if (!entries.empty()) new_line(depth);
    out_ += '}';
  }

  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

Value parse_json(std::string_view text) {
  Builder builder;
  nlohmann::json::sax_parse(text, &builder);
  return builder.take();
}

std::string to_json(const Value& value, const JsonStyle& style) {
  Writer writer(style);
  writer.write(value, 0);
  return writer.take();
}

}  // namespace orcd::jinja
