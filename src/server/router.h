// Which handler answers which method and path, who may ask, and what is said to everybody else.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http.h"

namespace orcd::server {

// Where a handler runs. kIo: at once, on the io thread, so it must not wait. kPrepare: tokenising and the
// like. kSlow: may wait for the engine.
enum class RunOn { kIo, kPrepare, kSlow };

using Handler = std::function<Reply(const HttpRequest&)>;

struct Route {
  std::string method, path;
  Handler handler;
  RunOn run_on = RunOn::kIo;
  bool open = false;      // answered without an API key
  bool has_rest = false;  // `path` ends in /, and something that the handler reads follows

  bool answers(std::string_view asked) const;
};

struct AccessRules {
  bool loopback_only = true;          // bound to a loopback address: Host must name one (DNS rebinding)
  std::vector<std::string> api_keys;  // none = no key asked
  std::string cors_origin;            // "" = no CORS headers, "*" or one origin
};

// Immutable after the last add(), so safe to share between threads.
class Router {
 public:
  explicit Router(AccessRules rules);
  void add(Route route);

  struct Choice {
    const Route* route = nullptr;  // or the reply that is given without one
    Reply reply;
  };
  // HEAD is answered by GET's handler. Order of refusals: Host, Origin, preflight, key, path, method.
  Choice choose(const HttpRequest& request) const;
  // Headers that every reply to this request carries (CORS).
  void decorate(const HttpRequest& request, Reply* reply) const;

 private:
  std::optional<Reply> refuse_host(const HttpRequest& request) const;
  bool origin_allowed(const HttpRequest& request) const;
  bool key_matches(const HttpRequest& request) const;
  std::string methods_of(std::string_view path) const;  // "GET, HEAD, OPTIONS", "" for an unknown path

  AccessRules rules_;
  std::vector<std::string> key_digests_;
  std::vector<Route> routes_;
};

bool is_loopback_host(std::string_view host_header);

}  // namespace orcd::server
