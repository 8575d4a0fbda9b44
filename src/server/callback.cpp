#include "server/callback.h"

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/error.h"
#include "base/log.h"

namespace orcd::server {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

namespace {

constexpr std::chrono::seconds kLimit{10};

struct Url {
  std::string host, port = "80", target = "/";
};

// http://host[:port][/path]; throws std::invalid_argument for anything else.
Url parse_url(const std::string& text) {
  constexpr std::string_view kScheme = "http://";
  if (std::ranges::any_of(text, [](unsigned char c) { return c <= 0x20 || c >= 0x7f; }))
    throw std::invalid_argument("a character that an address does not have");
  if (!text.starts_with(kScheme)) throw std::invalid_argument("not an http:// address");
  Url url;
  const size_t slash = text.find('/', kScheme.size());
  std::string authority =
      text.substr(kScheme.size(), slash == text.npos ? text.npos : slash - kScheme.size());
  if (slash != text.npos) url.target = text.substr(slash);
  const size_t bracket = authority.find(']'), colon = authority.rfind(':');
  if (colon != authority.npos && (bracket == authority.npos || colon > bracket)) {
    url.port = authority.substr(colon + 1);
    authority.resize(colon);
  }
  if (authority.starts_with('[') && authority.ends_with(']'))
    authority = authority.substr(1, authority.size() - 2);
  if (authority.empty()) throw std::invalid_argument("no host or port");
  uint16_t port = 0;
  const char* end = url.port.data() + url.port.size();
  if (const auto [at, error] = std::from_chars(url.port.data(), end, port);
      error != std::errc() || at != end || port == 0) {
    throw std::invalid_argument("no host or port");
  }
  url.host = authority;
  return url;
}

// Runs what was started until it is over; asynchronous inside, so that every step obeys the time limit and
// `stop`, which stops `io`.
void run_to_end(asio::io_context& io, const std::stop_token& stop) {
  io.restart();
  if (!stop.stop_requested()) io.run();
  if (stop.stop_requested()) throw std::runtime_error("the worker is ending");
}

int post(const Url& url, const std::string& body, const std::stop_token& stop) {
  asio::io_context io;
  const std::stop_callback ends_it(stop, [&io] { io.stop(); });
  beast::error_code failed;
  beast::tcp_stream stream(io);
  const auto endpoints = asio::ip::tcp::resolver(io).resolve(url.host, url.port);
  stream.expires_after(kLimit);
  stream.async_connect(endpoints,
                       [&](beast::error_code error, const asio::ip::tcp::endpoint&) { failed = error; });
  run_to_end(io, stop);
  if (failed) throw beast::system_error(failed);
  http::request<http::string_body> request(http::verb::post, url.target, 11);
  request.set(http::field::host, host_field(url.host, url.port));
  request.set(http::field::content_type, "application/json");
  request.set(http::field::connection, "close");
  request.body() = body;
  request.prepare_payload();
  http::async_write(stream, request, [&](beast::error_code error, size_t) { failed = error; });
  run_to_end(io, stop);
  if (failed) throw beast::system_error(failed);
  beast::flat_buffer buffer;
  http::response<http::string_body> response;
  http::async_read(stream, buffer, response, [&](beast::error_code error, size_t) { failed = error; });
  run_to_end(io, stop);
  if (failed) throw beast::system_error(failed);
  return response.result_int();
}

}  // namespace

void check_callback_url(const std::string& url) {
  try {
    parse_url(url);
  } catch (const std::invalid_argument& error) {
    throw Error(ErrorCode::kInvalidRequest, "--callback-url cannot be told",
                {{"callback_url", url}, {"reason", std::string(error.what())}},
                "give http://HOST[:PORT][/PATH]");
  }
}

std::string host_field(const std::string& host, const std::string& port) {
  const bool is_v6 = host.find(':') != std::string::npos;
  std::string field = is_v6 ? "[" : "";
  field.append(host).append(is_v6 ? "]:" : ":").append(port);
  return field;
}

bool post_ready(const std::string& url, const ReadyNotice& notice, const std::stop_token& stop) {
  const nlohmann::ordered_json body = {{"worker_id", notice.worker_id},
                                       {"model", notice.model},
                                       {"vram_bytes", notice.vram_bytes},
                                       {"uri", notice.uri}};
  std::string reason;
  try {
    const int status = post(parse_url(url), body.dump(), stop);
    if (status >= 200 && status < 300) return true;
    reason = "status " + std::to_string(status);
  } catch (const beast::system_error& error) {  // its what() names a line of Boost's sources
    reason = error.code().message();
  } catch (const std::exception& error) {
    reason = error.what();
  }
  log_event(
      LogLevel::kWarn, "error",
      {{"message", std::string("the callback did not take the ready notice; the worker serves all the same")},
       {"callback_url", url},
       {"reason", reason}});
  return false;
}

}  // namespace orcd::server
