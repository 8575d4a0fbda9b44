#include "server/http_server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

#include "base/error.h"
#include "support/raw_client.h"

namespace orcd::server {
namespace {

using std::chrono::milliseconds;
using Client = test::RawClient;

// Pieces that the test pushes. Each goes to one of the sources that read it; all of them see the end.
struct Script {
  std::mutex mutex;
  std::string ready;
  bool over = false;
  std::map<const void*, std::function<void()>> notify;  // by source
  std::atomic<bool> dropped = false;
  std::atomic<uint64_t> taken = 0;

  void push(const std::string& text, bool last = false) {
    std::lock_guard lock(mutex);
    ready += text;
    over |= last;
    for (const auto& [source, call] : notify) call();
  }
  void on_ready(const void* source, std::function<void()> call) {
    std::lock_guard lock(mutex);
    notify.erase(source);
    if (!call) return;
    if (over || !ready.empty()) call();
    notify.emplace(source, std::move(call));
  }
};

// A stream that hands out the pieces of its script.
class ScriptedStream : public StreamSource {
 public:
  explicit ScriptedStream(std::shared_ptr<Script> script) : script_(std::move(script)) {}
  ~ScriptedStream() override {
    on_ready({});
    script_->dropped = true;
  }
  bool next(std::string* out, size_t max_bytes) override {
    std::lock_guard lock(script_->mutex);
    const size_t n = std::min(max_bytes, script_->ready.size());
    out->append(script_->ready, 0, n);
    script_->ready.erase(0, n);
    script_->taken += n;
    return !(script_->over && script_->ready.empty());
  }
  void on_ready(std::function<void()> notify) override { script_->on_ready(this, std::move(notify)); }

 private:
  std::shared_ptr<Script> script_;
};

// An answer that is there once the script is over: its text.
class ScriptedReply : public PendingReply {
 public:
  explicit ScriptedReply(std::shared_ptr<Script> script) : script_(std::move(script)) {}
  ~ScriptedReply() override {
    on_ready({});
    script_->dropped = true;
  }
  std::optional<Reply> take() override {
    std::lock_guard lock(script_->mutex);
    if (!script_->over) return std::nullopt;
    Reply reply;
    reply.status = 504;
    reply.body = std::exchange(script_->ready, {});
    script_->over = false;
    return reply;
  }
  void on_ready(std::function<void()> notify) override { script_->on_ready(this, std::move(notify)); }

 private:
  std::shared_ptr<Script> script_;
};

bool comes_true(const std::function<bool()>& condition, milliseconds limit = milliseconds(10000)) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

class HttpServerTest : public testing::Test {
 protected:
  void start(HttpOptions options = {}) {
    auto router = std::make_shared<Router>(AccessRules{});
    router->add({"GET", "/hello", [](const HttpRequest&) { return text_reply("hello"); }});
    router->add({"POST", "/echo", [](const HttpRequest& r) { return text_reply(r.body); }, RunOn::kPrepare});
    router->add({"GET", "/throws",
                 [](const HttpRequest&) -> Reply { throw std::runtime_error("private detail"); },
                 RunOn::kSlow});
    router->add({"GET", "/stream", [this](const HttpRequest&) {
                   Reply reply;
                   reply.content_type = "text/event-stream";
                   reply.stream = std::make_unique<ScriptedStream>(script);
                   return reply;
                 }});
    router->add({"GET", "/later", [this](const HttpRequest&) {
                   Reply reply;
                   reply.pending = std::make_unique<ScriptedReply>(script);
                   return reply;
                 }});
    server = std::make_unique<HttpServer>(options, router);
    server->start();
  }
  static Reply text_reply(std::string text) {
    Reply reply;
    reply.body = std::move(text);
    return reply;
  }
  std::string ask(const std::string& text) {
    Client client(server->port());
    client.send(text);
    return client.read_to_end();
  }
  static std::string get(const std::string& path, const std::string& headers = "") {
    return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n";
  }

  // Whether somebody waits for the script.
  bool listens() const {
    std::lock_guard lock(script->mutex);
    return !script->notify.empty();
  }

  std::shared_ptr<Script> script = std::make_shared<Script>();
  std::unique_ptr<HttpServer> server;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

TEST_F(HttpServerTest, AnswersSeveralRequestsOfOneConnectionInOrder) {
  start();
  // No hexadecimal digits: the answers' correlation ids are random.
  const std::string post = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nxyz";
  const std::string all = ask(get("/hello") + post + get("/hello", "Connection: close\r\n"));
  const size_t first = all.find("hello"), second = all.find("xyz"), third = all.rfind("hello");
  EXPECT_LT(first, second);
  EXPECT_LT(second, third);
  EXPECT_NE(third, all.npos) << all;
}

TEST_F(HttpServerTest, ARequestThatDripsInByteByByteIsAnswered) {
  start();
  Client client(server->port());
  for (const char c : std::string("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
                                  "chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n"))
    client.send({c});
  EXPECT_TRUE(has(client.read_until("xyz"), "HTTP/1.1 200 OK"));
}

TEST_F(HttpServerTest, RequestIdIsEchoedOrMade) {
  start();
  EXPECT_TRUE(
      has(ask(get("/hello", "X-Request-Id: abc-1\r\nConnection: close\r\n")), "x-request-id: abc-1\r\n"));
  const std::string made = ask(get("/nothing", "Connection: close\r\n"));
  EXPECT_TRUE(has(made, "404 Not Found"));
  EXPECT_EQ(made.find("\r\n", made.find("x-request-id: ")) - made.find("x-request-id: "), 14u + 32u) << made;
}

TEST_F(HttpServerTest, HeadHasTheLengthAndNoBody) {
  start();
  const std::string reply = ask("HEAD /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(has(reply, "Content-Length: 5\r\n"));
  EXPECT_TRUE(reply.ends_with("\r\n\r\n")) << reply;
}

TEST_F(HttpServerTest, ABodyOverTheLimitGets413AlsoWhenAllOfItIsSent) {
  start({.max_body_bytes = 1000});
  const std::string head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: ";
  EXPECT_TRUE(has(ask(head + "1001\r\n\r\n" + std::string(1001, 'x')), "HTTP/1.1 413 "));
  EXPECT_TRUE(has(ask(head + "99999999999999999999\r\n\r\n"), "HTTP/1.1 4"));
  EXPECT_TRUE(has(ask("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" +
                      std::string(2000, 'x')),
                  "HTTP/1.1 413 "));
}

TEST_F(HttpServerTest, AHeaderOverTheLimitGets431) {
  start({.max_header_bytes = 2000});
  EXPECT_TRUE(has(ask(get("/hello", "X-Long: " + std::string(3000, 'x') + "\r\n")), "HTTP/1.1 431 "));
}

TEST_F(HttpServerTest, WhatIsNotHttpGets400) {
  start();
  for (const char* text : {"nonsense\r\n\r\n", "GET /hello HTTP/2.0\r\n\r\n",
                           "GET /hello HTTP/1.1\r\nno colon\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n"})
    EXPECT_TRUE(has(ask(text), "HTTP/1.1 400 ")) << text;
  EXPECT_TRUE(has(ask("GET /hello HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 ")) << "no Host";
}

TEST_F(HttpServerTest, ExpectContinueIsAnswered) {
  start();
  Client client(server->port());
  client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ab");
  EXPECT_TRUE(has(client.read_until("ab"), "200 OK"));
}

TEST_F(HttpServerTest, AHandlerThatThrowsIsAnInternalErrorAndTheServerGoesOn) {
  start();
  const std::string reply = ask(get("/throws") + get("/hello", "Connection: close\r\n"));
  EXPECT_TRUE(has(reply, "HTTP/1.1 500 ")) << reply;
  EXPECT_TRUE(has(reply, R"("code":"INTERNAL")"));
  EXPECT_FALSE(has(reply, "private detail"));
  EXPECT_TRUE(reply.ends_with("hello"));
}

TEST_F(HttpServerTest, AHeaderThatNeverEndsIsCutOff) {
  start({.header_timeout = milliseconds(50)});
  Client client(server->port());
  client.send("GET /hello HTTP/1.1\r\n");
  EXPECT_EQ(client.read_to_end(), "");
}

TEST_F(HttpServerTest, AFullServerClosesTheConnectionThatHasBeenIdleLongest) {
  start({.max_connections = 4});
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Client>(server->port()));
    clients.back()->send(get("/hello"));
    clients.back()->read_until("hello");
    ASSERT_TRUE(server->wait_idle(milliseconds(10000)));  // it stands in line
  }
  clients[0]->send(get("/hello"));  // and now behind the others
  clients[0]->read_until("hello");
  ASSERT_TRUE(server->wait_idle(milliseconds(10000)));
  EXPECT_TRUE(ask(get("/hello", "Connection: close\r\n")).ends_with("hello"));
  EXPECT_EQ(clients[1]->read_to_end(), "");
  for (const int i : {0, 2, 3}) {
    clients[i]->send(get("/hello"));
    EXPECT_TRUE(has(clients[i]->read_until("hello"), "200 OK")) << i;
  }
}

TEST_F(HttpServerTest, ManyTimesMoreIdleClientsThanAServerTakesLockNobodyOut) {
  start({.max_connections = 8});
  std::vector<std::unique_ptr<Client>> idle;
  for (int i = 0; i < 100; ++i) {
    idle.push_back(std::make_unique<Client>(server->port()));
    if (i % 3 == 1) idle.back()->send("GET /hello HTTP/1.1\r\nHost: loc");
    if (i % 3 == 2)
      idle.back()->send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc");
    if (i % 10 != 9) continue;
    EXPECT_TRUE(ask(get("/hello", "Connection: close\r\n")).ends_with("hello")) << i;
  }
}

TEST_F(HttpServerTest, ConnectionsThatAreAnsweredMakeNoRoom) {
  start({.max_connections = 2});
  Client streaming(server->port()), other(server->port());
  for (Client* client : {&streaming, &other}) {
    client->send(get("/stream"));
    client->read_until("\r\n\r\n");
  }
  Client third(server->port());
  EXPECT_EQ(third.read_to_end(), "");
  script->push("still here", true);
  for (Client* client : {&streaming, &other}) EXPECT_TRUE(has(client->read_until("0\r\n\r\n"), "0\r\n\r\n"));
}

TEST_F(HttpServerTest, StreamsPiecesAsTheyComeAndKeepsTheConnection) {
  start();
  Client client(server->port());
  client.send(get("/stream"));
  EXPECT_TRUE(has(client.read_until("\r\n\r\n"), "Transfer-Encoding: chunked\r\n"));
  script->push("one");
  EXPECT_EQ(client.read_until("one\r\n"), "3\r\none\r\n");
  script->push("two", true);
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "3\r\ntwo\r\n0\r\n\r\n");
  client.send(get("/hello"));
  EXPECT_TRUE(has(client.read_until("hello"), "200 OK"));
}

TEST_F(HttpServerTest, StoppingEndsStreamsThatNobodyReads) {
  start();
  Client client(server->port());
  client.send(get("/stream"));
  client.read_until("\r\n\r\n");
  EXPECT_FALSE(script->dropped);
  server->stop();
  EXPECT_TRUE(script->dropped);
  script->push("nobody is there", true);
  EXPECT_EQ(client.read_to_end(), "");
}

TEST_F(HttpServerTest, ARequestSentBehindAStreamIsAnsweredAfterIt) {
  start();
  Client client(server->port());
  client.send(get("/stream") + get("/hello"));
  client.read_until("\r\n\r\n");
  script->push("end", true);
  const std::string rest = client.read_until("hello");
  EXPECT_LT(rest.find("0\r\n\r\n"), rest.find("HTTP/1.1 200 OK")) << rest;
}

TEST_F(HttpServerTest, HttpOneZeroGetsAStreamWithoutChunks) {
  start();
  Client client(server->port());
  client.send("GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n");
  const std::string head = client.read_until("\r\n\r\n");
  EXPECT_FALSE(has(head, "Transfer-Encoding"));
  script->push("all", true);
  EXPECT_TRUE((head + client.read_to_end()).ends_with("\r\n\r\nall"));
}

TEST_F(HttpServerTest, AClientThatLeavesDropsTheStreamWithin100Ms) {
  start();
  Client client(server->port());
  client.send(get("/stream"));
  client.read_until("\r\n\r\n");
  EXPECT_EQ(server->in_flight(), 1u);
  client.hang_up();
  EXPECT_TRUE(comes_true([&] { return script->dropped.load(); }, milliseconds(100)));
  EXPECT_TRUE(server->wait_idle(milliseconds(10000)));
}

TEST_F(HttpServerTest, AClientThatOnlyClosesItsSendingSideStillGetsTheStream) {
  start();
  Client client(server->port());
  client.send(get("/stream"));
  client.read_until("\r\n\r\n");
  client.half_close();
  client.read_until(":\n\n");  // the server asks whether anybody reads
  EXPECT_FALSE(script->dropped);
  script->push("the end", true);
  EXPECT_TRUE(has(client.read_to_end(), "the end"));
}

TEST_F(HttpServerTest, AClientThatDoesNotReadHoldsUpItsOwnStreamOnlyAndIsDisconnectedAtLast) {
  start({.write_timeout = milliseconds(300)});
  Client slow(server->port(), 4096);
  slow.send(get("/stream"));
  const size_t n_bytes = 32 << 20;
  comes_true([&] { return listens(); });
  script->push(std::string(n_bytes, 'x'));
  EXPECT_TRUE(has(ask(get("/hello", "Connection: close\r\n")), "hello"));
  EXPECT_TRUE(comes_true([&] { return script->dropped.load(); }));
  EXPECT_LT(script->taken, n_bytes / 4);
}

TEST_F(HttpServerTest, ASilentStreamCarriesComments) {
  start({.keep_alive_interval = milliseconds(20)});
  Client client(server->port());
  client.send(get("/stream"));
  client.read_until("\r\n\r\n");
  EXPECT_TRUE(has(client.read_until(":\n\n"), "3\r\n:\n\n"));
  script->push("", true);
  EXPECT_TRUE(has(client.read_until("0\r\n\r\n"), "0\r\n\r\n"));
}

TEST_F(HttpServerTest, AnAnswerThatComesLaterIsWholeAndKeepsTheConnection) {
  start();
  Client client(server->port());
  for (const std::string text : {"one", "two", "three"}) {
    client.send(get("/later"));
    ASSERT_TRUE(comes_true([&] { return listens(); }));
    script->push(text, true);
    const std::string reply = client.read_until(text);
    EXPECT_TRUE(reply.starts_with("HTTP/1.1 504 Gateway Timeout\r\n")) << reply;
    EXPECT_TRUE(has(reply, "Content-Length: " + std::to_string(text.size()) + "\r\n")) << reply;
    EXPECT_TRUE(has(reply, "x-request-id: ")) << reply;
  }
  client.send(get("/hello"));
  EXPECT_TRUE(has(client.read_until("hello"), "200 OK"));
}

TEST_F(HttpServerTest, ARequestSentBehindOneThatWaitsIsAnsweredAfterIt) {
  start();
  Client client(server->port());
  client.send(get("/later") + get("/hello"));
  ASSERT_TRUE(comes_true([&] { return listens(); }));
  script->push("end", true);
  const std::string replies = client.read_until("hello");
  EXPECT_LT(replies.find("HTTP/1.1 504"), replies.find("HTTP/1.1 200 OK")) << replies;
}

TEST_F(HttpServerTest, AClientThatLeavesDropsTheAnswerWithin100Ms) {
  start();
  Client client(server->port());
  client.send(get("/later"));
  ASSERT_TRUE(comes_true([&] { return listens(); }));
  EXPECT_EQ(server->in_flight(), 1u);
  client.hang_up();
  EXPECT_TRUE(comes_true([&] { return script->dropped.load(); }, milliseconds(100)));
  EXPECT_TRUE(server->wait_idle(milliseconds(10000)));
}

TEST_F(HttpServerTest, AClientThatOnlyClosesItsSendingSideStillGetsTheAnswer) {
  start();
  Client client(server->port());
  client.send(get("/later"));
  client.half_close();
  // The server asks whether anybody reads.
  EXPECT_TRUE(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 102 Processing\r\n\r\n"));
  EXPECT_FALSE(script->dropped);
  script->push("the end", true);
  EXPECT_TRUE(client.read_to_end().ends_with("\r\n\r\nthe end"));
}

TEST_F(HttpServerTest, HttpOneZeroHasNoInterimAnswersSoAHalfClosedClientHasLeft) {
  start();
  Client client(server->port());
  client.send("GET /later HTTP/1.0\r\nHost: localhost\r\n\r\n");
  ASSERT_TRUE(comes_true([&] { return listens(); }));
  client.half_close();
  EXPECT_EQ(client.read_to_end(), "");
  EXPECT_TRUE(script->dropped);
}

TEST_F(HttpServerTest, StoppingDropsAnswersThatAreNotThereYet) {
  start();
  Client client(server->port());
  client.send(get("/later"));
  ASSERT_TRUE(comes_true([&] { return listens(); }));
  server.reset();
  EXPECT_TRUE(script->dropped);
}

TEST_F(HttpServerTest, StoppingDropsStreamsAndAPortInUseIsAnError) {
  start();
  try {
    HttpServer second({.port = server->port()}, std::make_shared<Router>(AccessRules{}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(has(error.line(), "port=" + std::to_string(server->port()))) << error.line();
  }
  Client client(server->port());
  client.send(get("/stream"));
  client.read_until("\r\n\r\n");
  server.reset();
  EXPECT_TRUE(script->dropped);
}

}  // namespace
}  // namespace orcd::server
