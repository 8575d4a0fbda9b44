// One connection: reads requests one after the other, answers each, streams bodies without ever buffering
// more than one write, and notices when the client leaves.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <memory>
#include <optional>
#include <string>

#include "server/connections.h"
#include "server/http.h"
#include "server/http_server.h"
#include "server/request_parser.h"
#include "server/router.h"

namespace orcd::server {

// What all connections of a server share. Outlives them.
struct ConnectionShared {
  HttpOptions options;
  std::shared_ptr<const Router> router;
  Connections connections;
  std::atomic<uint32_t> in_flight = 0;
  std::atomic<uint64_t> n_waits = 0;  // gives each wait its place in line
  boost::asio::thread_pool prepare_pool{1}, slow_pool{1};
};

// Everything but notify() and what it is as a LineMember runs on the socket's strand.
class Connection final : public LineMember {
 public:
  Connection(boost::asio::ip::tcp::socket socket, ConnectionShared* shared);
  ~Connection();
  void run();

  uint64_t place() const override { return place_; }
  void leave_line() override { place_ = kNotWaiting; }
  void make_room() override;
  void close() override { drop(); }

 private:
  using SocketError = boost::system::error_code;

  // `handle(self, result...)` as a completion handler that holds the connection. What it throws, which is
  // want of memory, ends this connection and no other.
  template <typename Handle>
  auto held(Handle handle) {
    return [self = shared_self(), handle = std::move(handle)](auto... result) {
      try {
        handle(*self, result...);
      } catch (const std::exception& error) {
        self->fail(error);
      }
    };
  }
  void fail(const std::exception& error);
  std::shared_ptr<Connection> shared_self() {
    return std::static_pointer_cast<Connection>(shared_from_this());
  }
  std::weak_ptr<Connection> weak_self() { return shared_self(); }

  void read_request();
  void read_header();
  void on_header(SocketError error);
  void read_body();
  void on_request(SocketError error);
  void refuse_unreadable(SocketError error);
  void dispatch();
  void call(const Handler& handler, RunOn run_on);
  void answer(Reply reply);
  void after_reply();
  void linger();
  void discard();

  void wait_for(std::unique_ptr<PendingReply> pending);
  void answer_pending(Reply reply);
  void probe();  // bytes that mean nothing, to find out whether a half-closed client still reads
  void start_stream(Reply reply);
  void notify() noexcept;  // any thread
  void pump();
  void write_piece(std::string text, bool last);
  void write_raw(std::string text, bool last);
  void end_stream();
  void watch_client();  // reads while the work goes on: sees the client leave, keeps pipelined requests
  void stream_timer();
  void drop();  // the client is gone

  std::string head(const Reply& reply, bool stream) const;
  void set_deadline(std::chrono::milliseconds limit);
  void clear_deadline();
  void leave_flight();
  void stand_in_line(uint64_t first_place);

  boost::asio::ip::tcp::socket socket_;
  ConnectionShared* shared_;
  boost::asio::steady_timer deadline_, silence_;
  boost::beast::flat_buffer buffer_;
  std::optional<RequestParser> parser_;
  HttpRequest request_;
  bool keep_alive_ = false, chunked_ = true, in_flight_ = false, first_request_ = true;
  std::string out_;

  bool busy() const { return stream_ || pending_; }

  std::unique_ptr<StreamSource> stream_;
  std::atomic<uint64_t> place_ = kNotWaiting;
  std::unique_ptr<PendingReply> pending_;
  std::atomic<bool> notified_ = false;
  std::atomic<bool> notice_lost_ = false;  // notify() found no memory: stream_timer() sees to it
  std::chrono::steady_clock::time_point last_write_;
  bool writing_ = false, watching_ = false, stream_over_ = false, half_closed_ = false;
  bool input_ended_ = false;  // a read took the end of what the client sends: no later one sees it again
  uint64_t discarded_bytes_ = 0;
};

}  // namespace orcd::server
