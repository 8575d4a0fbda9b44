#include "engine/core.h"

#include <gtest/gtest.h>

#include "support/core_harness.h"

namespace orcd::engine {
namespace {

using test::CoreHarness;
using test::FakeOptions;
using test::prompt_of;
using test::Reader;

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

// Every promise holds for a device that is waited for and for one that runs a step ahead.
class CoreAtDepth : public testing::TestWithParam<uint32_t> {
 protected:
  FakeOptions options() const {
    FakeOptions out;
    out.depth = GetParam();
    return out;
  }
};
INSTANTIATE_TEST_SUITE_P(Pipeline, CoreAtDepth, testing::Values(1u, 2u, 3u));

TEST_P(CoreAtDepth, GivesTheTokensThatFollowThePrompt) {
  CoreHarness h(options());
  Reader reader = h.add(h.request(prompt_of(10), 20));
  h.run();
  reader.read_all();
  EXPECT_EQ(reader.tokens, h.expected(reader.job->request));
  EXPECT_EQ(reader.n_started, 1);
  ASSERT_TRUE(reader.end.has_value());
  EXPECT_EQ(reader.end->reason, StopReason::kMaxTokens);
  EXPECT_EQ(reader.end->tokens_out, 20u);
  EXPECT_EQ(reader.end->prompt_tokens, 10u);
  EXPECT_EQ(reader.end->receipt.model_digest, "model");
  EXPECT_TRUE(h.core->idle());
  EXPECT_EQ(h.core->pool().n_in_use(), 0u);
  EXPECT_EQ(h.counters.tokens_generated, 20u);
}

TEST_P(CoreAtDepth, BatchMatesAndChunksDoNotChangeTokensOrDigests) {
  std::vector<std::string> digests;
  std::vector<std::vector<int32_t>> tokens;
  for (const uint32_t batch_tokens : {4u, 7u, 64u}) {
    for (const uint32_t mates : {0u, 1u, 5u}) {
      FakeOptions o = options();
      o.limits.batch_tokens = batch_tokens;
      CoreHarness h(o);
      for (uint32_t i = 0; i < mates; ++i) h.add(h.request(prompt_of(20 + i, i), 30));
      Reader reader = h.add(h.request(prompt_of(77, 50), 33));
      h.run();
      reader.read_all();
      ASSERT_TRUE(reader.end.has_value());
      digests.push_back(reader.end->receipt.logits_digest);
      tokens.push_back(reader.tokens);
      EXPECT_LE(h.executor.max_tokens_in_step, batch_tokens);
    }
  }
  for (size_t i = 1; i < digests.size(); ++i) {
    EXPECT_EQ(digests[i], digests[0]);
    EXPECT_EQ(tokens[i], tokens[0]);
  }
  EXPECT_EQ(digests[0].size(), 32u);
}

TEST_P(CoreAtDepth, EndTokenEndsAndIsNotPartOfTheOutput) {
  FakeOptions o = options();
  o.end_one_in = 10;
  CoreHarness h(o);
  Reader reader = h.add(h.request(prompt_of(5), 400));
  Request going_on = h.request(prompt_of(5), 60);
  going_on.ignore_end = true;
  Reader second = h.add(going_on);
  h.run();
  reader.read_all();
  second.read_all();
  ASSERT_TRUE(reader.end && second.end);
  EXPECT_EQ(reader.end->reason, StopReason::kEnd);
  EXPECT_EQ(reader.tokens, h.expected(reader.job->request));
  EXPECT_LT(reader.tokens.size(), 100u);
  EXPECT_EQ(second.tokens.size(), 60u);
}

TEST_P(CoreAtDepth, OnlyTheControlTokensAskedForAreShown) {
  std::vector<std::string> pieces = {"a", "<|x|>", "<|end|>"};
  while (pieces.size() < 100)
    pieces.push_back(pieces.size() % 3 ? "<|y|>" : pieces.size() % 2 ? "<|z|>" : "\xC3");
  CoreHarness h(options(), pieces);
  Request request = h.request(prompt_of(5), 60);
  for (int32_t id = 0; id < 100; ++id)
    if (pieces[static_cast<size_t>(id)] == "<|z|>") request.shown_tokens.push_back(id);
  Reader reader = h.add(request);
  h.run();
  reader.read_all();
  std::string expected;
  bool inside = false;  // a character that the mark cuts off
  for (const int32_t id : reader.tokens) {
    const std::string& piece = pieces[static_cast<size_t>(id)];
    if (piece == "<|y|>" || piece == "<|x|>") continue;
    if (inside) expected += "\uFFFD";
    inside = piece == "\xC3";
    if (!inside) expected += piece;
  }
  if (inside) expected += "\uFFFD";
  EXPECT_EQ(reader.text, expected);
  EXPECT_NE(expected.find("\uFFFD<|z|>"), std::string::npos);
}

TEST_P(CoreAtDepth, LogprobsAreThoseOfTheRowThatTheTokenWasDrawnFrom) {
  CoreHarness h(options());
  std::vector<Reader> readers;
  for (uint32_t i = 0; i < 6; ++i) {  // neighbours that ask and that do not, prompts in chunks
    Request request = h.request(prompt_of(10 + 40 * i, i), 12);
    if (i % 2 == 0) request.top_logprobs = i;
    readers.push_back(h.add(request));
  }
  h.run();
  for (uint32_t i = 0; i < 6; ++i) {
    readers[i].read_all();
    ASSERT_EQ(readers[i].tokens.size(), 12u);
    EXPECT_EQ(readers[i].tokens, h.expected(readers[i].job->request));
    std::vector<int32_t> all = readers[i].job->request.prompt_tokens;
    for (size_t t = 0; t < 12; ++t) {
      const std::vector<float> row = test::fake_row(h.options, all);
      all.push_back(readers[i].tokens[t]);
      if (i % 2) {
        EXPECT_TRUE(readers[i].logprobs[t].empty());
      } else {
        EXPECT_EQ(readers[i].logprobs[t], token_logprobs(row, all.back(), i));
      }
    }
  }
}

TEST_P(CoreAtDepth, ContextLimitEndsTheOutput) {
  FakeOptions o = options();
  o.limits.context = 100;
  CoreHarness h(o);
  Reader reader = h.add(h.request(prompt_of(90), 50));
  h.run();
  reader.read_all();
  ASSERT_TRUE(reader.end.has_value());
  EXPECT_EQ(reader.end->reason, StopReason::kContext);
  EXPECT_EQ(reader.tokens.size(), 10u);
}

TEST_P(CoreAtDepth, PreemptionByRecomputeIsLossless) {
  FakeOptions o = options();
  o.limits.kv_pages = 6;  // 384 positions for four sequences that want 190 each
  CoreHarness h(o);
  std::vector<Reader> readers;
  for (uint32_t i = 0; i < 4; ++i) readers.push_back(h.add(h.request(prompt_of(40, i * 11), 150)));
  h.run();
  for (Reader& reader : readers) {
    reader.read_all();
    ASSERT_TRUE(reader.end.has_value());
    EXPECT_EQ(reader.n_started, 1);
    EXPECT_EQ(reader.tokens, h.expected(reader.job->request));
  }
  EXPECT_EQ(h.core->pool().n_in_use(), 0u);
  EXPECT_GT(h.core->scheduler().n_preemptions(), 0u);
}

TEST_P(CoreAtDepth, FullChannelPausesThatSequenceOnly) {
  CoreHarness h(options());
  Reader slow = h.add(h.request(prompt_of(4), 50), 5);
  Reader quick = h.add(h.request(prompt_of(9), 50));
  h.run();
  quick.read_all();
  EXPECT_EQ(quick.tokens.size(), 50u);
  EXPECT_TRUE(slow.job->channel->behind());
  EXPECT_FALSE(h.core->idle());
  EXPECT_LE(h.core->pool().n_in_use(), 1u);
  while (!slow.end) {
    slow.read_all();
    h.run();
  }
  EXPECT_EQ(slow.tokens, h.expected(slow.job->request));
}

TEST_P(CoreAtDepth, SlowReadersGiveTheirSlotsToWhoWaitsAndLoseNothing) {
  FakeOptions o = options();
  o.limits.slots = 2;
  CoreHarness h(o);
  std::vector<Reader> slow;
  for (uint32_t i = 0; i < 3; ++i) slow.push_back(h.add(h.request(prompt_of(70, i), 60), 8));
  h.run();
  EXPECT_EQ(h.core->scheduler().n_preemptions(), 1u);  // only the third needed somebody else's slot
  Reader quick = h.add(h.request(prompt_of(9), 50));
  h.run();
  quick.read_all();
  EXPECT_EQ(quick.tokens, h.expected(quick.job->request));
  EXPECT_EQ(h.counters.set_aside, 2u);
  // One event at a time: the way back into a slot is gone once for half a channel, not for each event.
  const uint64_t before = h.core->scheduler().n_preemptions();
  for (bool reading = true; reading;) {
    reading = false;
    for (Reader& reader : slow) reading |= reader.read_one();
    h.run();
  }
  for (Reader& reader : slow) {
    EXPECT_EQ(reader.tokens, h.expected(reader.job->request));
    EXPECT_EQ(reader.n_started, 1);
    EXPECT_TRUE(reader.end.has_value());
  }
  EXPECT_LE(h.core->scheduler().n_preemptions() - before, 3u * 60 / 4);
  EXPECT_EQ(h.core->pool().n_in_use(), 0u);
}

TEST_P(CoreAtDepth, SlowReadersGiveTheirPagesToWhoRuns) {
  FakeOptions o = options();
  o.limits.kv_pages = 4;
  CoreHarness h(o);
  Reader slow = h.add(h.request(prompt_of(100), 60), 8);  // two pages
  h.run();
  Reader quick = h.add(h.request(prompt_of(20), 200));  // four
  h.run();
  quick.read_all();
  EXPECT_EQ(quick.tokens, h.expected(quick.job->request));
  EXPECT_EQ(h.core->scheduler().n_preemptions(), 1u);
  while (!slow.end) {
    slow.read_all();
    h.run();
  }
  EXPECT_EQ(slow.tokens, h.expected(slow.job->request));
}

TEST_P(CoreAtDepth, CancelFreesEverythingWithinOneTurn) {
  CoreHarness h(options());
  Reader running = h.add(h.request(prompt_of(200), 100));
  for (int i = 0; i < 3; ++i) h.core->turn();
  EXPECT_GT(h.core->pool().n_in_use(), 0u);
  Reader gone = h.add(h.request(prompt_of(30), 100));
  h.core->turn();
  running.job->cancelled = true;
  gone.job->channel->close_reader();
  h.core->turn();
  EXPECT_EQ(h.core->pool().n_in_use(), 0u);
  EXPECT_TRUE(h.core->idle());
  running.read_all();
  ASSERT_TRUE(running.error.has_value());
  EXPECT_EQ(running.error->code(), ErrorCode::kCancelled);
  EXPECT_EQ(running.n_terminal, 1);
  EXPECT_EQ(h.ended, (std::vector<std::string>{"job-0", "job-1"}));
  EXPECT_EQ(h.counters.requests_cancelled, 2u);
}

TEST_P(CoreAtDepth, DeadlineEndsWhatRunsAndWhatWaits) {
  FakeOptions o = options();
  o.limits.slots = 1;
  CoreHarness h(o);
  Request request = h.request(prompt_of(10), 400);
  request.deadline = h.now + std::chrono::milliseconds(20);
  Reader running = h.add(request);
  Request other = h.request(prompt_of(10), 400);
  other.deadline = h.now + std::chrono::milliseconds(15);
  Reader waiting = h.add(other);
  EXPECT_EQ(h.core->next_deadline(), other.deadline);
  h.run();
  for (Reader* reader : {&running, &waiting}) {
    reader->read_all();
    ASSERT_TRUE(reader->error.has_value());
    EXPECT_EQ(reader->error->code(), ErrorCode::kInferenceTimeout);
    EXPECT_EQ(reader->n_terminal, 1);
  }
  EXPECT_EQ(h.core->next_deadline(), Time::max());
  EXPECT_GT(running.tokens.size(), 10u);
  EXPECT_TRUE(waiting.tokens.empty());
}

TEST_P(CoreAtDepth, FailedStepEndsItsRequestsAndTheNextOneIsServed) {
  for (const int where : {0, 1, 2}) {
    CoreHarness h(options());
    bool armed = true;
    const auto fail = [&](uint32_t call) {
      if (call == (where == 0 ? 0u : 3u) && std::exchange(armed, false))
        throw Error(ErrorCode::kInternal, "injected");
    };
    (where == 0 ? h.executor.on_begin : where == 1 ? h.executor.on_submit : h.executor.on_collect) = fail;
    Reader first = h.add(h.request(prompt_of(10), 30));
    Reader second = h.add(h.request(prompt_of(12), 30));
    h.run();
    first.read_all();
    second.read_all();
    EXPECT_EQ(first.n_terminal, 1);
    EXPECT_EQ(second.n_terminal, 1);
    ASSERT_TRUE(first.error.has_value()) << where;
    EXPECT_EQ(first.error->message(), "injected");
    EXPECT_TRUE(h.core->idle());
    EXPECT_EQ(h.core->pool().n_in_use(), 0u);
    Reader next = h.add(h.request(prompt_of(10), 30));
    h.run();
    next.read_all();
    EXPECT_EQ(next.tokens, h.expected(next.job->request));
    EXPECT_TRUE(h.counters.healthy);
  }
}

TEST_P(CoreAtDepth, DeviceErrorEndsEveryStreamAndMakesTheEngineUnhealthy) {
  FakeOptions o = options();
  o.limits.slots = 1;
  CoreHarness h(o);
  h.executor.on_collect = [&h](uint32_t call) {
    if (call < 2) return;
    h.executor.is_lost = true;
    throw Error(ErrorCode::kCudaError, "the device fell off the bus");
  };
  Reader running = h.add(h.request(prompt_of(10), 30));
  Reader waiting = h.add(h.request(prompt_of(10), 30));
  h.run();
  Reader late = h.add(h.request(prompt_of(10), 30));
  for (Reader* reader : {&running, &waiting, &late}) {
    reader->read_all();
    ASSERT_TRUE(reader->error.has_value());
    EXPECT_EQ(reader->error->code(), ErrorCode::kCudaError);
    EXPECT_EQ(reader->n_terminal, 1);
  }
  EXPECT_FALSE(h.counters.healthy);
  EXPECT_TRUE(h.core->broken().has_value());
}

TEST_P(CoreAtDepth, LogitsThatAreNotFiniteEndThatRequestAlone) {
  CoreHarness h(options());
  Reader bad = h.add(h.request(prompt_of(10), 30));
  Reader good = h.add(h.request(prompt_of(12), 30));
  h.executor.non_finite = [](uint32_t slot) { return slot == 0; };
  h.run();
  bad.read_all();
  good.read_all();
  ASSERT_TRUE(bad.error.has_value());
  EXPECT_EQ(bad.error->code(), ErrorCode::kInternal);
  EXPECT_EQ(good.tokens, h.expected(good.job->request));
}

TEST_P(CoreAtDepth, PrefixHitGivesTheSameTokensForLessWork) {
  CoreHarness h(options());
  Reader first = h.add(h.request(prompt_of(200), 10));
  h.run();
  Reader second = h.add(h.request(prompt_of(200), 10));
  h.run();
  first.read_all();
  second.read_all();
  EXPECT_EQ(h.counters.prefix_hits, 192u);
  EXPECT_EQ(first.end->cached_tokens, 0u);
  EXPECT_EQ(second.end->cached_tokens, 192u);
  EXPECT_EQ(first.tokens, second.tokens);
  EXPECT_EQ(first.end->receipt.logits_digest, second.end->receipt.logits_digest);
}

TEST_P(CoreAtDepth, IsServedInOrderOfArrival) {
  FakeOptions o = options();
  o.limits.slots = 2;
  CoreHarness h(o);
  std::vector<Reader> readers;
  for (uint32_t i = 0; i < 6; ++i) readers.push_back(h.add(h.request(prompt_of(10, i), 10)));
  h.run();
  EXPECT_EQ(h.ended, (std::vector<std::string>{"job-0", "job-1", "job-2", "job-3", "job-4", "job-5"}));
}

TEST_P(CoreAtDepth, DestructionEndsWhatIsActive) {
  auto h = std::make_unique<CoreHarness>(options());
  Reader running = h->add(h->request(prompt_of(10), 30));
  h->core->turn();
  Reader waiting = h->add(h->request(prompt_of(10), 30));
  h->core.reset();
  for (Reader* reader : {&running, &waiting}) {
    reader->read_all();
    EXPECT_EQ(reader->n_terminal, 1);
    EXPECT_EQ(reader->error->code(), ErrorCode::kCancelled);
  }
}

TEST(Core, StopStringEndsAndIsLeftOut) {
  FakeOptions options;
  CoreHarness h(options);
  Request plain = h.request(prompt_of(10), 12);
  Reader all = h.add(plain);
  h.run();
  all.read_all();
  ASSERT_EQ(all.tokens.size(), 12u);
  // The text is "<a><b><c>...": stop inside the fifth token, across its border with the sixth.
  const std::string fifth = "<" + std::to_string(all.tokens[4]) + ">", sixth = std::to_string(all.tokens[5]);
  Request stopping = h.request(prompt_of(10), 12);
  stopping.stop = {"never", fifth.substr(1) + "<" + sixth.substr(0, 1)};
  Reader reader = h.add(stopping);
  h.run();
  reader.read_all();
  ASSERT_TRUE(reader.end.has_value());
  EXPECT_EQ(reader.end->reason, StopReason::kStopString);
  EXPECT_EQ(reader.end->matched_stop, stopping.stop[1]);
  EXPECT_EQ(reader.text, all.text.substr(0, all.text.find(stopping.stop[1])));
  EXPECT_EQ(reader.end->tokens_out, 6u);
}

TEST(Core, TextIsWholeUtf8AndWhatIsHeldBackComesAtTheEnd) {
  std::vector<std::string> pieces(100, "\xF0\x9F");  // never completed: two bytes of four
  CoreHarness h({}, pieces);
  Reader reader = h.add(h.request(prompt_of(3), 1));
  h.run();
  reader.read_all();
  EXPECT_EQ(reader.end->tail, "\xEF\xBF\xBD");
  CoreHarness held({}, std::vector<std::string>(100, "ab"));
  Request request = held.request(prompt_of(3), 2);
  request.stop = {"abababab"};
  Reader second = held.add(request);
  held.run();
  second.read_all();
  EXPECT_EQ(second.end->tail, "abab");
  EXPECT_EQ(second.end->reason, StopReason::kMaxTokens);
}

TEST(Core, RefusesAtOnceWhatCanNeverRun) {
  FakeOptions options;
  options.limits.context = 512;
  options.limits.kv_pages = 4;
  CoreHarness h(options);
  EXPECT_EQ(h.core->max_length(), 256u);
  const auto check = [&](std::vector<int32_t> prompt, uint32_t max_tokens) {
    return code_of([&] { h.core->check(h.request(std::move(prompt), max_tokens)); });
  };
  EXPECT_EQ(check(prompt_of(512), 1), ErrorCode::kInvalidRequest);
  EXPECT_EQ(check(prompt_of(256), 1), ErrorCode::kVramOom);
  EXPECT_EQ(check({}, 1), ErrorCode::kInvalidRequest);
  EXPECT_EQ(check({1, 100}, 1), ErrorCode::kInvalidRequest);
  EXPECT_EQ(check({1, -1}, 1), ErrorCode::kInvalidRequest);
  EXPECT_EQ(check({1}, 0), ErrorCode::kInvalidRequest);
  EXPECT_NO_THROW(h.core->check(h.request(prompt_of(255), 2048)));
  try {
    h.core->check(h.request(prompt_of(512), 1));
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(error.line().find("n_prompt_tokens=512"), std::string::npos) << error.line();
    EXPECT_NE(error.line().find("n_ctx=512"), std::string::npos) << error.line();
  }
  Reader longest = h.add(h.request(prompt_of(255), 2048));
  h.run();
  longest.read_all();
  EXPECT_EQ(longest.end->reason, StopReason::kContext);
  EXPECT_EQ(longest.tokens.size(), 1u);
}

}  // namespace
}  // namespace orcd::engine
