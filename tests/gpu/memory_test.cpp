// Memory after ready: a thousand mixed requests through the engine take nothing from the driver.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <random>

#include "engine/engine.h"
#include "gpu/rig.h"
#include "support/fake_tokenizer.h"

namespace orcd::cuda {
namespace {

using namespace std::chrono_literals;
using test::Rig;

constexpr uint32_t kRequests = 1000, kAtOnce = 8;

engine::Request mixed_request(uint32_t i, std::mt19937& rng) {
  engine::Request request;
  request.id = std::to_string(i);
  request.prompt_tokens = test::random_tokens(1 + rng() % 150, 300, rng() % 40);
  request.max_tokens = 1 + rng() % 60;
  request.ignore_end = rng() % 2 == 0;
  request.sampling.temperature = rng() % 3 == 0 ? 0.0f : 0.5f + static_cast<float>(rng() % 100) / 100;
  request.sampling.top_k = rng() % 2 ? static_cast<int32_t>(rng() % 300) : 0;
  request.sampling.top_p = rng() % 2 ? 0.9f : 1.0f;
  request.sampling.min_p = rng() % 4 == 0 ? 0.05f : 0.0f;
  request.sampling.repetition_penalty = rng() % 2 ? 1.2f : 1.0f;
  request.sampling.seed = rng();
  return request;
}

TEST(Memory, AThousandMixedRequestsTakeNothingFromTheDriver) {
  Rig rig;
  engine::Engine engine(rig.load(), rig.model.program, std::make_shared<test::FakeTokenizer>(300));
  const Holdings held = rig.calls().holdings();
  const uint64_t allocated =
      rig.calls().count(CallKind::kAllocate) + rig.calls().count(CallKind::kHostAllocate);
  const uint64_t free = rig.device->free_bytes();
  const auto driver = rig.device->driver_memory();
  std::mt19937 rng(4);
  uint32_t n_ended = 0, n_cancelled = 0;
  for (uint32_t i = 0; i < kRequests; i += kAtOnce) {
    std::vector<std::unique_ptr<engine::Generation>> generations;
    for (uint32_t k = i; k < std::min(i + kAtOnce, kRequests); ++k) {
      generations.push_back(engine.submit(mixed_request(k, rng)));
      if (rng() % 6 == 0) generations.back()->cancel();
    }
    for (const auto& generation : generations) {
      while (const auto event = generation->channel().pop()) {
        n_ended += std::holds_alternative<engine::EndEvent>(*event);
        if (const auto* error = std::get_if<engine::ErrorEvent>(&*event)) {
          EXPECT_EQ(error->error.code(), ErrorCode::kCancelled) << error->error.line();
          ++n_cancelled;
        }
      }
    }
  }
  EXPECT_EQ(n_ended + n_cancelled, kRequests);
  EXPECT_GT(n_cancelled, 50u);
  EXPECT_TRUE(engine.wait_idle(20s));
  EXPECT_EQ(rig.calls().count(CallKind::kAllocate) + rig.calls().count(CallKind::kHostAllocate), allocated);
  EXPECT_EQ(rig.calls().holdings(), held);
  EXPECT_EQ(engine.ledger().total_bytes(), held.device_bytes);
  EXPECT_EQ(engine.stats().kv_pages_used, 0u);
  EXPECT_EQ(rig.device->free_bytes(), free);
  const auto after = rig.device->driver_memory();
  EXPECT_EQ(after->used_bytes, driver->used_bytes);
  EXPECT_EQ(after->process_bytes, driver->process_bytes);
  std::printf("%u requests, %u cancelled: device memory unchanged; %s %s\n", kRequests, n_cancelled,
              driver->source.c_str(),
              driver->reason.empty() ? (std::to_string(driver->used_bytes) + " bytes used").c_str()
                                     : driver->reason.c_str());
}

}  // namespace
}  // namespace orcd::cuda
