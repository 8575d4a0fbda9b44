// Whom the ready notice reaches, and what the log says when it reaches nobody.
#include "server/callback.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/log.h"
#include "server/http_server.h"

namespace orcd::server {
namespace {

class Callback : public testing::Test {
 protected:
  Callback() {
    auto router = std::make_shared<Router>(AccessRules{});
    for (const int status : {200, 204, 302, 500}) {
      router->add({"POST", "/" + std::to_string(status), [this, status](const HttpRequest& request) {
                     body_ = request.body;
                     Reply reply;
                     reply.status = status;
                     return reply;
                   }});
    }
    server_ = std::make_unique<HttpServer>(HttpOptions{}, router);
    server_->start();
    before_ = set_log_sink([this](const LogEvent& event) {
      for (const auto& [name, value] : event.fields)
        if (name == "reason") reason_ = std::get<std::string>(value);
    });
  }
  ~Callback() override { set_log_sink(before_); }

  // "" when the notice was taken, else the reason in the log.
  std::string told(const std::string& url) {
    reason_.clear();
    const bool taken = post_ready(url, {.worker_id = "w", .model = "m", .vram_bytes = 7, .uri = "u"});
    EXPECT_EQ(taken, reason_.empty()) << reason_;
    return reason_;
  }

  std::string port() const { return std::to_string(server_->port()); }

  std::string body_, reason_;
  std::unique_ptr<HttpServer> server_;
  LogSink before_;
};

TEST_F(Callback, TheNoticeIsPostedAndAnySuccessIsEnough) {
  EXPECT_EQ(told("http://127.0.0.1:" + port() + "/200"), "");
  EXPECT_EQ(nlohmann::json::parse(body_),
            nlohmann::json({{"worker_id", "w"}, {"model", "m"}, {"vram_bytes", 7}, {"uri", "u"}}));
  EXPECT_EQ(told("http://localhost:" + port() + "/204"), "");
}

TEST_F(Callback, OtherAnswersAndNoneAreTold) {
  EXPECT_EQ(told("http://127.0.0.1:" + port() + "/302"), "status 302");
  EXPECT_EQ(told("http://127.0.0.1:" + port() + "/500"), "status 500");
  EXPECT_EQ(told("http://127.0.0.1:" + port()), "status 404");
  EXPECT_NE(told("http://[::1]:" + port() + "/200"), "") << "nobody listens there";
  EXPECT_NE(told("http://[::1:" + port() + "/200"), "");
  EXPECT_NE(told("http://127.0.0.1:none/200"), "");
}

// The field said "::1:8080", and the callback was refused by whoever reads it (a bug).
TEST(CallbackHost, AnIpv6AddressStandsInBrackets) {
  EXPECT_EQ(host_field("::1", "8080"), "[::1]:8080");
  EXPECT_EQ(host_field("127.0.0.1", "80"), "127.0.0.1:80");
  EXPECT_EQ(host_field("orchestrator.local", "443"), "orchestrator.local:443");
}

// A worker that was to end waited 10 s for an orchestrator that took the connection and said nothing.
TEST(CallbackStop, ACallbackThatIsNotAnsweredEndsWithTheWorker) {
  std::promise<void> asked, over;
  auto router = std::make_shared<Router>(AccessRules{});
  router->add({"POST", "/", [&](const HttpRequest&) {
                 asked.set_value();
                 over.get_future().wait();
                 return Reply();
               }});
  HttpServer server({}, router);
  server.start();
  bool taken = true;
  const auto begin = std::chrono::steady_clock::now();
  {
    std::jthread worker([&](const std::stop_token& stop) {
      taken = post_ready("http://127.0.0.1:" + std::to_string(server.port()), {}, stop);
    });
    asked.get_future().wait();
  }
  EXPECT_FALSE(taken);  // it has ended, and nobody has answered
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(8));
  over.set_value();
}

TEST_F(Callback, AddressesThatAreNoneAreTold) {
  for (const char* url : {"", "https://127.0.0.1/", "127.0.0.1:80", "HTTP://127.0.0.1/"})
    EXPECT_EQ(told(url), "not an http:// address") << url;
  for (const char* url :
       {"http://", "http:///path", "http://:80/", "http://127.0.0.1:/", "http://[]:80", "http://[]",
        "http://127.0.0.1:0/", "http://127.0.0.1:65536/", "http://127.0.0.1:http/"})
    EXPECT_EQ(told(url), "no host or port") << url;
  for (const char* url : {"http://h/a b", "http://h/\r\nX: y", "http://h\x7f/"})
    EXPECT_EQ(told(url), "a character that an address does not have") << url;
}

}  // namespace
}  // namespace orcd::server
