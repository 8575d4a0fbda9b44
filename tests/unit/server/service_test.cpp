// What /health and the streams say while the device fails, and after it works again.
#include "server/service.h"

#include <gtest/gtest.h>

#include <semaphore>

#include "device/fault/fault_device.h"
#include "server/error_reply.h"
#include "support/core_harness.h"

namespace orcd::server {
namespace {

using fault::Call;
using fault::How;

WorkerFacts facts() {
  WorkerFacts out;
  out.worker_id = "w";
  out.model = "m";
  out.device = "cpu";
  return out;
}

class ServiceTest : public testing::Test {
 protected:
  ServiceTest() {
    engine_ = std::make_unique<engine::Engine>(
        fault::make_executor(std::make_unique<test::FakeExecutor>(test::FakeOptions{}), faults_), nullptr,
        tokenizer_);
    service_.add_routes(&router_);
    service_.set_ready(facts(), engine_.get(), tokenizer_, nullptr);
  }

  Reply ask(const std::string& method, const std::string& path, const std::string& body = "") {
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.headers = {{"host", "localhost"}};
    request.body = body;
    const Router::Choice choice = router_.choose(request);
    try {
      return choice.route->handler(request);
    } catch (const Error& error) {
      Reply reply;
      reply.status = 500;
      reply.body = error.line();
      return reply;
    }
  }
  // All of a stream, or the body of a refusal.
  std::string execute() {
    const Reply reply = ask("POST", "/execute",
                            R"({"job_id":"j)" + std::to_string(++n_) + R"(","prompt":"ab","max_tokens":3})");
    if (!reply.stream) return reply.body;
    std::counting_semaphore<> ready(0);
    reply.stream->on_ready([&] { ready.release(); });
    std::string all;
    while (reply.stream->next(&all, 1 << 16)) ready.acquire();
    return all;
  }
  // The status of /health, which /readyz and the metric must share, and its reason.
  std::pair<int, std::string> health() {
    const Reply reply = ask("GET", "/health");
    EXPECT_EQ(ask("GET", "/readyz").status, reply.status);
    const std::string metric =
        reply.status == 200 ? "\nworker_orcd_healthy 1\n" : "\nworker_orcd_healthy 0\n";
    EXPECT_NE(ask("GET", "/metrics").body.find(metric), std::string::npos);
    const std::string key = R"("reason":")";
    const size_t begin = reply.body.find(key);
    if (begin == reply.body.npos) return {reply.status, ""};
    const size_t value = begin + key.size();
    return {reply.status, reply.body.substr(value, reply.body.find('"', value) - value)};
  }

  static bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

  std::shared_ptr<fault::Faults> faults_ = std::make_shared<fault::Faults>();
  std::shared_ptr<test::FakeTokenizer> tokenizer_ = std::make_shared<test::FakeTokenizer>(100);
  std::unique_ptr<engine::Engine> engine_;
  Service service_{facts(), {}};
  Router router_{AccessRules{}};
  int n_ = 0;
};

// Faces other than the two of generations said 429: that the worker was busy.
TEST(ServiceLoading, EveryFaceIsUnavailableAndNotBusy) {
  Service service(facts(), {});
  Router router{AccessRules{}};
  service.add_routes(&router);
  for (const auto& [method, path] : {std::pair{"GET", "/v1/models"},
                                     {"GET", "/v1/residency"},
                                     {"POST", "/tokenize"},
                                     {"POST", "/detokenize"},
                                     {"POST", "/apply-template"},
                                     {"POST", "/execute"},
                                     {"POST", "/v1/completions"},
                                     {"POST", "/v1/chat/completions"}}) {
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.headers = {{"host", "localhost"}};
    const Router::Choice choice = router.choose(request);
    ASSERT_NE(choice.route, nullptr) << path;
    Reply reply;
    try {
      reply = choice.route->handler(request);
    } catch (const Error& error) {
      reply = error_reply(error);
    }
    EXPECT_EQ(reply.status, 503) << path;
    EXPECT_NE(reply.body.find("still loading"), std::string::npos) << reply.body;
  }
}

TEST_F(ServiceTest, ADeviceThatFailsEveryStepIsUnhealthyUntilOneWorks) {
  for (const Call call : {Call::kBegin, Call::kSubmit, Call::kCollect}) {
    faults_->set({call, 1, How::kAlways});
    for (int i = 0; i < 2; ++i) {
      EXPECT_TRUE(has(execute(), "CUDA_ERROR"));
      EXPECT_EQ(health().first, 200) << i;
    }
    EXPECT_TRUE(has(execute(), "CUDA_ERROR"));
    EXPECT_EQ(health(), std::pair(503, std::string("every one of the last steps failed on the device")));
    faults_->set({});
    EXPECT_TRUE(has(execute(), "event: end"))
        << "work is still taken: it is what shows that the device is well";
    EXPECT_EQ(health(), std::pair(200, std::string()));
  }
}

TEST_F(ServiceTest, StepsThatWorkBetweenFailedOnesCount) {
  for (int i = 0; i < 6; ++i) {
    faults_->set({Call::kCollect, 1, How::kOnce});
    EXPECT_TRUE(has(execute(), "CUDA_ERROR"));
    EXPECT_TRUE(has(execute(), "event: end"));
    EXPECT_EQ(health().first, 200);
  }
}

TEST_F(ServiceTest, AResidencyCheckThatWorksPutsAFailingDeviceOnProbation) {
  faults_->set({Call::kSubmit, 1, How::kAlways});
  for (int i = 0; i < 3; ++i) execute();
  EXPECT_EQ(health().first, 503);
  EXPECT_EQ(ask("GET", "/v1/residency").status, 200);
  EXPECT_EQ(health().first, 200);
  EXPECT_TRUE(has(execute(), "CUDA_ERROR"));
  EXPECT_EQ(health().first, 503);
}

TEST_F(ServiceTest, AResidencyCheckThatThrowsIsClearedByOneThatWorks) {
  faults_->set({Call::kResidency, 1, How::kOnce});
  EXPECT_EQ(ask("GET", "/v1/residency").status, 500);
  EXPECT_EQ(health(), std::pair(503, std::string("the residency check failed: a failure made on purpose")));
  EXPECT_TRUE(has(execute(), "takes no new work"));
  EXPECT_EQ(ask("GET", "/v1/residency").status, 200);
  EXPECT_EQ(health(), std::pair(200, std::string()));
  EXPECT_TRUE(has(execute(), "event: end"));
}

TEST_F(ServiceTest, AFlippedWeightIsForGood) {
  faults_->set({Call::kResidency, 1, How::kFlipped});
  EXPECT_EQ(ask("GET", "/v1/residency").status, 503);
  faults_->set({});
  EXPECT_EQ(ask("GET", "/v1/residency").status, 503);
  EXPECT_EQ(health().first, 503);
  EXPECT_TRUE(has(execute(), "takes no new work"));
}

TEST_F(ServiceTest, DrainingIsNotReadyAndSaysSo) {
  service_.start_draining();
  EXPECT_EQ(health(), std::pair(503, std::string("shutting down")));
  EXPECT_TRUE(has(execute(), "SHUTTING_DOWN"));
}

}  // namespace
}  // namespace orcd::server
