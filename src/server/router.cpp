#include "server/router.h"

#include <algorithm>
#include <boost/asio/ip/address_v4.hpp>

#include "base/error.h"
#include "base/sha256.h"
#include "server/error_reply.h"

namespace orcd::server {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

// "localhost:8080" -> "localhost", "[::1]:80" -> "[::1]"; what does not end in a port stays whole.
std::string_view host_name(std::string_view host) {
  const size_t colon = host.rfind(':');
  if (colon == host.npos) return host;
  const bool is_port =
      std::ranges::all_of(host.substr(colon + 1), [](char c) { return c >= '0' && c <= '9'; });
  return is_port ? host.substr(0, colon) : host;
}

// Both are digests of the same length, so the time says nothing about the key.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned char difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

Reply forbidden(std::string message, std::string hint) {
  return error_reply(Error(ErrorCode::kUnauthorized, std::move(message), {}, std::move(hint)), 403);
}

// A compressed body would be read as broken JSON.
std::optional<Reply> refuse_coding(const HttpRequest& request) {
  const std::string coding = lower(request.header("content-encoding"));
  if (coding.empty() || coding == "identity") return std::nullopt;
  Reply reply = error_reply(Error(ErrorCode::kInvalidRequest, "bodies with a content coding are not taken",
                                  {}, "send the body as it is, without Content-Encoding"),
                            415);
  reply.headers.emplace_back("Accept-Encoding", "identity");  // RFC 9110, 15.5.16
  return reply;
}

}  // namespace

bool is_loopback_host(std::string_view host_header) {
  const std::string name = lower(host_name(host_header));
  if (name == "localhost" || name == "[::1]") return true;
  boost::system::error_code error;  // 127.0.0.0/8, as an address: no name of somebody else's can be one
  const auto address = boost::asio::ip::make_address_v4(name, error);
  return !error && address.is_loopback();
}

bool Route::answers(std::string_view asked) const {
  return has_rest ? asked.size() > path.size() && asked.starts_with(path) : asked == path;
}

Router::Router(AccessRules rules) : rules_(std::move(rules)) {
  for (const std::string& key : rules_.api_keys) key_digests_.push_back(sha256_hex(key));
}

void Router::add(Route route) { routes_.push_back(std::move(route)); }

std::optional<Reply> Router::refuse_host(const HttpRequest& request) const {
  if (request.count("host") > 1) {
    return error_reply(
        Error(ErrorCode::kInvalidRequest, "more than one Host header", {{"param", std::string("host")}}));
  }
  // HTTP/1.0 needs none, and no browser speaks it: a page of another site always says a Host.
  if (request.count("host") == 0) return std::nullopt;
  if (!rules_.loopback_only || is_loopback_host(request.header("host"))) return std::nullopt;
  return forbidden(
      "this worker listens on a loopback address and answers to localhost, 127.x.y.z and [::1] only",
      "ask with one of these as Host, or start the worker with --host");
}

// A page of another site may send a simple POST without asking first; its Origin gives it away.
bool Router::origin_allowed(const HttpRequest& request) const {
  const std::string_view origin = request.header("origin");
  if (origin.empty() || rules_.cors_origin == "*" || origin == rules_.cors_origin) return true;
  const size_t scheme = origin.find("://");
  return scheme != origin.npos && lower(origin.substr(scheme + 3)) == lower(request.header("host"));
}

bool Router::key_matches(const HttpRequest& request) const {
  if (key_digests_.empty()) return true;
  const std::string_view value = request.header("authorization");
  const size_t blank = value.find(' ');
  if (blank == value.npos || lower(value.substr(0, blank)) != "bearer") return false;
  std::string_view key = value.substr(blank + 1);
  while (key.starts_with(' ')) key.remove_prefix(1);
  const std::string digest = sha256_hex(key);
  bool matches = false;
  for (const std::string& known : key_digests_) matches |= equal_in_constant_time(known, digest);
  return matches;
}

std::string Router::methods_of(std::string_view path) const {
  std::string methods;
  for (const Route& route : routes_) {
    if (!route.answers(path)) continue;
    methods += route.method + ", ";
    if (route.method == "GET") methods += "HEAD, ";
  }
  return methods.empty() ? methods : methods + "OPTIONS";
}

Router::Choice Router::choose(const HttpRequest& request) const {
  if (auto refusal = refuse_host(request)) return {nullptr, std::move(*refusal)};
  if (!origin_allowed(request)) {
    return {nullptr, forbidden("requests from pages of this origin are not allowed",
                               "start the worker with --cors-origin")};
  }
  const std::string methods = methods_of(request.path);
  if (request.method == "OPTIONS" && (!methods.empty() || request.path == "*")) {
    Reply reply;
    reply.status = 204;
    reply.headers.emplace_back("Allow", methods.empty() ? "GET, HEAD, POST, OPTIONS" : methods);
    return {nullptr, std::move(reply)};
  }
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  const auto route = std::ranges::find_if(
      routes_, [&](const Route& r) { return r.answers(request.path) && r.method == method; });
  const bool open =
      std::ranges::any_of(routes_, [&](const Route& r) { return r.answers(request.path) && r.open; });
  if (!open && !key_matches(request)) {
    Reply reply = error_reply(Error(ErrorCode::kUnauthorized, "a valid API key is required", {},
                                    "send it as Authorization: Bearer KEY"));
    reply.headers.emplace_back("WWW-Authenticate", "Bearer");
    return {nullptr, std::move(reply)};
  }
  if (methods.empty()) {
    return {nullptr, error_reply(Error(ErrorCode::kNotFound, "there is nothing at this path",
                                       {{"path", request.path.substr(0, 256)}}))};
  }
  if (route == routes_.end()) {
    Reply reply = error_reply(Error(ErrorCode::kMethodNotAllowed,
                                    "this path does not take " + request.method.substr(0, 32),
                                    {{"path", request.path}}, "it takes " + methods));
    reply.headers.emplace_back("Allow", methods);
    return {nullptr, std::move(reply)};
  }
  if (auto refusal = refuse_coding(request)) return {nullptr, std::move(*refusal)};
  return {&*route, {}};
}

void Router::decorate(const HttpRequest& request, Reply* reply) const {
  if (rules_.cors_origin.empty()) return;
  const std::string_view origin = request.header("origin");
  if (rules_.cors_origin != "*") reply->headers.emplace_back("Vary", "Origin");
  if (origin.empty() || (rules_.cors_origin != "*" && origin != rules_.cors_origin)) return;
  reply->headers.emplace_back("Access-Control-Allow-Origin", rules_.cors_origin);
  reply->headers.emplace_back("Access-Control-Expose-Headers", "x-request-id");
  if (request.method != "OPTIONS") return;
  reply->headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
  // Whatever the page's client sends, such as the x-stainless-* of OpenAI's: "*" would not cover a key.
  const std::string_view asked = request.header("access-control-request-headers");
  reply->headers.emplace_back(
      "Access-Control-Allow-Headers",
      asked.empty() ? "authorization, content-type, x-request-id" : std::string(asked));
  reply->headers.emplace_back("Access-Control-Max-Age", "600");
}

}  // namespace orcd::server
