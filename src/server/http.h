// HTTP requests and replies as the handlers see them: plain values, no socket and no parser in sight.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace orcd::server {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET", "POST", ...
  std::string path;    // without the query
  std::string query;
  Headers headers;
  std::string body;
  std::string request_id;  // from x-request-id, or made here

  // First header of this name, compared without case; "" if absent.
  std::string_view header(std::string_view name) const;
  size_t count(std::string_view name) const;
};

// %41 -> A; what is no such escape stays as it is.
std::string percent_decoded(std::string_view text);

// A body that comes piece by piece. One reader; next() never blocks. Dropping the source ends the work behind
// it.
class StreamSource {
 public:
  virtual ~StreamSource() = default;
  // Appends what is ready, about max_bytes at most. False when nothing will follow.
  virtual bool next(std::string* out, size_t max_bytes) = 0;
  // Called from any thread whenever next() may have more; also at once if it already has.
  virtual void on_ready(std::function<void()> notify) = 0;
};

struct Reply;

// An answer that is whole only later, status included. One reader; take() never blocks. Dropping it ends the
// work behind it.
class PendingReply {
 public:
  virtual ~PendingReply() = default;
  // The answer, once; nothing while it is not there yet.
  virtual std::optional<Reply> take() = 0;
  // As StreamSource::on_ready.
  virtual void on_ready(std::function<void()> notify) = 0;
};

struct Reply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  Headers headers;
  std::unique_ptr<StreamSource> stream;   // replaces body
  std::unique_ptr<PendingReply> pending;  // replaces all of it
};

}  // namespace orcd::server
