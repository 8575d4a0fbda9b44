// Reading a tokenizer.json: fields with their paths, refusals that name them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace orcd::tokenizer::hf {

using Json = nlohmann::json;

// Throws Error(kModelLoadFailed) with `field`, a path such as "pre_tokenizer.pretokenizers[1].behavior".
[[noreturn]] void refuse(const std::string& field, const std::string& message);

Json parse(std::string_view text);                         // throws Error(kModelLoadFailed)
const Json& member(const Json& object, const char* name);  // null where there is none
// A missing or null field is `missing`; another type is refused.
bool flag(const Json& object, const char* name, const std::string& path, bool missing);
std::string text(const Json& object, const char* name, const std::string& path);  // must be a string
std::string text(const Json& object, const char* name, const std::string& path, const std::string& missing);
std::string type_of(const Json& part, const std::string& path);

// One step of a normalizer, pre-tokenizer, post-processor or decoder.
struct Part {
  const Json* json;
  std::string type, path;
};
// The parts of a Sequence, whose list is called `list`, or the one part, or none for null.
std::vector<Part> parts_of(const Json& value, const char* list, const std::string& path);

// {"Regex": ..} as it is, {"String": ..} as an expression that matches it.
std::string pattern_of(const Json& part, const std::string& path);

}  // namespace orcd::tokenizer::hf
