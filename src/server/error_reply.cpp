#include "server/error_reply.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "server/json_text.h"

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

const char* error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 499:
      return "cancelled_error";
    case 503:
      return "service_unavailable_error";
    case 504:
      return "timeout_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

// "" where OpenAI's API has no name for it.
std::string openai_code(const Error& error) {
  if (const auto* invalid = dynamic_cast<const InvalidRequest*>(&error))
    return invalid->problems().front().openai_code;
  const auto has = [&](const char* name) {
    return std::ranges::any_of(error.values(), [&](const auto& value) { return value.first == name; });
  };
  if (error.code() == ErrorCode::kInvalidRequest && has("n_prompt_tokens")) return "context_length_exceeded";
  if (error.code() == ErrorCode::kNotFound && has("model")) return "model_not_found";
  return {};
}

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

StillLoading::StillLoading()
    : Error(ErrorCode::kOverloaded, "the model is still loading", {}, "ask again when /readyz says 200") {}

namespace {

int status_of(const Error& error) {
  return dynamic_cast<const StillLoading*>(&error) ? 503 : error_http_status(error.code());
}

Json reply_json(const Error& error, int status) {
  Json fields = error_fields(error);
  fields["type"] = error_type(status);
  if (const auto* invalid = dynamic_cast<const InvalidRequest*>(&error)) {
    Json problems = Json::array();
    for (const Problem& problem : invalid->problems()) {
      Json param = problem.param.empty() ? Json(nullptr) : Json(problem.param);
      problems.push_back({{"param", std::move(param)}, {"message", problem.message}});
    }
    fields["problems"] = std::move(problems);
  }
  Json body;
  body["error"] = std::move(fields);
  return body;
}

Json openai_json(const Error& error, int status) {
  Json body = reply_json(error, status);
  if (std::string code = openai_code(error); !code.empty()) body["error"]["code"] = std::move(code);
  return body;
}

Reply reply_of(const Json& body, int status) {
  Reply reply;
  reply.status = status;
  reply.body = dump(body);
  if (reply.status == 429 || reply.status == 503) reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

}  // namespace

Reply error_reply(const Error& error, int status) {
  if (!status) status = status_of(error);
  return reply_of(reply_json(error, status), status);
}

Reply openai_error_reply(const Error& error, int status) {
  if (!status) status = status_of(error);
  return reply_of(openai_json(error, status), status);
}

std::string openai_error_json(const Error& error) {
  return dump(openai_json(error, error_http_status(error.code())));
}

std::string error_event_json(const Error& error) {
  Json fields = error_fields(error);
  if (fields["param"].is_null()) fields.erase("param");
  return dump(fields);
}

}  // namespace orcd::server
