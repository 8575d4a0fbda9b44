// The HTTP/1.1 server: sockets, limits and timeouts. What is answered is the router's affair.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "server/router.h"

namespace orcd::server {

struct HttpOptions {
  std::string host = "127.0.0.1";  // a literal address, or "localhost"
  uint16_t port = 0;               // 0 = the system picks
  uint32_t max_header_bytes = 16 * 1024;
  uint64_t max_body_bytes = 4 * 1024 * 1024;
  // One more closes the one that has waited longest for its client; it is closed itself if every one is being
  // answered.
  uint32_t max_connections = 1024;
  // From a connection, or the first byte of a later request, to the end of the header, however slowly it
  // comes.
  std::chrono::milliseconds header_timeout{30'000};
  std::chrono::milliseconds body_timeout{60'000};
  std::chrono::milliseconds idle_timeout{75'000};   // between two requests of a connection
  std::chrono::milliseconds write_timeout{30'000};  // one write that makes no progress
  std::chrono::milliseconds keep_alive_interval{
      15'000};  // a comment goes into a stream that is silent for so long
};

bool is_loopback_address(const std::string& host);

class HttpServer {
 public:
  // Binds and listens; requests are answered from start() on. Throws INVALID_REQUEST if the address cannot be
  // had.
  HttpServer(HttpOptions options, std::shared_ptr<const Router> router);
  ~HttpServer();  // stop()

  void start();
  uint16_t port() const;
  uint32_t in_flight() const;  // requests read and not yet answered to the last byte
  // Waits until nothing is in flight; false if time ran out first.
  bool wait_idle(std::chrono::milliseconds timeout) const;
  // Closes everything and joins the threads. Idempotent. Not from a handler.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orcd::server
