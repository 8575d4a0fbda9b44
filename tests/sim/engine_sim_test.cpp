// The real scheduler, pages and channels under a seeded clock and device: whatever arrives, is cancelled,
// reads slowly or leaves, every promise holds at every step.
#include <gtest/gtest.h>

#include <random>

#include "support/core_harness.h"

namespace orcd::engine {
namespace {

using test::CoreHarness;
using test::FakeOptions;
using test::Reader;

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : rng_(seed), h_(options(seed)) {
    if (one_in(4)) {
      h_.executor.on_collect = [this](uint32_t) { maybe_fail(); };
      h_.executor.on_submit = [this](uint32_t) { maybe_fail(); };
      h_.executor.on_begin = [this](uint32_t) { maybe_fail(); };
    }
  }

  void run() {
    for (int step = 0; step < 600; ++step) {
      if (step < 400 && one_in(6)) arrive();
      disturb();
      h_.core->turn();
      h_.now += std::chrono::milliseconds(1 + rng_() % 10);
      for (Client& client : clients_) read(client);
      check();
      if (testing::Test::HasFatalFailure()) return;
    }
    fails_ = false;
    for (Client& client : clients_) client.speed = 100;
    for (int step = 0; step < 20000 && !h_.core->idle(); ++step) {
      h_.core->turn();
      for (Client& client : clients_) read(client);
      check();
      if (testing::Test::HasFatalFailure()) return;
    }
    finish();
  }

  uint64_t n_preemptions() const { return h_.core->scheduler().n_preemptions(); }
  uint64_t n_complete() const { return n_complete_; }

 private:
  struct Client {
    Reader reader;
    uint32_t speed;  // reads up to so many events a step
    bool left = false;
    std::vector<int32_t> expected;
  };

  static FakeOptions options(uint64_t seed) {
    std::mt19937_64 rng(seed * 77);
    FakeOptions out;
    out.limits.context = static_cast<uint32_t>(128 + rng() % 400);
    out.limits.slots = static_cast<uint32_t>(1 + rng() % 6);
    out.limits.batch_tokens = static_cast<uint32_t>(1 + rng() % 80);
    out.limits.logits_rows = static_cast<uint32_t>(1 + rng() % out.limits.slots);
    out.limits.kv_pages = static_cast<uint32_t>(2 + rng() % 16);
    out.depth = static_cast<uint32_t>(1 + rng() % 3);
    out.end_one_in = rng() % 2 ? 80 : 0;
    out.seed = seed;
    return out;
  }

  bool one_in(uint32_t n) { return rng_() % n == 0; }

  void maybe_fail() {
    if (fails_ && one_in(150)) throw Error(ErrorCode::kInternal, "injected");
  }

  void arrive() {
    // Few distinct beginnings, so that prefixes are shared.
    const auto length = static_cast<uint32_t>(1 + rng_() % (one_in(3) ? 200 : 30));
    auto prompt = test::prompt_of(length, static_cast<uint32_t>(rng_() % 3));
    Request request = h_.request(std::move(prompt), static_cast<uint32_t>(1 + rng_() % 120));
    request.sampling.seed = rng_() % 2;
    request.ignore_end = one_in(5);
    if (one_in(6)) request.deadline = h_.now + std::chrono::milliseconds(rng_() % 300);
    try {
      h_.core->check(request);
    } catch (const Error&) {
      return;
    }
    auto expected = h_.expected(request);
    const uint32_t speed = one_in(3) ? 1 : 20;
    clients_.push_back({h_.add(std::move(request), 1 + rng_() % 8), speed, false, std::move(expected)});
  }

  void disturb() {
    if (clients_.empty()) return;
    Client& client = clients_[rng_() % clients_.size()];
    if (one_in(40)) client.reader.job->cancelled = true;
    if (one_in(40)) {
      client.reader.job->channel->close_reader();
      client.left = true;
    }
    if (one_in(10)) client.speed = static_cast<uint32_t>(rng_() % 5);
  }

  void read(Client& client) {
    for (uint32_t i = 0; i < client.speed && client.reader.read_one(); ++i) {
    }
  }

  void check() {
    const kv::PagePool& pool = h_.core->pool();
    ASSERT_EQ(pool.n_in_use() + pool.n_cached() + pool.n_free(), pool.n_pages());
    if (h_.core->idle()) {
      ASSERT_EQ(pool.n_in_use(), 0u);
    }
    ASSERT_LE(h_.core->scheduler().n_running(), h_.options.limits.slots);
    for (const Client& client : clients_) {
      const Reader& reader = client.reader;
      ASSERT_LE(reader.n_terminal, 1);
      ASSERT_LE(reader.n_started, 1);
      ASSERT_LE(reader.tokens.size(), client.expected.size());
      ASSERT_TRUE(std::equal(reader.tokens.begin(), reader.tokens.end(), client.expected.begin()));
      if (reader.error && reader.error->code() == ErrorCode::kInternal) {
        ASSERT_EQ(reader.error->message(), "injected");
      }
    }
  }

  void finish() {
    while (h_.core->turn()) {
    }
    ASSERT_TRUE(h_.core->idle());
    ASSERT_EQ(h_.core->scheduler().n_in_flight(), 0u);
    ASSERT_EQ(h_.core->pool().n_in_use(), 0u);
    ASSERT_EQ(h_.ended.size(), clients_.size());
    for (Client& client : clients_) {
      client.reader.read_all();
      ASSERT_EQ(client.reader.n_terminal, 1);
      if (!client.reader.end) continue;
      ++n_complete_;
      ASSERT_EQ(client.reader.tokens, client.expected);
      ASSERT_EQ(client.reader.end->tokens_out, client.expected.size());
    }
  }

  std::mt19937_64 rng_;
  CoreHarness h_;
  std::vector<Client> clients_;
  bool fails_ = true;
  uint64_t n_complete_ = 0;
};

TEST(EngineSimulation, EveryPromiseHoldsAtEveryStep) {
  uint64_t preemptions = 0, complete = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation simulation(seed);
    simulation.run();
    if (HasFatalFailure()) return;
    preemptions += simulation.n_preemptions();
    complete += simulation.n_complete();
  }
  EXPECT_GT(preemptions, 100u);  // the simulation reaches what it is for
  EXPECT_GT(complete, 5000u);
}

}  // namespace
}  // namespace orcd::engine
