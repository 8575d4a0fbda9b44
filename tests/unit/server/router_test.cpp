#include "server/router.h"

#include <gtest/gtest.h>

namespace orcd::server {
namespace {

HttpRequest request(std::string method, std::string path, Headers headers = {}) {
  HttpRequest r;
  r.method = std::move(method);
  r.path = std::move(path);
  r.headers = std::move(headers);
  if (r.header("host").empty()) r.headers.emplace_back("Host", "localhost:1");
  return r;
}

Router make(AccessRules rules) {
  Router router(std::move(rules));
  const Handler ok = [](const HttpRequest&) { return Reply{}; };
  router.add({"GET", "/open", ok, RunOn::kIo, true});
  router.add({"GET", "/closed", ok, RunOn::kIo, false});
  router.add({"POST", "/closed", ok, RunOn::kIo, false});
  return router;
}

int status(const Router& router, const HttpRequest& r) {
  const Router::Choice choice = router.choose(r);
  return choice.route ? 200 : choice.reply.status;
}

std::string reply_header(const Reply& reply, const std::string& name) {
  for (const auto& [key, value] : reply.headers)
    if (key == name) return value;
  return "";
}

TEST(Router, ABodyWithAContentCodingIs415AndToldWhatIsTaken) {
  const Router router = make({});
  for (const char* coding : {"gzip", "br", "identity, gzip", "x"}) {
    const Router::Choice choice = router.choose(request("POST", "/closed", {{"Content-Encoding", coding}}));
    EXPECT_EQ(choice.route, nullptr) << coding;
    EXPECT_EQ(choice.reply.status, 415) << coding;
    EXPECT_EQ(reply_header(choice.reply, "Accept-Encoding"), "identity");
  }
  EXPECT_EQ(status(router, request("POST", "/closed", {{"Content-Encoding", "Identity"}})), 200);
  EXPECT_EQ(status(router, request("POST", "/nowhere", {{"Content-Encoding", "gzip"}})), 404);
}

TEST(Router, HostMustNameALoopbackAddressWhereTheWorkerListensOnOne) {
  const Router router = make({});
  for (const char* host : {"localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:9999", "[::1]", "[::1]:80"})
    EXPECT_EQ(status(router, request("GET", "/open", {{"Host", host}})), 200) << host;
  for (const char* host :
       {"evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]", "10.0.0.1:80"})
    EXPECT_EQ(status(router, request("GET", "/open", {{"host", host}})), 403) << host;
  EXPECT_EQ(status(make({.loopback_only = false, .api_keys = {}, .cors_origin = {}}),
                   request("GET", "/open", {{"Host", "any.example"}})),
            200);
}

TEST(Router, TwoHostsAreRefused) {
  EXPECT_EQ(status(make({}), request("GET", "/open", {{"Host", "localhost"}, {"host", "localhost"}})), 400);
}

TEST(Router, AKeyIsNeededExceptOnOpenPaths) {
  const Router router = make({.loopback_only = true, .api_keys = {"key-1", "key-2"}, .cors_origin = {}});
  const auto with_key = [&](const char* value) {
    return status(router, request("GET", "/closed", {{"Authorization", value}}));
  };
  EXPECT_EQ(status(router, request("GET", "/open")), 200);
  EXPECT_EQ(status(router, request("GET", "/closed")), 401);
  EXPECT_EQ(status(router, request("GET", "/unknown")), 401);
  EXPECT_EQ(with_key("Bearer key-1"), 200);
  EXPECT_EQ(with_key("bearer key-2"), 200);
  EXPECT_EQ(with_key("Bearer   key-1"), 200);
  for (const char* wrong : {"key-1", "Bearer", "Bearer ", "Bearer key-", "Bearer key-11", "Bearer KEY-1",
                            "Basic key-1", "Bearer key-1 "})
    EXPECT_EQ(with_key(wrong), 401) << wrong;
}

TEST(Router, ARouteWithARestTakesWhatBeginsAlikeAndGoesOn) {
  Router router = make({});
  router.add({.method = "GET",
              .path = "/named/",
              .handler = [](const HttpRequest&) { return Reply{}; },
              .has_rest = true});
  EXPECT_EQ(status(router, request("GET", "/named/x")), 200);
  EXPECT_EQ(status(router, request("GET", "/named/x/y")), 200);
  for (const char* path : {"/named/", "/named", "/name/xyz"})
    EXPECT_EQ(status(router, request("GET", path)), 404);
}

TEST(Router, UnknownPathsAndMethodsAreTold) {
  const Router router = make({});
  EXPECT_EQ(status(router, request("GET", "/nothing")), 404);
  EXPECT_EQ(status(router, request("GET", "/closed/")), 404);
  const Router::Choice choice = router.choose(request("PUT", "/closed"));
  EXPECT_EQ(choice.reply.status, 405);
  EXPECT_EQ(reply_header(choice.reply, "Allow"), "GET, HEAD, POST, OPTIONS");
  EXPECT_NE(router.choose(request("HEAD", "/closed")).route, nullptr);
  EXPECT_EQ(status(router, request("OPTIONS", "/closed")), 204);
  EXPECT_EQ(status(router, request("OPTIONS", "*")), 204);
  EXPECT_EQ(status(router, request("OPTIONS", "/nothing")), 404);
}

TEST(Router, APageOfAnotherOriginCannotPost) {
  EXPECT_EQ(status(make({}), request("POST", "/closed", {{"Origin", "https://evil.example"}})), 403);
  EXPECT_EQ(status(make({}), request("POST", "/closed", {{"Origin", "null"}})), 403);
  EXPECT_EQ(status(make({}), request("POST", "/closed", {{"Origin", "http://localhost:1"}})), 200);
  const Router allowed = make({.loopback_only = true, .api_keys = {}, .cors_origin = "https://app.example"});
  EXPECT_EQ(status(allowed, request("POST", "/closed", {{"Origin", "https://app.example"}})), 200);
  EXPECT_EQ(status(allowed, request("POST", "/closed", {{"Origin", "https://other.example"}})), 403);
  const Router all = make({.loopback_only = true, .api_keys = {}, .cors_origin = "*"});
  EXPECT_EQ(status(all, request("POST", "/closed", {{"Origin", "https://other.example"}})), 200);
}

TEST(Router, CorsHeadersOnlyWhereAskedFor) {
  Reply plain;
  make({}).decorate(request("GET", "/open", {{"Origin", "http://localhost:1"}}), &plain);
  EXPECT_TRUE(plain.headers.empty());
  Reply reply;
  make({.loopback_only = true, .api_keys = {}, .cors_origin = "*"})
      .decorate(request("OPTIONS", "/open", {{"Origin", "https://a.example"}}), &reply);
  EXPECT_EQ(reply_header(reply, "Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(reply_header(reply, "Access-Control-Allow-Methods"), "GET, POST, OPTIONS");
}

}  // namespace
}  // namespace orcd::server
