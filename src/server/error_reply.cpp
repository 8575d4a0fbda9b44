#include "server/error_reply.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <type_traits>

namespace orcd::server {
namespace {

using Json = nlohmann::ordered_json;

Json value_json(const ErrorValue& value) {
  return std::visit(
      [](const auto& v) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, double>) {
          if (!std::isfinite(v)) return std::to_string(v);
        }
        return v;
      },
      value);
}

Json error_fields(const Error& error) {
  Json fields = {{"code", error_code_name(error.code())},
                 {"message", error.message()},
                 {"param", nullptr},
                 {"hint", error.hint()},
                 {"retriable", error_retriable(error.code())}};
  for (const auto& [name, value] : error.values()) {
    if (!fields.contains(name) || name == "param") fields[name] = value_json(value);
  }
  return fields;
}

// A message may quote bytes that came from outside; what is not UTF-8 is shown as U+FFFD.
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string summary(const std::vector<Problem>& problems) {
  std::string text;
  for (const Problem& problem : problems) {
    if (!text.empty()) text += "; ";
    text += problem.param.empty() ? problem.message : problem.param + ": " + problem.message;
  }
  return text;
}

}  // namespace

InvalidRequest::InvalidRequest(std::vector<Problem> problems)
    : Error(ErrorCode::kInvalidRequest, summary(problems),
            problems.front().param.empty() ? ErrorValues{} : ErrorValues{{"param", problems.front().param}},
            problems.size() > 1 ? "every problem is listed under problems" : ""),
      problems_(std::move(problems)) {}

InvalidRequest::InvalidRequest(std::string param, std::string message)
    : InvalidRequest(std::vector<Problem>{{std::move(param), std::move(message)}}) {}

Reply error_reply(const Error& error, int status) {
  Json fields = error_fields(error);
  if (const auto* invalid = dynamic_cast<const InvalidRequest*>(&error)) {
    Json problems = Json::array();
    for (const Problem& problem : invalid->problems()) {
      Json param = problem.param.empty() ? Json(nullptr) : Json(problem.param);
      problems.push_back({{"param", std::move(param)}, {"message", problem.message}});
    }
    fields["problems"] = std::move(problems);
  }
  Reply reply;
  reply.status = status ? status : error_http_status(error.code());
  Json body;
  body["error"] = std::move(fields);
  reply.body = dump(body);
  if (reply.status == 429 || reply.status == 503) reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

std::string error_event_json(const Error& error) {
  Json fields = error_fields(error);
  if (fields["param"].is_null()) fields.erase("param");
  return dump(fields);
}

}  // namespace orcd::server
