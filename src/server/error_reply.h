// Errors as JSON replies: {error:{code, message, type, param, hint, retriable, problems, ...values}}. `type`
// is the kind of error as OpenAI's clients know it.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "server/http.h"

namespace orcd::server {

struct Problem {
  std::string param;
  std::string message;
  std::string openai_code = {};  // where OpenAI's API has a name for it, else ""
};

// INVALID_REQUEST with everything that is wrong with a body, not only the first thing.
class InvalidRequest : public Error {
 public:
  // REQUIRES at least one problem.
  explicit InvalidRequest(std::vector<Problem> problems);
  InvalidRequest(std::string param, std::string message);
  const std::vector<Problem>& problems() const { return problems_; }

 private:
  std::vector<Problem> problems_;
};

// A worker that is loading is not busy: its OVERLOADED is 503, as the field's servers say.
class StillLoading : public Error {
 public:
  StillLoading();
};

// `status` 0 takes the code's own. A value named "param" becomes error.param; the others stand beside it.
Reply error_reply(const Error& error, int status = 0);

// The same for OpenAI's clients: where their API has a code that programs ask for (context_length_exceeded,
// model_not_found, unsupported_parameter, ...), it takes the place of ours.
Reply openai_error_reply(const Error& error, int status = 0);
// {error:{...}} of such a reply, one line of JSON: an event in the middle of a stream.
std::string openai_error_json(const Error& error);

// The data of an `error` event of a stream, one line of JSON: {code, message, hint, retriable, ...values}.
std::string error_event_json(const Error& error);

}  // namespace orcd::server
