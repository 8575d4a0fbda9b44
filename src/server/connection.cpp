#include "server/connection.h"

#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>
#include <cstdio>
#include <exception>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "server/error_reply.h"
#include "server/reply_text.h"
#include "server/report_failure.h"

namespace orcd::server {

namespace asio = boost::asio;
namespace http = boost::beast::http;

namespace {

constexpr size_t kPieceBytes = 16 * 1024;      // of a stream, per write
constexpr size_t kFirstBytes = 512;            // of a request: a buffer that 1,000 idle clients may hold
constexpr size_t kPipelinedBytes = 64 * 1024;  // kept while a stream runs
constexpr size_t kBufferBytes = 128 * 1024;    // a line of a chunked body that is longer has no business
constexpr uint64_t kIdleLine = 0, kRequestLine = uint64_t{1} << 63;  // where the places of a line begin
constexpr uint64_t kDiscardBytes = 64 << 20;  // read and dropped after a refusal, so that the reply is seen
constexpr std::chrono::milliseconds kLinger{2'000};
constexpr std::chrono::milliseconds kTimerInterval{1'000};  // at least so often a stream looks after itself
constexpr std::chrono::milliseconds kProbeInterval{
    20};  // writes that find out whether a half-closed client still reads

Reply guarded(const Handler& handler, const HttpRequest& request) {
  try {
    return handler(request);
  } catch (const Error& error) {
    return error_reply(error);
  } catch (const std::exception& error) {
    log_event(
        LogLevel::kError, "error",
        {{"code", std::string("INTERNAL")}, {"message", std::string(error.what())}, {"path", request.path}});
    return error_reply(
        Error(ErrorCode::kInternal, "the request failed inside the worker", {}, "see the worker's log"));
  }
}

}  // namespace

Connection::Connection(asio::ip::tcp::socket socket, ConnectionShared* shared)
    : socket_(std::move(socket)),
      shared_(shared),
      deadline_(socket_.get_executor()),
      silence_(socket_.get_executor()),
      buffer_(kBufferBytes) {
  shared_->connections.add(this);
}

Connection::~Connection() {
  stream_.reset();
  pending_.reset();
  leave_flight();
  shared_->connections.remove(this);
}

void Connection::run() {
  asio::post(socket_.get_executor(), held([](Connection& self) { self.read_request(); }));
}

void Connection::fail(const std::exception& error) {
  report_failure("connection", error);
  drop();
}

void Connection::stand_in_line(uint64_t first_place) { place_ = first_place + shared_->n_waits++; }

void Connection::make_room() {
  leave_line();
  asio::post(socket_.get_executor(), held([](Connection& self) {
               if (!self.in_flight_) self.drop();
             }));
}

void Connection::leave_flight() {
  if (in_flight_) --shared_->in_flight;
  in_flight_ = false;
}

void Connection::set_deadline(std::chrono::milliseconds limit) {
  deadline_.expires_after(limit);
  deadline_.async_wait([weak = weak_self()](SocketError error) {
    if (error) return;
    const auto self = weak.lock();
    // A wait that had already fired when the deadline was moved comes too late to count.
    if (self && self->deadline_.expiry() <= std::chrono::steady_clock::now()) self->drop();
  });
}

void Connection::clear_deadline() { deadline_.expires_at(std::chrono::steady_clock::time_point::max()); }

void Connection::drop() {
  leave_line();
  stream_over_ = true;
  stream_.reset();
  pending_.reset();
  leave_flight();
  silence_.cancel();
  deadline_.cancel();
  SocketError ignored;
  socket_.close(ignored);
}

// --- one request
// -----------------------------------------------------------------------------------------------

void Connection::read_request() {
  if (input_ended_ && buffer_.size() == 0) return drop();
  stand_in_line(buffer_.size() > 0 ? kRequestLine : kIdleLine);
  leave_flight();
  const bool first = std::exchange(first_request_, false);
  set_deadline(first || buffer_.size() > 0 ? shared_->options.header_timeout : shared_->options.idle_timeout);
  if (buffer_.size() > 0) return read_header();
  socket_.async_wait(asio::ip::tcp::socket::wait_read, held([first](Connection& self, SocketError error) {
                       if (error) return self.drop();
                       self.stand_in_line(kRequestLine);
                       if (!first) self.set_deadline(self.shared_->options.header_timeout);
                       self.read_header();
                     }));
}

// Empty lines before a request, as some clients send behind a body, say nothing (RFC 9112, 2.2).
void Connection::read_header() {
  constexpr std::string_view kEmptyLine = "\r\n";
  const auto begins_empty = [&] {
    return std::string_view(static_cast<const char*>(buffer_.data().data()), buffer_.size())
        .starts_with(kEmptyLine);
  };
  while (begins_empty()) buffer_.consume(kEmptyLine.size());
  if (buffer_.size() < kEmptyLine.size()) {
    socket_.async_read_some(buffer_.prepare(kFirstBytes),
                            held([](Connection& self, SocketError error, size_t n) {
                              if (error) return self.drop();
                              self.buffer_.commit(n);
                              self.read_header();
                            }));
    return;
  }
  parser_.emplace(shared_->options.max_header_bytes, shared_->options.max_body_bytes);
  http::async_read_header(socket_, buffer_, *parser_,
                          held([](Connection& self, SocketError error, size_t) { self.on_header(error); }));
}

void Connection::on_header(SocketError error) {
  if (error) return refuse_unreadable(error);
  if (parser_->expects_continue() && !parser_->is_done()) {
    out_ = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(socket_, asio::buffer(out_),
                      held([](Connection& self, SocketError write_error, size_t) {
                        write_error ? self.drop() : self.read_body();
                      }));
    return;
  }
  read_body();
}

void Connection::read_body() {
  set_deadline(shared_->options.body_timeout);
  http::async_read(socket_, buffer_, *parser_,
                   held([](Connection& self, SocketError error, size_t) { self.on_request(error); }));
}

void Connection::refuse_unreadable(SocketError error) {
  clear_deadline();
  if (error.category() != http::make_error_code(http::error::bad_method).category() ||
      error == http::error::end_of_stream || error == http::error::partial_message) {
    return drop();  // the socket failed or the client left: nobody to answer
  }
  // A header that was read to its end says whom to answer how; that a body is too long shows after it.
  const bool has_header = parser_->is_header_done() || error == http::error::body_limit;
  request_ = has_header ? parser_->take() : HttpRequest{};
  request_.request_id = make_request_id(request_.header("x-request-id"));
  keep_alive_ = false;
  Reply reply;
  if (error == http::error::body_limit) {
    reply = error_reply(Error(ErrorCode::kPayloadTooLarge, "the body is larger than this worker takes",
                              {{"limit_bytes", shared_->options.max_body_bytes}}));
  } else if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    reply = error_reply(Error(ErrorCode::kInvalidRequest, "the header is larger than this worker takes",
                              {{"limit_bytes", uint64_t{shared_->options.max_header_bytes}}}),
                        431);
  } else {
    reply = error_reply(Error(ErrorCode::kInvalidRequest, "not an HTTP/1.1 request: " + error.message()));
  }
  shared_->router->decorate(request_, &reply);
  answer(std::move(reply));
}

void Connection::on_request(SocketError error) {
  if (error) return refuse_unreadable(error);
  clear_deadline();
  leave_line();
  keep_alive_ = parser_->keep_alive();
  chunked_ = parser_->is_http_1_1();
  request_ = parser_->take();
  parser_.reset();
  request_.request_id = make_request_id(request_.header("x-request-id"));
  ++shared_->in_flight;
  in_flight_ = true;
  dispatch();
}

void Connection::dispatch() {
  if (chunked_ && request_.count("host") == 0) {
    keep_alive_ = false;
    return answer(error_reply(Error(ErrorCode::kInvalidRequest, "an HTTP/1.1 request needs a Host header",
                                    {{"param", std::string("host")}})));
  }
  Router::Choice choice = shared_->router->choose(request_);
  if (!choice.route) {
    shared_->router->decorate(request_, &choice.reply);
    return answer(std::move(choice.reply));
  }
  call(choice.route->handler, choice.route->run_on);
}

void Connection::call(const Handler& handler, RunOn run_on) {
  const auto work = [self = shared_self(), &handler] {
    Reply reply = guarded(handler, self->request_);
    self->shared_->router->decorate(self->request_, &reply);
    return reply;
  };
  if (run_on == RunOn::kIo) return answer(work());
  asio::thread_pool& pool = run_on == RunOn::kPrepare ? shared_->prepare_pool : shared_->slow_pool;
  asio::post(pool, [self = shared_self(), work] {
    try {
      auto reply = std::make_shared<Reply>(work());
      asio::post(self->socket_.get_executor(),
                 self->held([reply](Connection& connection) { connection.answer(std::move(*reply)); }));
    } catch (const std::exception& error) {  // without an answer the connection ends here
      report_failure("connection", error);
    }
  });
}

std::string Connection::head(const Reply& reply, bool stream) const {
  return reply_head(reply, {.request_id = request_.request_id,
                            .keep_alive = keep_alive_ && (!stream || chunked_),
                            .http_1_0 = !chunked_,
                            .chunked = stream && chunked_,
                            .stream = stream});
}

void Connection::answer(Reply reply) {
  if (!socket_.is_open()) return;
  if (reply.pending) return wait_for(std::move(reply.pending));
  if (reply.stream && request_.method != "HEAD") return start_stream(std::move(reply));
  out_ = head(reply, false);
  if (request_.method != "HEAD") out_ += reply.body;
  set_deadline(shared_->options.write_timeout);
  asio::async_write(socket_, asio::buffer(out_), held([](Connection& self, SocketError error, size_t) {
                      error ? self.drop() : self.after_reply();
                    }));
}

void Connection::after_reply() {
  clear_deadline();
  keep_alive_ ? read_request() : linger();
}

// Closing with unread input would reset the connection and the client might never see the reply.
void Connection::linger() {
  SocketError ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  leave_flight();
  if (input_ended_) return drop();
  stand_in_line(kIdleLine);
  set_deadline(kLinger);
  discard();
}

void Connection::discard() {
  buffer_.clear();
  socket_.async_read_some(buffer_.prepare(kPieceBytes),
                          held([](Connection& self, SocketError error, size_t n) {
                            self.discarded_bytes_ += n;
                            error || self.discarded_bytes_ > kDiscardBytes ? self.drop() : self.discard();
                          }));
}

// --- an answer that comes later
// ---------------------------------------------------------------------------------------

void Connection::wait_for(std::unique_ptr<PendingReply> pending) {
  pending_ = std::move(pending);
  stream_over_ = half_closed_ = writing_ = false;
  last_write_ = std::chrono::steady_clock::now();
  pending_->on_ready([weak = weak_self()] {
    if (const auto alive = weak.lock()) alive->notify();
  });
  watch_client();
  stream_timer();
  pump();
}

// Ends as a stream does: the read that watches the client is still under way.
void Connection::answer_pending(Reply reply) {
  pending_.reset();
  shared_->router->decorate(request_, &reply);
  if (half_closed_) keep_alive_ = false;
  out_ = head(reply, false) + reply.body;
  writing_ = true;
  set_deadline(shared_->options.write_timeout);
  asio::async_write(socket_, asio::buffer(out_), held([](Connection& self, SocketError error, size_t) {
                      self.writing_ = false;
                      if (error) return self.drop();
                      self.clear_deadline();
                      self.end_stream();
                    }));
}

// --- a stream
// --------------------------------------------------------------------------------------------------

void Connection::start_stream(Reply reply) {
  stream_ = std::move(reply.stream);
  stream_over_ = half_closed_ = false;
  writing_ = true;
  if (!chunked_) keep_alive_ = false;
  out_ = head(reply, true);
  last_write_ = std::chrono::steady_clock::now();
  set_deadline(shared_->options.write_timeout);
  asio::async_write(socket_, asio::buffer(out_), held([](Connection& self, SocketError error, size_t) {
                      if (error || !self.stream_) return self.drop();
                      self.writing_ = false;
                      self.clear_deadline();
                      self.stream_->on_ready([weak = self.weak_self()] {
                        if (const auto alive = weak.lock()) alive->notify();
                      });
                      self.pump();
                    }));
  watch_client();
  stream_timer();
}

void Connection::notify() noexcept {
  if (notified_.exchange(true)) return;
  try {
    asio::post(socket_.get_executor(), held([](Connection& self) { self.pump(); }));
  } catch (const std::exception&) {
    notice_lost_ = true;
  }
}

void Connection::pump() {
  if (writing_ || !busy()) return;
  notified_ = false;
  if (pending_) {
    if (std::optional<Reply> reply = pending_->take()) answer_pending(std::move(*reply));
    return;
  }
  std::string piece;
  const bool more = stream_->next(&piece, kPieceBytes);
  if (!piece.empty() || !more) write_piece(std::move(piece), !more);
}

// A stream takes a comment; before any other answer an interim response may stand (RFC 9110, 15.2), which
// HTTP/1.0 does not know.
void Connection::probe() {
  if (stream_) return write_piece(":\n\n", false);
  if (!chunked_) return drop();
  write_raw("HTTP/1.1 102 Processing\r\n\r\n", false);
}

void Connection::write_piece(std::string text, bool last) {
  if (chunked_) {
    char size[24];
    std::snprintf(size, sizeof size, "%zx\r\n", text.size());
    out_ = text.empty() ? "" : size + text + "\r\n";
    if (last) out_ += "0\r\n\r\n";
    text = std::move(out_);
  }
  write_raw(std::move(text), last);
}

void Connection::write_raw(std::string text, bool last) {
  out_ = std::move(text);
  writing_ = true;
  last_write_ = std::chrono::steady_clock::now();
  set_deadline(shared_->options.write_timeout);
  asio::async_write(socket_, asio::buffer(out_), held([last](Connection& self, SocketError error, size_t) {
                      self.writing_ = false;
                      if (error || !self.busy()) return self.drop();
                      self.clear_deadline();
                      self.stream_timer();
                      last ? self.end_stream() : self.pump();
                    }));
}

void Connection::end_stream() {
  stream_.reset();
  stream_over_ = true;
  silence_.cancel();
  if (half_closed_) keep_alive_ = false;
  if (!watching_) return after_reply();
  // The read that watches the client must end before the next request is read; its handler goes on from
  // there.
  socket_.cancel();
}

void Connection::watch_client() {
  if (buffer_.size() >= kPipelinedBytes) return;
  watching_ = true;
  socket_.async_read_some(buffer_.prepare(4096), held([](Connection& self, SocketError error, size_t n) {
                            self.watching_ = false;
                            if (!self.socket_.is_open()) return;
                            self.buffer_.commit(n);
                            self.input_ended_ = error == asio::error::eof;
                            if (self.stream_over_) return self.after_reply();
                            if (!error) return self.watch_client();
                            if (error != asio::error::eof) return self.drop();
                            // The client has closed at least its sending side. Whether it still reads, only
                            // writing tells.
                            self.half_closed_ = true;
                            self.writing_ ? self.stream_timer() : self.probe();
                          }));
}

// A comment goes out when the stream was silent: keeps proxies open, and finds out whether the client is
// there.
void Connection::stream_timer() {
  if (!busy()) return;
  const auto interval = half_closed_ ? kProbeInterval : shared_->options.keep_alive_interval;
  silence_.expires_after(std::min(interval, kTimerInterval));
  // Holds the connection: once the client has half-closed, nothing else may.
  silence_.async_wait(held([interval](Connection& self, SocketError error) {
    if (error || !self.busy()) return;
    const bool is_silent = std::chrono::steady_clock::now() - self.last_write_ >= interval;
    if (!self.writing_ && self.notice_lost_.exchange(false)) self.pump();
    if (!self.busy()) return;
    // A client that waits for an answer that is not a stream needs no sign of life.
    const bool probes = is_silent && (self.stream_ || self.half_closed_);
    self.writing_ || !probes ? self.stream_timer() : self.probe();
  }));
}

}  // namespace orcd::server
