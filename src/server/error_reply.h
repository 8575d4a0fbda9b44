// Errors as JSON replies: {error:{code, message, param, hint, retriable, problems, ...values}}.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "server/http.h"

namespace orcd::server {

struct Problem {
  std::string param;
  std::string message;
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

// `status` 0 takes the code's own. A value named "param" becomes error.param; the others stand beside it.
Reply error_reply(const Error& error, int status = 0);

// The data of an `error` event of a stream, one line of JSON: {code, message, hint, retriable, ...values}.
std::string error_event_json(const Error& error);

}  // namespace orcd::server
