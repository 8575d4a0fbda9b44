// Generations: tokens, ends, buffers, cancels, timeouts; readers that do not come; many threads.
#include <atomic>
#include <thread>

#include "unit/capi/rig.h"

namespace orcd::test {
namespace {

using Generations = CapiTest;

TEST_F(Generations, SameRequestSameTokensAndOneEnd) {
  const orcd_generation_options options = generation_options(24);
  orcd_generation* first = start(options);
  const Answer answer = read_all(first);
  EXPECT_EQ(answer.tokens.size(), 24u);
  EXPECT_EQ(answer.last, ORCD_STATUS_END);
  auto token = sized<orcd_token>();
  char text[8];
  size_t n = 0;
  EXPECT_STATUS(orcd_generation_next_token(first, 0, &token, text, sizeof text, &n), ORCD_STATUS_END);

  int32_t prompt[32];
  size_t n_prompt = 0;
  ASSERT_OK(orcd_tokenize(model_, "the hen", 7, ORCD_TOKENIZE_BOS, prompt, 32, &n_prompt));
  orcd_generation* second = nullptr;
  ASSERT_OK(orcd_generation_start_tokens(model_, prompt, n_prompt, &options, &second));
  const Answer again = read_all(second);
  EXPECT_EQ(again.tokens, answer.tokens);
  EXPECT_EQ(again.text, answer.text);

  auto one = sized<orcd_generation_result>(), two = one;
  ASSERT_OK(orcd_generation_get_result(first, &one));
  ASSERT_OK(orcd_generation_get_result(second, &two));
  EXPECT_EQ(one.stop_reason, static_cast<uint32_t>(ORCD_STOP_MAX_TOKENS));
  EXPECT_EQ(one.n_tokens, 24u);
  EXPECT_EQ(one.n_prompt_tokens, n_prompt);
  EXPECT_STREQ(one.logits_digest, two.logits_digest);
  EXPECT_EQ(std::string(one.logits_digest).size(), 32u);
  auto info = sized<orcd_model_info>();
  ASSERT_OK(orcd_model_get_info(model_, &info));
  EXPECT_STREQ(one.model_digest, info.digest);
  EXPECT_EQ(one.numerics_version, 1u);
}

// A thread that was in the call for a moment made the others NOT_READY and WRONG_STATE.
TEST_F(Generations, TheEndIsTheEndForEveryThreadAtOnce) {
  orcd_generation* generation = start(generation_options(4));
  read_all(generation);
  std::atomic<uint32_t> n_wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int turn = 0; turn < 20'000; ++turn) {
        auto token = sized<orcd_token>();
        auto result = sized<orcd_generation_result>();
        char text[64];
        size_t n_bytes = 0;
        const orcd_status status =
            i % 2 == 0 ? orcd_generation_next_token(generation, 0, &token, text, sizeof text, &n_bytes)
                       : orcd_generation_get_result(generation, &result);
        n_wrong += status != (i % 2 == 0 ? ORCD_STATUS_END : ORCD_STATUS_OK);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(n_wrong, 0u);
}

TEST_F(Generations, SeedsAreObeyedAndEchoed) {
  orcd_generation_options options = generation_options(24);
  options.temperature = 2;
  options.has_seed = 1;
  options.seed = 0xFFFFFFFFFFFFFFFF;
  orcd_generation* generation = start(options);
  const Answer first = read_all(generation);
  EXPECT_EQ(read_all(start(options)).tokens, first.tokens);
  auto result = sized<orcd_generation_result>();
  ASSERT_OK(orcd_generation_get_result(generation, &result));
  EXPECT_EQ(result.seed, options.seed);
  options.has_seed = 0;
  generation = start(options);
  EXPECT_NE(read_all(generation).tokens, first.tokens);
  ASSERT_OK(orcd_generation_get_result(generation, &result));
  options.has_seed = 1;
  options.seed = result.seed;
  EXPECT_EQ(read_all(start(options)).text, read_all(start(options)).text);
}

TEST_F(Generations, WhatIsWrongWithARequestIsToldAllAtOnce) {
  orcd_generation_options options = generation_options(0);
  options.temperature = 3;
  options.top_p = -1;
  options.top_k = 301;
  const char* const stops[5] = {"", "a", "b", "c", "d"};
  options.stop = stops;
  options.n_stop = 4;
  orcd_generation* generation = nullptr;
  EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, &options, &generation), ORCD_STATUS_INVALID_REQUEST);
  const std::string message = last_error(context_).message;
  for (const char* part : {"max_tokens must be at least 1", "temperature must be between 0 and 2, got 3",
                           "top_p must be between 0 and 1, got -1",
                           "top_k must be between 0 and 300, got 301", "stop must not be empty"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
  options = generation_options();
  options.stop = stops;
  options.n_stop = 5;
  EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, &options, &generation), ORCD_STATUS_INVALID_REQUEST);
  options.n_stop = 0;
  EXPECT_REFUSED(
      orcd_generation_start_tokens(model_, std::vector<int32_t>{5}.data(), 0, &options, &generation),
      ORCD_STATUS_INVALID_REQUEST);
  const int32_t outside[2] = {5, 300};
  EXPECT_REFUSED(orcd_generation_start_tokens(model_, outside, 2, &options, &generation),
                 ORCD_STATUS_INVALID_REQUEST);
  const std::vector<int32_t> longest(kTinyContext, 5);
  EXPECT_REFUSED(orcd_generation_start_tokens(model_, longest.data(), longest.size(), &options, &generation),
                 ORCD_STATUS_INVALID_REQUEST);
  EXPECT_EQ(generation, nullptr);
}

TEST_F(Generations, AContextAtItsLimitEndsTheGeneration) {
  orcd_model_options small = model_options();
  small.context_tokens = 512;
  orcd_model* model = load(small);
  const orcd_generation_options options = generation_options(100);
  const std::vector<int32_t> prompt(small.context_tokens - 3, 5);
  orcd_generation* generation = nullptr;
  ASSERT_OK(orcd_generation_start_tokens(model, prompt.data(), prompt.size(), &options, &generation));
  EXPECT_EQ(read_all(generation).tokens.size(), 3u);
  auto result = sized<orcd_generation_result>();
  ASSERT_OK(orcd_generation_get_result(generation, &result));
  EXPECT_EQ(result.stop_reason, static_cast<uint32_t>(ORCD_STOP_CONTEXT));
}

TEST_F(Generations, AStopTextEndsItAndWhatWasHeldBackComesWithoutAToken) {
  const std::string whole = read_all(start(generation_options(64))).text;
  ASSERT_GT(whole.size(), 8u);
  const std::string stop = whole.substr(4, 3);
  const std::string never = whole.substr(whole.size() - 2) + "\x01 never said";
  orcd_generation_options options = generation_options(64);
  const char* const stops[] = {stop.c_str()};
  options.stop = stops;
  options.n_stop = 1;
  orcd_generation* generation = start(options);
  EXPECT_EQ(read_all(generation).text, whole.substr(0, whole.find(stop)));
  auto result = sized<orcd_generation_result>();
  ASSERT_OK(orcd_generation_get_result(generation, &result));
  EXPECT_EQ(result.stop_reason, static_cast<uint32_t>(ORCD_STOP_TEXT));
  EXPECT_EQ(result.stop_text, stop);

  // The last bytes could have become this one: they come at the end, with no token.
  const char* const others[] = {never.c_str()};
  options.stop = others;
  generation = start(options);
  auto token = sized<orcd_token>();
  char text[64];
  size_t n = 0;
  std::string together;
  uint32_t pieces_without_token = 0;
  while (orcd_generation_next_token(generation, ORCD_WAIT_FOREVER, &token, text, sizeof text, &n) ==
         ORCD_STATUS_OK) {
    together.append(text, n);
    if (token.id == ORCD_NO_TOKEN) ++pieces_without_token;
    EXPECT_EQ(pieces_without_token, token.id == ORCD_NO_TOKEN ? 1u : 0u);
  }
  EXPECT_EQ(together, whole);
  EXPECT_EQ(pieces_without_token, 1u);
}

TEST_F(Generations, ATokenThatDoesNotFitTheBufferComesAgain) {
  const Answer expected = read_all(start(generation_options(16)));
  orcd_generation* generation = start(generation_options(16));
  auto token = sized<orcd_token>();
  std::vector<int32_t> ids;
  std::string text;
  for (;;) {
    size_t n = 0;
    token.id = -99;
    orcd_status status = orcd_generation_next_token(generation, ORCD_WAIT_FOREVER, &token, nullptr, 0, &n);
    if (status == ORCD_STATUS_END) break;
    ASSERT_EQ(status, ORCD_STATUS_BUFFER_TOO_SMALL);
    EXPECT_EQ(token.id, -99);
    std::string buffer(n + 1, '#');
    const size_t needed = n;
    ASSERT_OK(orcd_generation_next_token(generation, 0, &token, buffer.data(), buffer.size(), &n));
    EXPECT_EQ(n, needed);
    EXPECT_EQ(token.index, ids.size());
    ids.push_back(token.id);
    text.append(buffer, 0, n);
  }
  EXPECT_EQ(ids, expected.tokens);
  EXPECT_EQ(text, expected.text);
}

TEST_F(Generations, TheResultWaitsForTheEnd) {
  orcd_generation* generation = start(generation_options(4));
  auto result = sized<orcd_generation_result>();
  EXPECT_REFUSED(orcd_generation_get_result(generation, &result), ORCD_STATUS_WRONG_STATE);
  EXPECT_EQ(read_all(generation).last, ORCD_STATUS_END);
  EXPECT_STATUS(orcd_generation_get_result(generation, &result), ORCD_STATUS_OK);
}

TEST_F(Generations, CancellingEndsItAndAgainDoesNothing) {
  orcd_generation* generation = start(generation_options(kEndless));
  auto token = sized<orcd_token>();
  char text[64];
  size_t n = 0;
  ASSERT_OK(orcd_generation_next_token(generation, ORCD_WAIT_FOREVER, &token, text, sizeof text, &n));
  EXPECT_STATUS(orcd_generation_cancel(generation), ORCD_STATUS_OK);
  EXPECT_STATUS(orcd_generation_cancel(generation), ORCD_STATUS_OK);
  const Answer rest = read_all(generation);
  EXPECT_LT(rest.tokens.size(), kEndless - 1);
  EXPECT_REFUSED(rest.last, ORCD_STATUS_CANCELLED);
  EXPECT_REFUSED(read_all(generation).last, ORCD_STATUS_CANCELLED);  // again and again
  EXPECT_STATUS(orcd_generation_cancel(generation), ORCD_STATUS_OK);

  orcd_generation* complete = start(generation_options(2));
  EXPECT_EQ(read_all(complete).last, ORCD_STATUS_END);
  EXPECT_STATUS(orcd_generation_cancel(complete), ORCD_STATUS_OK);
  EXPECT_EQ(read_all(complete).last, ORCD_STATUS_END);
}

// One slot, and a generation in it that takes a while: the second one waits.
TEST_F(Generations, AWaitEndsWithItsTimeoutAndARequestWithItsOwn) {
  orcd_model_options options = model_options();
  options.n_slots = 1;
  options.max_queue = 1;
  orcd_model* model = load(options);
  orcd_generation* running = start(model, generation_options(kEndless));
  auto token = sized<orcd_token>();
  char text[64];
  size_t n = 0;
  ASSERT_OK(orcd_generation_next_token(running, ORCD_WAIT_FOREVER, &token, text, sizeof text, &n));
  orcd_generation_options hasty = generation_options(4);
  hasty.timeout_ms = 1;
  orcd_generation* waiting = start(model, hasty);
  orcd_generation* third = nullptr;
  EXPECT_REFUSED(orcd_generation_start(model, "a", 1, &hasty, &third), ORCD_STATUS_OVERLOADED);
  EXPECT_EQ(last_error().retriable, 1u);
  const Answer answer = read_all(waiting);
  EXPECT_TRUE(answer.tokens.empty());
  EXPECT_REFUSED(answer.last, ORCD_STATUS_INFERENCE_TIMEOUT);
  orcd_generation* patient = start(model, generation_options(4));
  EXPECT_STATUS(orcd_generation_next_token(patient, 0, &token, text, sizeof text, &n), ORCD_STATUS_NOT_READY);
  EXPECT_STATUS(orcd_generation_next_token(patient, 1, &token, text, sizeof text, &n), ORCD_STATUS_NOT_READY);
  EXPECT_STATUS(orcd_generation_free(running), ORCD_STATUS_OK);
  EXPECT_EQ(read_all(patient).tokens.size(), 4u);
}

TEST_F(Generations, ThoseThatNobodyReadsHoldNobodyUp) {
  std::vector<orcd_generation*> unread;
  for (int i = 0; i < 8; ++i) unread.push_back(start(generation_options(600)));
  EXPECT_EQ(read_all(start(generation_options(8))).tokens.size(), 8u);
  // They ran to their end on their own: pages and slots are free again.
  auto health = sized<orcd_model_health>();
  do {
    ASSERT_OK(orcd_model_get_health(model_, &health));
    std::this_thread::yield();
  } while (health.n_running + health.n_waiting != 0);
  EXPECT_EQ(health.n_complete, 9u);
  EXPECT_EQ(health.n_kv_pages_used, 0u);
  for (orcd_generation* generation : unread) EXPECT_EQ(read_all(generation).tokens.size(), 600u);
}

TEST_F(Generations, ManyThreadsGetTheSameTokens) {
  const std::vector<int32_t> expected = read_all(start(generation_options(32))).tokens;
  std::atomic<int> equal = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 8; ++i) {
        orcd_generation* generation = start(generation_options(32));
        if (read_all(generation).tokens == expected) ++equal;
        EXPECT_STATUS(orcd_generation_free(generation), ORCD_STATUS_OK);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, 64);
}

TEST_F(Generations, ReadersOfOneGenerationShareItsTokens) {
  std::vector<int32_t> expected = read_all(start(generation_options(400))).tokens;
  orcd_generation* generation = start(generation_options(400));
  std::vector<Answer> answers(4);
  std::vector<std::thread> threads;
  for (Answer& answer : answers) threads.emplace_back([&] { answer = read_all(generation); });
  for (std::thread& thread : threads) thread.join();
  std::vector<int32_t> together;
  for (const Answer& answer : answers) {
    EXPECT_EQ(answer.last, ORCD_STATUS_END);
    together.insert(together.end(), answer.tokens.begin(), answer.tokens.end());
  }
  std::sort(together.begin(), together.end());
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(together, expected);
}

// Each of them frees what others read: every call ends with a status that says so.
TEST_F(Generations, FreeingAnythingFromAnotherThreadEndsTheWaitForATokenOfIt) {
  enum class Freed { kGeneration, kModel, kContext };
  for (const Freed freed : {Freed::kGeneration, Freed::kModel, Freed::kContext}) {
    orcd_context* context = nullptr;
    orcd_model* model = nullptr;
    orcd_model_options options = model_options();
    options.n_slots = 1;
    ASSERT_OK(orcd_context_create(&context));
    ASSERT_OK(orcd_model_load(context, &options, &model));
    start(model, generation_options(kEndless));
    orcd_generation* waiting = start(model, generation_options(kEndless));
    std::atomic<bool> reading = false;
    Answer answer;
    std::thread reader([&] {
      reading = true;
      answer = read_all(waiting);
    });
    while (!reading) std::this_thread::yield();
    if (freed == Freed::kGeneration) EXPECT_STATUS(orcd_generation_free(waiting), ORCD_STATUS_OK);
    if (freed == Freed::kModel) EXPECT_STATUS(orcd_model_unload(model), ORCD_STATUS_OK);
    if (freed == Freed::kContext) EXPECT_STATUS(orcd_context_destroy(context), ORCD_STATUS_OK);
    reader.join();
    EXPECT_TRUE(answer.last == ORCD_STATUS_CANCELLED || answer.last == ORCD_STATUS_INVALID_HANDLE)
        << name_of(answer.last);
    if (freed != Freed::kContext) EXPECT_STATUS(orcd_context_destroy(context), ORCD_STATUS_OK);
  }
}

TEST_F(Generations, AContextCanBeDestroyedWhileEverythingIsInUse) {
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> odd = 0;
  std::vector<std::thread> threads;
  const auto allowed = [&](orcd_status status) {
    if (status != ORCD_STATUS_OK && status != ORCD_STATUS_INVALID_HANDLE && status != ORCD_STATUS_CANCELLED &&
        status != ORCD_STATUS_END && status != ORCD_STATUS_SHUTTING_DOWN && status != ORCD_STATUS_OVERLOADED)
      ++odd;
    return status;
  };
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      const orcd_model_options options = model_options();
      const orcd_generation_options wanted = generation_options(50);
      auto residency = sized<orcd_residency>();
      while (!stop) {
        orcd_model* model = model_;
        if (t == 0 && allowed(orcd_model_load(context_, &options, &model)) != ORCD_STATUS_OK) break;
        orcd_generation* generation = nullptr;
        if (allowed(orcd_generation_start(model, "a", 1, &wanted, &generation)) == ORCD_STATUS_OK)
          allowed(read_all(generation).last);
        if (t == 1) allowed(orcd_model_check_residency(model, &residency));
        if (t == 0) allowed(orcd_model_unload(model));
      }
    });
  auto health = sized<orcd_model_health>();
  do ASSERT_OK(orcd_model_get_health(model_, &health));
  while (health.n_complete < 5);
  EXPECT_STATUS(orcd_context_destroy(context_), ORCD_STATUS_OK);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  context_ = nullptr;  // only now: a thread that loads reads it until it is told
  EXPECT_EQ(odd, 0u);
  orcd_context* context = nullptr;
  ASSERT_OK(orcd_context_create(&context));
  auto memory = sized<orcd_process_memory>();
  ASSERT_OK(orcd_process_get_memory(context, &memory));
  EXPECT_EQ(memory.device_bytes, 0u);
  EXPECT_STATUS(orcd_context_destroy(context), ORCD_STATUS_OK);
}

TEST(Contexts, ManyThreadsCreateAndDestroyThemAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> loaded = 0;
  for (int t = 0; t < 6; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) {
        orcd_context* context = nullptr;
        EXPECT_STATUS(orcd_context_create(&context), ORCD_STATUS_OK);
        orcd_model* model = nullptr;
        const orcd_model_options options = model_options();
        if (orcd_model_load(context, &options, &model) == ORCD_STATUS_OK) ++loaded;
        EXPECT_STATUS(orcd_context_destroy(context), ORCD_STATUS_OK);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(loaded, 30);
}

TEST(Contexts, OneOfTwoThreadsThatDestroyOneSucceeds) {
  for (int i = 0; i < 50; ++i) {
    orcd_context* context = nullptr;
    ASSERT_OK(orcd_context_create(&context));
    std::atomic<int> n_ok = 0, n_invalid = 0;
    const auto destroy = [&] {
      const orcd_status status = orcd_context_destroy(context);
      ++(status == ORCD_STATUS_OK ? n_ok : n_invalid);
      EXPECT_TRUE(status == ORCD_STATUS_OK || status == ORCD_STATUS_INVALID_HANDLE);
    };
    std::thread one(destroy), two(destroy);
    one.join();
    two.join();
    EXPECT_EQ(n_ok, 1);
  }
}

}  // namespace
}  // namespace orcd::test
