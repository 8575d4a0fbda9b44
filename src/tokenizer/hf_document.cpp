#include "tokenizer/hf_document.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace orcd::tokenizer::hf {
namespace {

constexpr int kMaxSequenceDepth = 16;

void add_parts(const Json& value, const char* list, const std::string& path, int depth,
               std::vector<Part>& parts) {
  if (depth > kMaxSequenceDepth) refuse(list, "sequences nest too deeply");
  if (value.is_null()) return;
  if (!value.is_object()) refuse(path, "must be an object or null");
  std::string type = type_of(value, path);
  if (type != "Sequence") {
    parts.push_back({&value, std::move(type), path});
    return;
  }
  const Json& items = member(value, list);
  if (!items.is_array()) refuse(path + "." + list, "must be an array");
  for (size_t i = 0; i < items.size(); ++i)
    add_parts(items[i], list, path + "." + list + "[" + std::to_string(i) + "]", depth + 1, parts);
}

// Text that an expression matches as it is.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

void refuse(const std::string& field, const std::string& message) {
  throw Error(ErrorCode::kModelLoadFailed, "tokenizer.json: " + message, {{"field", field}},
              "leave --tokenizer out to use the vocabulary of the model's own file");
}

Json parse(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw Error(ErrorCode::kModelLoadFailed, "tokenizer.json is not JSON: " + std::string(error.what()),
                {{"byte", uint64_t{error.byte}}});
  } catch (const Json::exception& error) {  // a number outside the range of binary64
    throw Error(ErrorCode::kModelLoadFailed, "tokenizer.json cannot be read: " + std::string(error.what()));
  }
}

const Json& member(const Json& object, const char* name) {
  static const Json kNull;
  const auto found = object.find(name);
  return found == object.end() ? kNull : *found;
}

bool flag(const Json& object, const char* name, const std::string& path, bool missing) {
  const Json& value = member(object, name);
  if (value.is_null()) return missing;
  if (!value.is_boolean()) refuse(path + "." + name, "must be true or false");
  return value.get<bool>();
}

std::string text(const Json& object, const char* name, const std::string& path) {
  const Json& value = member(object, name);
  if (!value.is_string()) refuse(path + "." + name, "must be a string");
  return value.get<std::string>();
}

std::string text(const Json& object, const char* name, const std::string& path, const std::string& missing) {
  return member(object, name).is_null() ? missing : text(object, name, path);
}

std::string type_of(const Json& part, const std::string& path) { return text(part, "type", path); }

std::vector<Part> parts_of(const Json& value, const char* list, const std::string& path) {
  std::vector<Part> parts;
  add_parts(value, list, path, 0, parts);
  return parts;
}

std::string pattern_of(const Json& part, const std::string& path) {
  const Json& pattern = member(part, "pattern");
  if (pattern.is_object() && member(pattern, "Regex").is_string())
    return member(pattern, "Regex").get<std::string>();
  if (!pattern.is_object() || !member(pattern, "String").is_string() ||
      member(pattern, "String").get_ref<const std::string&>().empty())
    refuse(path + ".pattern", "must be {\"Regex\": ..} or {\"String\": ..}");
  return escaped(member(pattern, "String").get<std::string>());
}

}  // namespace orcd::tokenizer::hf
