// The real engine on the real CPU device with failures made on purpose: who ends and how often, and what the
// next request gets.
#include <gtest/gtest.h>

#include <chrono>

#include "device/cpu/cpu_device.h"
#include "device/fault/fault_device.h"
#include "engine/engine.h"
#include "support/fake_tokenizer.h"
#include "support/synthetic_model.h"

namespace orcd::engine {
namespace {

using namespace std::chrono_literals;
using fault::Call;
using fault::Faults;
using fault::How;

struct Answer {
  std::vector<int32_t> tokens;
  std::string logits_digest;  // "" without an end
  std::optional<ErrorCode> error;
  int n_terminal = 0;
  bool operator==(const Answer&) const = default;
};

Answer read(Generation& generation) {
  Answer out;
  while (const auto event = generation.channel().pop()) {
    if (const auto* token = std::get_if<TokenEvent>(&*event)) out.tokens.push_back(token->id);
    if (const auto* end = std::get_if<EndEvent>(&*event)) {
      ++out.n_terminal;
      out.logits_digest = end->receipt.logits_digest;
    }
    if (const auto* error = std::get_if<ErrorEvent>(&*event)) {
      ++out.n_terminal;
      out.error = error->error.code();
    }
  }
  return out;
}

// Prompts longer than a step, one sequence more than slots.
constexpr uint32_t kRequests = 4;
Request request(uint32_t i) {
  Request out;
  out.id = "job-" + std::to_string(i);
  out.prompt_tokens = test::random_tokens(20 + 30 * i, 300, i + 1);
  out.max_tokens = 12;
  out.ignore_end = true;
  out.sampling.temperature = i % 2 ? 0.9f : 0.0f;
  out.sampling.repetition_penalty = 1.1f;
  out.sampling.seed = i;
  return out;
}

struct Faulty {
  Faulty() : model(test::SyntheticModel{}), faults(std::make_shared<Faults>()) {
    const auto device = cpu::open_cpu_device(2);
    device::Limits limits;
    limits.context = 256;
    limits.slots = 3;
    limits.batch_tokens = 48;
    limits.kv_cache_bytes = 8 * 64 * 2 * 2 * 64 * 2 * 2;  // eight pages: neighbours are preempted
    auto executor = device->load(model.program, device->resolve(*model.program, limits), {});
    engine = std::make_unique<Engine>(fault::make_executor(std::move(executor), faults, model.program),
                                      model.program, std::make_shared<test::FakeTokenizer>(300));
  }
  std::vector<Answer> all() {
    std::vector<Answer> answers(kRequests);
    std::vector<std::unique_ptr<Generation>> generations(kRequests);
    for (uint32_t i = 0; i < kRequests; ++i) {
      try {
        generations[i] = engine->submit(request(i));
      } catch (const Error& error) {  // the device was lost before it came
        answers[i].error = error.code();
        answers[i].n_terminal = 1;
      }
    }
    for (uint32_t i = 0; i < kRequests; ++i)
      if (generations[i]) answers[i] = read(*generations[i]);
    return answers;
  }
  test::LoadedModel model;
  std::shared_ptr<Faults> faults;
  std::unique_ptr<Engine> engine;
};

TEST(DeviceFault, AFailedStepEndsItsRequestsOnceAndTheNextGetTheSameBits) {
  Faulty f;
  const std::vector<Answer> want = f.all();
  for (const Answer& answer : want) ASSERT_EQ(answer.tokens.size(), 12u);
  for (const Call call : {Call::kBegin, Call::kSubmit, Call::kCollect}) {
    for (const uint64_t first : {1, 2, 3, 5, 9}) {
      for (const How how : {How::kOnce, How::kAlways}) {
        f.faults->set({call, first, how});
        size_t n_failed = 0;
        const std::vector<Answer> got = f.all();
        for (uint32_t i = 0; i < kRequests; ++i) {
          EXPECT_EQ(got[i].n_terminal, 1);
          if (!got[i].error) {
            EXPECT_EQ(got[i], want[i]);
            continue;
          }
          ++n_failed;
          EXPECT_EQ(got[i].error, ErrorCode::kCudaError);
        }
        EXPECT_EQ(n_failed > 0, f.faults->count(call) >= first);
        EXPECT_TRUE(how != How::kAlways || first != 1 || n_failed == kRequests);
        f.faults->set({});
        EXPECT_EQ(f.all(), want) << static_cast<int>(call) << " " << first;
      }
    }
  }
  EXPECT_TRUE(f.engine->stats().healthy);
  EXPECT_EQ(f.engine->stats().kv_pages_used, 0u);
}

TEST(DeviceFault, ALostDeviceEndsEveryStreamOnceAndRefusesFurtherWork) {
  for (const Call call : {Call::kBegin, Call::kSubmit, Call::kCollect}) {
    for (const uint64_t first : {1, call == Call::kBegin ? 2 : 4}) {
      Faulty f;
      f.faults->set({call, first, How::kLost});
      size_t n_failed = 0;
      for (const Answer& answer : f.all()) {
        EXPECT_EQ(answer.n_terminal, 1);
        // The first may have ended before the second came, and with it the call that fails.
        if (!answer.error && call == Call::kBegin && first == 2) {
          EXPECT_EQ(answer.tokens.size(), 12u);
          continue;
        }
        EXPECT_EQ(answer.error, ErrorCode::kCudaError);
        ++n_failed;
      }
      EXPECT_GE(n_failed, kRequests - 1);
      EXPECT_FALSE(f.engine->stats().healthy);
      EXPECT_NE(f.engine->stats().unhealthy_reason.find("a failure made on purpose"), std::string::npos);
      try {
        f.engine->submit(request(0));
        ADD_FAILURE() << "work was taken";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kCudaError);
      }
    }
  }
}

// Who has read the error must not find a healthy engine that takes his next request.
TEST(DeviceFault, ALostDeviceIsKnownBeforeAnyStreamEnds) {
  for (const Call call : {Call::kBegin, Call::kSubmit, Call::kCollect}) {
    Faulty f;
    f.faults->set({call, 1, How::kLost});
    bool healthy_at_last_event = true;
    const auto generation =
        f.engine->submit(request(0), [&] { healthy_at_last_event = f.engine->stats().healthy; });
    EXPECT_EQ(read(*generation).error, ErrorCode::kCudaError);
    f.engine->wait_idle(1min);
    EXPECT_FALSE(healthy_at_last_event);
  }
}

TEST(DeviceFault, ADeviceLostInAResidencyCheckEndsTheStreamsToo) {
  Faulty f;
  Request endless = request(1);
  endless.max_tokens = 100;
  const auto generation = f.engine->submit(endless);
  f.faults->set({Call::kResidency, 1, How::kLost});
  EXPECT_THROW(f.engine->check_residency(), Error);
  EXPECT_EQ(read(*generation).error, ErrorCode::kCudaError);
  EXPECT_FALSE(f.engine->stats().healthy);
}

TEST(DeviceFault, AFailedResidencyCheckLeavesTheStreamsAlone) {
  Faulty f;
  const Answer want = f.all()[1];
  const auto generation = f.engine->submit(request(1));
  f.faults->set({Call::kResidency, 1, How::kOnce});
  EXPECT_THROW(f.engine->check_residency(), Error);
  EXPECT_EQ(read(*generation), want);
  EXPECT_TRUE(f.engine->check_residency().front().holds());
  EXPECT_TRUE(f.engine->stats().healthy);
}

TEST(DeviceFault, AFlippedWeightIsNamed) {
  Faulty f;
  f.faults->set({Call::kResidency, 2, How::kFlipped});
  EXPECT_TRUE(f.engine->check_residency().front().holds());
  const auto arena = f.engine->check_residency().front();
  EXPECT_FALSE(arena.holds());
  EXPECT_EQ(arena.first_mismatch, f.model.program->weights.front().name);
}

}  // namespace
}  // namespace orcd::engine
