#include "engine/engine.h"

#include <gtest/gtest.h>

#include <semaphore>
#include <thread>

#include "support/core_harness.h"

namespace orcd::engine {
namespace {

using namespace std::chrono_literals;
using test::FakeExecutor;
using test::FakeOptions;
using test::FakeTokenizer;
using test::prompt_of;

struct Answer {
  std::vector<int32_t> tokens;
  int n_started = 0, n_terminal = 0;
  std::optional<EndEvent> end;
  std::optional<ErrorCode> error;
};

Answer read(Generation& generation) {
  Answer out;
  while (const auto event = generation.channel().pop()) {
    if (std::holds_alternative<StartedEvent>(*event)) ++out.n_started;
    if (const auto* token = std::get_if<TokenEvent>(&*event)) out.tokens.push_back(token->id);
    if (const auto* end = std::get_if<EndEvent>(&*event)) {
      ++out.n_terminal;
      out.end = *end;
    }
    if (const auto* error = std::get_if<ErrorEvent>(&*event)) {
      ++out.n_terminal;
      out.error = error->error.code();
    }
  }
  return out;
}

Request request(const std::string& id, uint32_t max_tokens = 20) {
  Request out;
  out.id = id;
  out.prompt_tokens = prompt_of(10);
  out.max_tokens = max_tokens;
  return out;
}

// An engine whose device waits at every step until it is let go.
struct Held {
  explicit Held(FakeOptions options = {}, EngineOptions engine_options = {}, bool hold = true) {
    auto executor = std::make_unique<FakeExecutor>(options);
    if (hold) executor->on_collect = [this](uint32_t) { steps.acquire(); };
    tokenizer = std::make_shared<FakeTokenizer>(static_cast<int32_t>(options.n_vocab));
    engine = std::make_unique<Engine>(std::move(executor), nullptr, tokenizer, engine_options);
  }
  ~Held() { let_go(); }
  void let_go() { steps.release(1 << 20); }
  ErrorCode refused(Request r) {
    try {
      const auto generation = engine->submit(std::move(r));
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  }
  std::counting_semaphore<> steps{0};
  std::shared_ptr<FakeTokenizer> tokenizer;
  std::unique_ptr<Engine> engine;
};

TEST(Engine, StreamsFromManyThreadsAtOnce) {
  FakeOptions options;
  options.depth = 2;
  Held h(options, {}, false);
  std::vector<std::thread> threads;
  std::atomic<int> equal = 0;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; i < 20; ++i) {
        Request r = request(std::to_string(t) + "/" + std::to_string(i), 25);
        r.prompt_tokens = prompt_of(5 + 9 * t, i);
        const auto generation = h.engine->submit(r);
        const Answer answer = read(*generation);
        if (answer.n_terminal == 1 && answer.end && answer.tokens == test::expected_tokens(options, r, 512))
          ++equal;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, 160);
  EXPECT_TRUE(h.engine->wait_idle(10s));
  const EngineStats stats = h.engine->stats();
  EXPECT_EQ(stats.requests_ok, 160u);
  EXPECT_EQ(stats.kv_pages_used, 0u);
  EXPECT_EQ(stats.kv_pages_total, 32u);
  EXPECT_EQ(stats.tokens_generated, 160u * 25);
  EXPECT_EQ(stats.running + stats.waiting, 0u);
  EXPECT_TRUE(stats.healthy);
}

TEST(Engine, CancelByIdEndsTheStreamOnce) {
  Held h;
  const auto generation = h.engine->submit(request("a", 400));
  EXPECT_FALSE(h.engine->cancel("b"));
  EXPECT_TRUE(h.engine->cancel("a"));
  h.let_go();
  const Answer answer = read(*generation);
  EXPECT_EQ(answer.error, ErrorCode::kCancelled);
  EXPECT_EQ(answer.n_terminal, 1);
  EXPECT_FALSE(h.engine->cancel("a"));
  generation->cancel();
}

TEST(Engine, DroppingTheReaderFreesItsPages) {
  Held h;
  h.engine->submit(request("a", 400)).reset();
  h.let_go();
  EXPECT_TRUE(h.engine->wait_idle(10s));
  EXPECT_EQ(h.engine->stats().kv_pages_used, 0u);
  EXPECT_EQ(h.engine->stats().requests_cancelled, 1u);
}

TEST(Engine, IdsAreUniqueAmongActiveRequestsAndFreeAtTheTerminalEvent) {
  Held h;
  auto generation = h.engine->submit(request("a"));
  EXPECT_EQ(h.refused(request("a")), ErrorCode::kInvalidRequest);
  h.let_go();
  EXPECT_TRUE(read(*generation).end.has_value());
  generation = h.engine->submit(request("a"));
  EXPECT_TRUE(read(*generation).end.has_value());
}

TEST(Engine, FullQueueIsOverloaded) {
  FakeOptions options;
  options.limits.slots = 1;
  Held h(options, {.max_queue = 2});
  std::vector<std::unique_ptr<Generation>> generations;
  generations.push_back(h.engine->submit(request("0")));
  while (h.engine->stats().running == 0) std::this_thread::yield();
  generations.push_back(h.engine->submit(request("1")));
  generations.push_back(h.engine->submit(request("2")));
  EXPECT_EQ(h.refused(request("3")), ErrorCode::kOverloaded);
  h.let_go();
  for (const auto& generation : generations) EXPECT_TRUE(read(*generation).end.has_value());
}

TEST(Engine, StopAcceptingRefusesNewWorkAndFinishesWhatIsActive) {
  Held h;
  const auto generation = h.engine->submit(request("a"));
  h.engine->stop_accepting();
  EXPECT_EQ(h.refused(request("b")), ErrorCode::kShuttingDown);
  EXPECT_FALSE(h.engine->wait_idle(0ms));
  h.let_go();
  EXPECT_TRUE(h.engine->wait_idle(10s));
  EXPECT_TRUE(read(*generation).end.has_value());
}

TEST(Engine, DestructionEndsActiveRequestsAndGenerationsMayOutliveIt) {
  auto h = std::make_unique<Held>();
  const auto running = h->engine->submit(request("a", 400));
  std::vector<std::unique_ptr<Generation>> others;
  for (int i = 0; i < 8; ++i) others.push_back(h->engine->submit(request(std::to_string(i))));
  h->let_go();
  h->engine.reset();
  const Answer answer = read(*running);
  EXPECT_EQ(answer.n_terminal, 1);
  for (const auto& other : others) EXPECT_EQ(read(*other).n_terminal, 1);
  running->cancel();
}

TEST(Engine, SlowReaderIsPausedAndLosesNothing) {
  FakeOptions options;
  Held h(options, {.channel_capacity = 4}, false);
  const Request slow = request("slow", 100);
  const auto generation = h.engine->submit(slow);
  const auto quick = h.engine->submit(request("quick", 4));  // fills its channel and no more
  while (!generation->channel().behind()) std::this_thread::yield();
  const Answer answer = read(*generation);
  EXPECT_EQ(answer.tokens, test::expected_tokens(options, slow, 512));
  EXPECT_TRUE(answer.end.has_value());
  EXPECT_TRUE(read(*quick).end.has_value());
}

TEST(Engine, AsManySlowReadersAsThereAreSlotsAndPlacesInTheQueueHoldNobodyUp) {
  FakeOptions options;
  options.limits.slots = 2;
  Held h(options, {.max_queue = 2, .channel_capacity = 4}, false);
  std::vector<Request> requests;
  std::vector<std::unique_ptr<Generation>> slow;
  for (int i = 0; i < 8; ++i) {
    requests.push_back(request(std::to_string(i), 100));
    slow.push_back(h.engine->submit(requests.back()));
    while (!slow.back()->channel().behind()) std::this_thread::yield();
  }
  const auto quick = h.engine->submit(request("quick", 3));
  EXPECT_TRUE(read(*quick).end.has_value());
  for (size_t i = 0; i < slow.size(); ++i) {
    const Answer answer = read(*slow[i]);
    EXPECT_EQ(answer.tokens, test::expected_tokens(options, requests[i], 512));
    EXPECT_EQ(answer.n_started, 1);
    EXPECT_TRUE(answer.end.has_value());
  }
}

TEST(Engine, DeadlineIsKeptWhileTheReaderIsBehind) {
  Held h({}, {.channel_capacity = 2}, false);
  Request late = request("late", 400);
  late.deadline = std::chrono::steady_clock::now() + 30ms;
  std::binary_semaphore terminal(0);
  std::unique_ptr<Generation> generation;
  std::atomic<int> events = 0;
  generation = h.engine->submit(late, [&] { ++events; });
  EXPECT_TRUE(h.engine->wait_idle(10s));
  EXPECT_EQ(read(*generation).error, ErrorCode::kInferenceTimeout);
  EXPECT_EQ(events, 3);  // started, one token, the error
}

TEST(Engine, DeviceErrorMakesItUnhealthyAndRefusesFurtherWork) {
  auto executor = std::make_unique<FakeExecutor>(FakeOptions{});
  executor->on_submit = [device = executor.get()](uint32_t call) {
    if (call < 3) return;
    device->is_lost = true;
    throw Error(ErrorCode::kCudaError, "lost");
  };
  Engine engine(std::move(executor), nullptr, std::make_shared<FakeTokenizer>(100));
  const auto generation = engine.submit(request("a"));
  EXPECT_EQ(read(*generation).error, ErrorCode::kCudaError);
  EXPECT_TRUE(engine.wait_idle(10s));
  EXPECT_FALSE(engine.stats().healthy);
  EXPECT_NE(engine.stats().unhealthy_reason.find("lost"), std::string::npos);
  try {
    engine.submit(request("b"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCudaError);
  }
}

TEST(Engine, ResidencyIsCheckedBetweenSteps) {
  FakeOptions options;
  options.depth = 2;
  Held h(options, {}, false);
  const auto generation = h.engine->submit(request("a", 400));
  for (int i = 0; i < 20; ++i) {
    const auto arenas = h.engine->check_residency();
    ASSERT_EQ(arenas.size(), 1u);
    EXPECT_EQ(arenas[0].digest, arenas[0].expected);
  }
  EXPECT_EQ(read(*generation).tokens.size(), 400u);
  EXPECT_EQ(h.engine->model_digest().size(), 32u);
}

}  // namespace
}  // namespace orcd::engine
