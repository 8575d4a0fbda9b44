// Every device call of opening, loading and a request failed: once, for ever, and with the context lost. One
// Error, nothing kept, and what comes next has the same bits.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "engine/engine.h"
#include "gpu/rig.h"
#include "support/fake_tokenizer.h"

namespace orcd::cuda {
namespace {

using namespace std::chrono_literals;
using test::Drawn;
using test::Rig;
using test::run_request;

struct Mode {
  const char* name;
  bool once;
  cudaError_t error;
};
constexpr Mode kModes[] = {{"once", true, cudaErrorMemoryAllocation},
                           {"for ever", false, cudaErrorMemoryAllocation},
                           {"lost", true, cudaErrorIllegalAddress}};

bool expected_code(const Error& error) {
  return error.code() == ErrorCode::kCudaError || error.code() == ErrorCode::kInsufficientVram;
}

void report(const char* what, uint64_t n) {
  std::printf("%s: %llu indices x %zu modes, %d failures\n", what, static_cast<unsigned long long>(n),
              std::size(kModes), testing::Test::HasFailure() ? 1 : 0);
}

TEST(Faults, EachCallOfOpeningTheDevice) {
  uint64_t n = 0;
  Drawn want;
  {
    Rig rig;
    n = rig.calls().total();
    want = run_request(*rig.load());
  }
  for (const Mode& mode : kModes) {
    for (uint64_t i = 1; i <= n; ++i) {
      try {
        Rig rig({.first = i, .once = mode.once, .error = mode.error});
        ADD_FAILURE() << mode.name << " " << i << ": opened";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kCudaError) << error.line();
      }
    }
  }
  Rig rig;
  EXPECT_EQ(run_request(*rig.load()), want);
  report("open", n);
}

TEST(Faults, EachCallOfALoad) {
  Rig rig;
  const Drawn want = run_request(*rig.load());
  const device::ResolvedLimits limits = rig.device->resolve(*rig.model.program, rig.limits);
  const uint64_t free = rig.device->free_bytes(), before = rig.calls().total();
  const auto load = [&] { return rig.device->load(rig.model.program, limits, {}); };
  std::unique_ptr<device::Executor> executor = load();
  const uint64_t n = rig.calls().total() - before;
  executor.reset();
  for (const Mode& mode : kModes) {
    for (uint64_t i = 1; i <= n; ++i) {
      rig.calls().set_fault({.first = i, .once = mode.once, .error = mode.error});
      try {
        executor = load();
        // Only what gives something back may go on: it is done all the same.
        EXPECT_TRUE(mode.once) << mode.name << " " << i;
      } catch (const Error& error) {
        EXPECT_TRUE(expected_code(error)) << error.line();
        EXPECT_EQ(rig.calls().lost(), mode.error == cudaErrorIllegalAddress);
      }
      executor.reset();
      EXPECT_EQ(rig.calls().holdings(), Holdings{}) << mode.name << " " << i;
      rig.calls().set_fault({});
      EXPECT_EQ(rig.device->free_bytes(), free) << mode.name << " " << i;
      EXPECT_EQ(run_request(*load()), want) << mode.name << " " << i;
    }
  }
  report("load", n);
}

TEST(Faults, EachCallOfARequestOnTheExecutor) {
  Rig rig;
  const auto executor = rig.load();
  const Drawn want = run_request(*executor);
  const uint64_t before = rig.calls().total();
  EXPECT_EQ(run_request(*executor), want);
  const uint64_t n = rig.calls().total() - before;
  const Holdings held = rig.calls().holdings();
  for (const Mode& mode : kModes) {
    for (uint64_t i = 1; i <= n; ++i) {
      rig.calls().set_fault({.first = i, .once = mode.once, .error = mode.error});
      try {
        run_request(*executor);
        ADD_FAILURE() << mode.name << " " << i << ": nothing failed";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kCudaError) << error.line();
        EXPECT_EQ(executor->lost(), mode.error == cudaErrorIllegalAddress);
      }
      rig.calls().set_fault({});
      EXPECT_EQ(run_request(*executor), want) << mode.name << " " << i;
      EXPECT_EQ(rig.calls().holdings(), held);
    }
  }
  report("request on the executor", n);
}

struct Answer {
  std::vector<int32_t> tokens;
  std::string logits_digest;
  std::optional<ErrorCode> error;
  int n_terminal = 0;
  bool operator==(const Answer&) const = default;
};

Answer read(engine::Generation& generation) {
  Answer out;
  while (const auto event = generation.channel().pop()) {
    if (const auto* token = std::get_if<engine::TokenEvent>(&*event)) out.tokens.push_back(token->id);
    if (const auto* end = std::get_if<engine::EndEvent>(&*event)) {
      ++out.n_terminal;
      out.logits_digest = end->receipt.logits_digest;
    }
    if (const auto* error = std::get_if<engine::ErrorEvent>(&*event)) {
      ++out.n_terminal;
      out.error = error->error.code();
    }
  }
  return out;
}

struct Served {
  Served() : engine(rig.load(), rig.model.program, std::make_shared<test::FakeTokenizer>(300)) {}
  // Four requests over three slots and eight pages; idle again afterwards.
  std::vector<Answer> all() {
    std::vector<std::unique_ptr<engine::Generation>> generations;
    std::vector<Answer> answers(4);
    for (uint32_t i = 0; i < 4; ++i) {
      engine::Request request;
      request.id = "job-" + std::to_string(i);
      request.prompt_tokens = test::random_tokens(20 + 30 * i, 300, i + 1);
      request.max_tokens = 8;
      request.ignore_end = true;
      request.sampling.temperature = i % 2 ? 0.9f : 0.0f;
      request.sampling.seed = i;
      try {
        generations.push_back(engine.submit(std::move(request)));
      } catch (const Error& error) {
        answers[i].error = error.code();
        answers[i].n_terminal = 1;
        generations.push_back(nullptr);
      }
    }
    for (uint32_t i = 0; i < 4; ++i)
      if (generations[i]) answers[i] = read(*generations[i]);
    EXPECT_TRUE(engine.wait_idle(20s));
    return answers;
  }
  Rig rig;
  engine::Engine engine;
};

TEST(Faults, EachCallOfRequestsThroughTheEngine) {
  Served s;
  const std::vector<Answer> want = s.all();
  const uint64_t before = s.rig.calls().total();
  EXPECT_EQ(s.all(), want);
  const uint64_t n = s.rig.calls().total() - before;
  const Holdings held = s.rig.calls().holdings();
  for (const bool once : {true, false}) {
    for (uint64_t i = 1; i <= n; ++i) {
      s.rig.calls().set_fault({.first = i, .once = once, .error = cudaErrorMemoryAllocation});
      const std::vector<Answer> got = s.all();
      for (size_t k = 0; k < got.size(); ++k) {
        EXPECT_EQ(got[k].n_terminal, 1) << i;
        if (got[k].error) {
          EXPECT_EQ(got[k].error, ErrorCode::kCudaError) << i;
        } else {
          EXPECT_EQ(got[k], want[k]) << i;
        }
      }
      s.rig.calls().set_fault({});
      EXPECT_EQ(s.all(), want) << (once ? "once " : "for ever ") << i;
    }
  }
  EXPECT_TRUE(s.engine.stats().healthy);
  EXPECT_EQ(s.engine.stats().kv_pages_used, 0u);
  EXPECT_EQ(s.rig.calls().holdings(), held);
  std::printf("requests through the engine: %llu indices x 2 modes, %d failures\n",
              static_cast<unsigned long long>(n), testing::Test::HasFailure() ? 1 : 0);
}

TEST(Faults, ALostContextEndsEveryStreamOnce) {
  for (const uint64_t first : {1, 7, 30, 60}) {
    Served s;
    s.rig.calls().set_fault({.first = first, .once = true, .error = cudaErrorLaunchFailure});
    size_t n_failed = 0;
    for (const Answer& answer : s.all()) {
      EXPECT_EQ(answer.n_terminal, 1);
      n_failed += answer.error == ErrorCode::kCudaError;
    }
    EXPECT_GE(n_failed, 1u);
    EXPECT_FALSE(s.engine.stats().healthy);
    EXPECT_NE(s.engine.stats().unhealthy_reason.find("CUDA_ERROR"), std::string::npos);
  }
}

}  // namespace
}  // namespace orcd::cuda
