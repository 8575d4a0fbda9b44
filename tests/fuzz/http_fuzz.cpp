// libFuzzer target: any bytes that a client may send end in answers that are well-formed, and in a closed
// connection. A request reaches a handler only with one reading of where it ends. The first byte says into
// how large pieces the bytes are cut.
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <string>
#include <string_view>

#include "server/connection.h"

namespace {

using namespace orcd;
using namespace orcd::server;
namespace asio = boost::asio;

// Three pieces, all ready.
class Pieces : public StreamSource {
 public:
  bool next(std::string* out, size_t) override {
    *out += "data: x\n\n";
    return ++n_ < 3;
  }
  void on_ready(std::function<void()> notify) override {
    if (notify) notify();
  }

 private:
  int n_ = 0;
};

bool is_token(std::string_view text) {
  return !text.empty() && text.find_first_of(std::string_view("\0\r\n :\t", 6)) == text.npos;
}

Reply checked(const HttpRequest& request) {
  if (!is_token(request.method) ||
      request.path.find_first_of(std::string_view("\0\r\n ", 4)) != request.path.npos)
    std::abort();
  if (request.count("content-length") > 1 || request.count("transfer-encoding") > 1) std::abort();
  if (request.count("content-length") && request.count("transfer-encoding")) std::abort();
  for (const auto& [name, value] : request.headers) {
    if (!is_token(name) || value.find_first_of(std::string_view("\0\r\n", 3)) != value.npos) std::abort();
  }
  Reply reply;
  reply.body = "ok";
  return reply;
}

std::shared_ptr<const Router> make_router() {
  auto router =
      std::make_shared<Router>(AccessRules{.loopback_only = true, .api_keys = {}, .cors_origin = "http://a"});
  router->add({"GET", "/x", checked});
  router->add({"POST", "/x", checked});
  router->add({"POST", "/s", [](const HttpRequest& request) {
                 Reply reply = checked(request);
                 reply.content_type = "text/event-stream";
                 reply.stream = std::make_unique<Pieces>();
                 return reply;
               }});
  return router;
}

// The client's end of the connection.
class Client {
 public:
  explicit Client(int fd) : fd_(fd) {}
  ~Client() { ::close(fd_); }
  void send(std::string_view bytes) {
    [[maybe_unused]] const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  void finish() { ::shutdown(fd_, SHUT_WR); }
  void drain() {
    char buffer[16384];
    for (ssize_t n; (n = ::recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT)) > 0;)
      answers_.append(buffer, static_cast<size_t>(n));
  }
  const std::string& answers() const { return answers_; }

 private:
  int fd_;
  std::string answers_;
};

void check_answers(std::string_view answers) {
  if (answers.empty()) return;
  if (!answers.starts_with("HTTP/1.1 ")) std::abort();
  const size_t end = answers.find("\r\n\r\n");
  if (end == answers.npos) std::abort();
  const std::string_view head = answers.substr(0, end);
  for (size_t i = 0; i < head.size(); ++i) {
    const bool is_break = head[i] == '\r' || head[i] == '\n';
    if (static_cast<unsigned char>(head[i]) < ' ' && !is_break) std::abort();
    if (head[i] == '\r' && (i + 1 == head.size() || head[i + 1] != '\n')) std::abort();
    if (head[i] == '\n' && head[i - 1] != '\r') std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static ConnectionShared shared;
  if (!shared.router) {
    shared.router = make_router();
    shared.options.max_body_bytes = 4096;
    shared.options.max_header_bytes = 2048;
  }
  if (size == 0 || size > 32768) return 0;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) std::abort();
  Client client(ends[0]);
  {
    asio::io_context io;
    asio::ip::tcp::socket socket(io, asio::ip::tcp::v4(), ends[1]);
    std::make_shared<Connection>(std::move(socket), &shared)->run();
    std::string_view rest(reinterpret_cast<const char*>(data + 1), size - 1);
    const size_t piece = data[0] ? data[0] : 4096;
    for (; !rest.empty(); rest.remove_prefix(std::min(piece, rest.size()))) {
      client.send(rest.substr(0, piece));
      io.poll();
      client.drain();
    }
    client.finish();
    while (!io.stopped()) {
      io.run_one_for(std::chrono::milliseconds(1));
      client.drain();
    }
  }
  client.drain();
  if (shared.connections.size() != 0 || shared.in_flight != 0) std::abort();
  check_answers(client.answers());
  return 0;
}
