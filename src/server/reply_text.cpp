#include "server/reply_text.h"

#include <algorithm>
#include <ctime>
#include <random>

#include <boost/beast/http/status.hpp>

#include "base/sha256.h"

namespace orcd::server {
namespace {

std::string_view reason(int status) {
  if (status == 499) return "Client Closed Request";
  const auto text =
      boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(static_cast<unsigned>(status)));
  return {text.data(), text.size()};
}

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[40];
  std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return text;
}

}  // namespace

std::string reply_head(const Reply& reply, const HeadOptions& options) {
  std::string text = "HTTP/1.1 " + std::to_string(reply.status) + " ";
  text.append(reason(reply.status))
      .append("\r\nDate: ")
      .append(http_date())
      .append("\r\nServer: worker-orcd\r\n");
  const auto add = [&](std::string_view name, std::string_view value) {
    text.append(name).append(": ").append(value).append("\r\n");
  };
  if (reply.status != 204) add("Content-Type", reply.content_type);
  if (options.chunked) {
    add("Transfer-Encoding", "chunked");
  } else if (!options.stream && reply.status != 204) {
    add("Content-Length", std::to_string(reply.body.size()));
  }
  if (!options.keep_alive) {
    add("Connection", "close");
  } else if (options.http_1_0) {
    add("Connection", "keep-alive");
  }
  add("x-request-id", options.request_id);
  add("X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : reply.headers) add(name, value);
  return text + "\r\n";
}

std::string make_request_id(std::string_view given) {
  const bool usable = !given.empty() && given.size() <= 128 &&
                      std::ranges::all_of(given, [](char c) { return c > ' ' && c < 0x7f; });
  if (usable) return std::string(given);
  thread_local std::mt19937_64 random{std::random_device{}()};
  const uint64_t words[2] = {random(), random()};
  return to_hex({reinterpret_cast<const uint8_t*>(words), sizeof words});
}

}  // namespace orcd::server
