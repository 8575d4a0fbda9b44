// Reads the fields of a JSON object and collects everything that is wrong with them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/request_limits.h"
#include "server/error_reply.h"

namespace orcd::server {

inline constexpr size_t kMaxProblems = 32;

// What OpenAI's API calls a problem.
inline constexpr const char* kMissing = "missing_required_parameter";
inline constexpr const char* kInvalidType = "invalid_type";
inline constexpr const char* kUnsupported = "unsupported_parameter";
inline constexpr const char* kUnknown = "unknown_parameter";

// A name from outside, as an answer quotes it: 64 bytes at most and whole characters.
inline std::string clipped(std::string name) {
  constexpr size_t kMaxNameBytes = 64;
  if (name.size() <= kMaxNameBytes) return name;
  size_t n = kMaxNameBytes;
  while (n > 0 && (name[n] & 0xC0) == 0x80) --n;
  return name.substr(0, n) + "...";
}

// Takes fields out of an object by name and collects what is wrong with them.
class Fields {
 public:
  // null_is_absent: a null counts as if the field were not there, as OpenAI's API has it.
  explicit Fields(const nlohmann::json& body, bool null_is_absent = false)
      : body_(body), null_is_absent_(null_is_absent) {
    if (!body.is_object()) throw InvalidRequest("", "the body must be a JSON object");
  }

  const std::string* text(const char* name) {
    const nlohmann::json* value = take(name);
    if (!value) return problem(name, "is required", kMissing), nullptr;
    if (!value->is_string())
      return problem(name, "must be a string, not " + kind(*value), kInvalidType), nullptr;
    return &value->get_ref<const std::string&>();
  }

  uint64_t integer(const char* name, uint64_t low, uint64_t high, uint64_t otherwise) {
    const nlohmann::json* value = take(name);
    if (!value) return otherwise;
    if (!value->is_number_integer()) {
      problem(name, "must be an integer, not " + kind(*value), kInvalidType);
    } else if (is_negative(*value) || value->get<uint64_t>() < low || value->get<uint64_t>() > high) {
      problem(name, "must be between " + std::to_string(low) + " and " + std::to_string(high) + ", got " +
                        value->dump());
    } else {
      return value->get<uint64_t>();
    }
    return otherwise;
  }

  float number(const char* name, engine::Range range, double otherwise) {
    const nlohmann::json* value = take(name);
    if (!value) return static_cast<float>(otherwise);
    if (!value->is_number()) {
      problem(name, "must be a number, not " + kind(*value), kInvalidType);
    } else if (const double number = value->get<double>(); !(number >= range.low && number <= range.high)) {
      problem(name, "must be between " + number_text(range.low) + " and " + number_text(range.high) +
                        ", got " + number_text(number));
    } else {
      return static_cast<float>(number);
    }
    return static_cast<float>(otherwise);
  }

  bool flag(const char* name, bool otherwise) {
    const nlohmann::json* value = take(name);
    if (!value) return otherwise;
    if (value->is_boolean()) return value->get<bool>();
    problem(name, "must be true or false, not " + kind(*value), kInvalidType);
    return otherwise;
  }

  const nlohmann::json* take(const char* name) {
    known_.emplace_back(name);
    const auto found = body_.find(name);
    return found == body_.end() || (null_is_absent_ && found->is_null()) ? nullptr : &*found;
  }

  // The first kMaxProblems are told one by one, of the rest the number: a small body cannot ask for a large
  // reply.
  void problem(std::string name, std::string message, std::string openai_code = {}) {
    if (problems_.size() == kMaxProblems) {
      ++n_untold_;
    } else {
      problems_.push_back({clipped(std::move(name)), std::move(message), std::move(openai_code)});
    }
  }

  // Refuses fields that nobody took; throws if there was any problem.
  void finish() {
    for (const auto& [name, value] : body_.items())
      if (!(null_is_absent_ && value.is_null()) && std::ranges::find(known_, name) == known_.end())
        problem(name, "is not a field of this request", kUnknown);
    if (n_untold_) problems_.push_back({"", "and " + std::to_string(n_untold_) + " more problems"});
    if (!problems_.empty()) throw InvalidRequest(std::move(problems_));
  }

  static std::string kind(const nlohmann::json& value) {
    if (value.is_null()) return "null (leave the field out for its default)";
    if (value.is_number_float()) return "a number with a fraction, an exponent or more than 64 bits";
    return value.is_array()    ? "an array"
           : value.is_object() ? "an object"
                               : std::string("a ") + value.type_name();
  }

 private:
  // "-0" has a sign for the parser and is zero all the same.
  static bool is_negative(const nlohmann::json& integer) {
    return !integer.is_number_unsigned() && integer.get<int64_t>() < 0;
  }

  static std::string number_text(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", value);
    return text;
  }

  const nlohmann::json& body_;
  bool null_is_absent_;
  std::vector<std::string> known_;
  std::vector<Problem> problems_;
  size_t n_untold_ = 0;
};

}  // namespace orcd::server
