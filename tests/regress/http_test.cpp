// Requests that once ended the process, or were read in more than one way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "server/connections.h"
#include "server/http_server.h"
#include "server/request_parser.h"
#include "server/router.h"
#include "support/raw_client.h"

namespace orcd::server {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kHead = "POST /echo HTTP/1.1\r\nHost: localhost\r\n";
constexpr const char* kNext = "GET /next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

// Throws where the server reads it, not in a handler.
class BrokenStream : public StreamSource {
 public:
  bool next(std::string*, size_t) override { throw std::runtime_error("broken on purpose"); }
  void on_ready(std::function<void()>) override {}
};

class ShortStream : public StreamSource {
 public:
  bool next(std::string* out, size_t) override {
    *out += "data: x\n\n";
    return false;
  }
  void on_ready(std::function<void()>) override {}
};

class HttpRegression : public testing::Test {
 protected:
  HttpRegression() {
    auto router = std::make_shared<Router>(AccessRules{});
    router->add({"POST", "/echo", [this](const HttpRequest& request) { return echo(request); }});
    router->add({"GET", "/next", [this](const HttpRequest& request) { return echo(request); }});
    router->add({"GET", "/broken", [](const HttpRequest&) {
                   Reply reply;
                   reply.stream = std::make_unique<BrokenStream>();
                   return reply;
                 }});
    router->add({"GET", "/stream", [](const HttpRequest&) {
                   Reply reply;
                   reply.stream = std::make_unique<ShortStream>();
                   return reply;
                 }});
    server_ = std::make_unique<HttpServer>(HttpOptions{}, router);
    server_->start();
  }
  Reply echo(const HttpRequest& request) {
    {
      std::lock_guard lock(mutex_);
      seen_.push_back(request.path);
      trailers_ += request.count("x-trailer");
    }
    Reply reply;
    reply.body = request.body;
    return reply;
  }
  std::string ask(const std::string& text) {
    test::RawClient client(server_->port());
    client.send(text);
    return client.read_to_end();
  }
  std::string chunked(const std::string& body) {
    return ask(kHead + ("Transfer-Encoding: chunked\r\n\r\n" + body));
  }
  std::vector<std::string> seen() {
    std::lock_guard lock(mutex_);
    return seen_;
  }

  std::mutex mutex_;
  std::vector<std::string> seen_;
  size_t trailers_ = 0;
  std::unique_ptr<HttpServer> server_;
};

// Beast's own message throws length_error for a field over 64 KiB, and its header limit does not count
// trailers.
TEST_F(HttpRegression, ATrailerOver64KiBDoesNotEndTheProcess) {
  EXPECT_THAT(chunked("0\r\nX: " + std::string(100'000, 'y') + "\r\n\r\n"), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(ask(kNext), StartsWith("HTTP/1.1 200 "));
}

TEST_F(HttpRegression, AChunkExtensionCannotFillTheMemory) {
  EXPECT_THAT(chunked("1;a=" + std::string(100'000, 'b') + "\r\nx\r\n0\r\n\r\n"),
              StartsWith("HTTP/1.1 431 "));
  std::string small_ones;
  for (int i = 0; i < 2000; ++i) small_ones += "1;abcdefgh\r\nx\r\n";
  EXPECT_THAT(chunked(small_ones + "0\r\n\r\n"), StartsWith("HTTP/1.1 431 "));
}

// Trailers came after the checks of the header, and were merged into it: a Host or a key could come late.
TEST_F(HttpRegression, ATrailerIsNoHeader) {
  const std::string answer =
      chunked("2\r\nhi\r\n0\r\nX-Trailer: a\r\nHost: evil.example\r\n\r\n" + std::string(kNext));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\nhiHTTP/1.1 200 "));
  EXPECT_EQ(trailers_, 0u);
}

// The coding was ignored and the body taken for the next request.
TEST_F(HttpRegression, AnUnknownTransferCodingIsNotAnEmptyBody) {
  for (const char* coding :
       {"gzip", "gzip, chunked", "chunked, gzip", "xchunked", "chunked\r\nTransfer-Encoding: x"}) {
    const std::string answer =
        ask(kHead + ("Transfer-Encoding: " + std::string(coding)) + "\r\n\r\n" + kNext);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 ")) << coding;
    EXPECT_EQ(answer.find("HTTP/1.1 200"), answer.npos) << coding;
  }
  EXPECT_THAT(ask("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
              StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(seen(), testing::IsEmpty());
}

TEST_F(HttpRegression, TwoLengthsAreRefusedThoughTheyAreEqual) {
  for (const char* lengths : {"2\r\nContent-Length: 2", "2, 2"}) {
    EXPECT_THAT(ask(kHead + ("Content-Length: " + std::string(lengths)) + "\r\n\r\nhi"),
                StartsWith("HTTP/1.1 400 "));
  }
}

TEST_F(HttpRegression, AnExceptionInTheServerEndsItsConnectionOnly) {
  EXPECT_THAT(ask("GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n"), EndsWith("\r\n\r\n"));
  EXPECT_EQ(server_->in_flight(), 0u);
  EXPECT_THAT(ask(kNext), StartsWith("HTTP/1.1 200 "));
}

size_t n_descriptors() {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

// The read that watches the client took the end of the connection, at the very end of a stream, and the read
// of the next request waited for it until the idle time was over. Found by the soak.
TEST_F(HttpRegression, AClientThatLeavesAtTheEndOfItsStreamLeavesNoConnection) {
  const size_t before = n_descriptors();
  const auto ask_and_leave = [this] {
    for (int i = 0; i < 1500; ++i) {
      test::RawClient client(server_->port());
      client.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
      client.read_until("0\r\n\r\n");
    }
  };
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) clients.emplace_back(ask_and_leave);
  for (std::thread& client : clients) client.join();
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (n_descriptors() > before && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  EXPECT_LE(n_descriptors(), before);
}

// Beast asserted that five bytes were there. Found by the fuzzer.
class StandIn final : public LineMember {
 public:
  StandIn(Connections* line, uint64_t place) : line_(line), place_(place) { line_->add(this); }
  ~StandIn() { line_->remove(this); }
  uint64_t place() const override {
    if (on_place) on_place();
    return place_;
  }
  void leave_line() override { place_ = kNotWaiting; }
  void make_room() override { closed = true; }
  void close() override {}

  std::function<void()> on_place;
  std::atomic<bool> closed = false;

 private:
  Connections* line_;
  std::atomic<uint64_t> place_;
};

// The search for the connection that has waited longest could be the last to hold another one, whose
// destructor then waited for the lock that the search held: nobody was answered again.
TEST(ConnectionsRegression, AConnectionMayEndWhileAFullServerLooksForTheOneToClose) {
  for (const bool first_ends : {true, false}) {  // in the order of the search, whichever of the two it is
    Connections line;
    auto one = std::make_shared<StandIn>(&line, 2), other = std::make_shared<StandIn>(&line, 1);
    const bool in_order = std::less<>()(static_cast<LineMember*>(one.get()), other.get());
    auto& ending = in_order == first_ends ? one : other;
    auto& staying = in_order == first_ends ? other : one;
    const std::weak_ptr<StandIn> watched = ending;
    std::thread leaving;
    staying->on_place = [&] {
      if (leaving.joinable()) return;
      const long before = watched.use_count();
      leaving = std::thread([&] { ending.reset(); });
      while (watched.use_count() == before) std::this_thread::yield();
    };
    EXPECT_TRUE(line.close_longest_waiting());
    leaving.join();
    EXPECT_TRUE(staying->closed);
    EXPECT_EQ(line.size(), 1u);
  }
}

TEST(RequestParserRegression, AnEmptyChunkedBodyMayComeByteByByte) {
  RequestParser parser(4096, 4096);
  parser.eager(true);
  std::string buffered;
  for (const char byte : kHead + std::string("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")) {
    EXPECT_FALSE(parser.is_done());
    buffered += byte;
    boost::beast::error_code error;
    buffered.erase(0, parser.put(boost::asio::buffer(buffered), error));
    EXPECT_TRUE(!error || error == boost::beast::http::error::need_more) << error.message();
  }
  EXPECT_TRUE(parser.is_done());
  EXPECT_EQ(buffered, "");
  EXPECT_EQ(parser.take().body, "");
}

TEST_F(HttpRegression, AHostWithAPortThatIsNoneIsForeign) {
  EXPECT_TRUE(is_loopback_host("localhost:80"));
  EXPECT_TRUE(is_loopback_host("[::1]:80"));
  for (const char* host : {"localhost:80.evil.example", "127.0.0.1:x", "localhost@evil.example", "", "[::1"})
    EXPECT_FALSE(is_loopback_host(host)) << host;
}

// A worker started with --host 127.0.0.2 refused who asked it by that address, which is also what its
// callback tells.
TEST_F(HttpRegression, EveryLoopbackAddressIsALocalHost) {
  for (const char* host : {"127.0.0.2", "127.0.0.2:8080", "127.255.255.254"})
    EXPECT_TRUE(is_loopback_host(host)) << host;
  for (const char* host : {"127.0.0.1.evil.example", "128.0.0.1", "127.1", "0.0.0.0", "127.0.0.256"})
    EXPECT_FALSE(is_loopback_host(host)) << host;
}

}  // namespace
}  // namespace orcd::server
