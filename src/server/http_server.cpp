#include "server/http_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <thread>
#include <vector>

#include "base/log.h"
#include "server/connection.h"
#include "server/report_failure.h"

namespace orcd::server {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr int kIoThreads = 2;
constexpr int kSendBufferBytes = 64 * 1024;  // what may wait in the kernel for a client that does not read
constexpr std::chrono::milliseconds kAcceptPause{50};

asio::ip::address parse_address(const std::string& host) {
  std::string literal = host == "localhost" ? "127.0.0.1" : host;
  if (literal.starts_with('[') && literal.ends_with(']')) literal = literal.substr(1, literal.size() - 2);
  boost::system::error_code error;
  auto address = asio::ip::make_address(literal, error);
  if (error) {
    throw Error(ErrorCode::kInvalidRequest, "--host is not an address", {{"host", host}},
                "give an IPv4 or IPv6 address such as 127.0.0.1 or ::");
  }
  return address;
}

}  // namespace

bool is_loopback_address(const std::string& host) { return parse_address(host).is_loopback(); }

struct HttpServer::Impl {
  Impl(HttpOptions http_options, std::shared_ptr<const Router> router)
      : acceptor(asio::make_strand(io)), pause(acceptor.get_executor()) {
    shared.options = std::move(http_options);
    shared.router = std::move(router);
    const HttpOptions& options = shared.options;
    try {
      const tcp::endpoint endpoint(parse_address(options.host), options.port);
      acceptor.open(endpoint.protocol());
      acceptor.set_option(tcp::acceptor::reuse_address(true));
      acceptor.bind(endpoint);
      acceptor.listen(tcp::acceptor::max_listen_connections);
      port = acceptor.local_endpoint().port();
    } catch (const boost::system::system_error& error) {
      throw Error(
          ErrorCode::kInvalidRequest, "cannot listen on this address",
          {{"host", options.host}, {"port", uint64_t{options.port}}, {"reason", error.code().message()}},
          "choose another --port, or --port 0 for a free one");
    }
  }

  // Without memory nothing can be accepted; with a little more, in a moment, it can.
  void accept() {
    while (!io.stopped()) {
      try {
        acceptor.async_accept(asio::make_strand(io),
                              [this](boost::system::error_code error, tcp::socket socket) {
                                on_accept(error, std::move(socket));
                              });
        return;
      } catch (const std::exception& error) {
        report_failure("accept", error);
        std::this_thread::sleep_for(kAcceptPause);
      }
    }
  }

  void on_accept(boost::system::error_code error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (error) {  // out of descriptors, most likely: those in use go on, new ones wait
      log_event(LogLevel::kWarn, "error",
                {{"message", std::string("accept failed")}, {"reason", error.message()}});
      pause.expires_after(kAcceptPause);
      pause.async_wait([this](boost::system::error_code stopped) {
        if (!stopped) accept();
      });
      return;
    }
    try {
      serve(std::move(socket));
    } catch (const std::exception& failure) {
      report_failure("connection", failure);
    }
    accept();
  }

  void serve(tcp::socket socket) {
    if (shared.connections.size() >= shared.options.max_connections &&
        !shared.connections.close_longest_waiting()) {
      return;
    }
    boost::system::error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::send_buffer_size(kSendBufferBytes), ignored);
    std::make_shared<Connection>(std::move(socket), &shared)->run();
  }

  // What a connection throws ends it, since the handler that failed held it, and no other.
  void run() {
    while (true) {
      try {
        io.run();
        return;
      } catch (const std::exception& error) {
        report_failure("connection", error);
      }
    }
  }

  ConnectionShared shared;
  asio::io_context io{kIoThreads};
  tcp::acceptor acceptor;
  asio::steady_timer pause;
  std::vector<std::thread> threads;
  uint16_t port = 0;
};

HttpServer::HttpServer(HttpOptions options, std::shared_ptr<const Router> router)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(router))) {}

HttpServer::~HttpServer() { stop(); }

void HttpServer::start() {
  impl_->accept();
  for (int i = 0; i < kIoThreads; ++i) impl_->threads.emplace_back([this] { impl_->run(); });
}

uint16_t HttpServer::port() const { return impl_->port; }
uint32_t HttpServer::in_flight() const { return impl_->shared.in_flight; }

bool HttpServer::wait_idle(std::chrono::milliseconds timeout) const {
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (in_flight() > 0) {
    if (std::chrono::steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

void HttpServer::stop() {
  if (impl_->threads.empty()) return;
  impl_->shared.prepare_pool.join();
  impl_->shared.slow_pool.join();
  impl_->io.stop();
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->threads.clear();
  // Streams end here: what they wait for must not call a connection while `io` lets go of it.
  impl_->shared.connections.close_all();
}

}  // namespace orcd::server
