// The table of device calls: what it counts, what an error says, what a planned fault does.
#include <gtest/gtest.h>

#include <thread>

#include "gpu/rig.h"

namespace orcd::cuda {
namespace {

using test::Rig;

std::string value_of(const Error& error, const std::string& name) {
  for (const auto& [key, value] : error.values())
    if (key == name) return error_value_text(value);
  return "";
}

template <typename Call>
std::optional<Error> error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

TEST(Calls, AnErrorSaysCallOpShapeAndDevice) {
  Rig rig;
  rig.calls().set_fault({.first = 1, .once = true, .error = cudaErrorInvalidValue});
  const auto error = error_of([&] { rig.calls().copy_to_device(nullptr, nullptr, 12, "twelve bytes"); });
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kCudaError);
  EXPECT_EQ(value_of(*error, "call"), "copy");
  EXPECT_EQ(value_of(*error, "op"), "twelve bytes");
  EXPECT_EQ(value_of(*error, "shape"), "12 bytes");
  EXPECT_EQ(value_of(*error, "device"), "cuda:0");
  EXPECT_EQ(value_of(*error, "context"), "usable");
  EXPECT_FALSE(rig.calls().lost());
}

TEST(Calls, FaultsHitTheNumberAskedFor) {
  Rig rig;
  const auto fails = [&] { return error_of([&] { rig.calls().use_device(); }).has_value(); };
  rig.calls().set_fault({.first = 2, .once = true, .error = cudaErrorInvalidValue});
  EXPECT_FALSE(fails());
  EXPECT_TRUE(fails());
  EXPECT_FALSE(fails());
  rig.calls().set_fault({.first = 2, .once = false, .error = cudaErrorInvalidValue});
  EXPECT_FALSE(fails());
  EXPECT_TRUE(fails());
  EXPECT_TRUE(fails());
  rig.calls().set_fault({});
  EXPECT_FALSE(fails());
}

// Errors whose description in driver_types.h says that the process must be started again.
TEST(Calls, ErrorsThatEndAProcessLoseTheContext) {
  for (const cudaError_t error :
       {cudaErrorContained, cudaErrorTensorMemoryLeak, cudaErrorMpsClientTerminated, cudaErrorLaunchFailure,
        cudaErrorECCUncorrectable, cudaErrorMisalignedAddress, cudaErrorAssert}) {
    Rig rig;
    rig.calls().set_fault({.first = 1, .once = true, .error = error});
    EXPECT_THROW(rig.calls().synchronize("wait"), Error);
    EXPECT_TRUE(rig.calls().lost()) << error;
    EXPECT_THROW(rig.calls().synchronize("wait"), Error);
    rig.calls().set_fault({});
  }
  Rig rig;
  rig.calls().set_fault({.first = 1, .once = true, .error = cudaErrorInvalidValue});
  EXPECT_THROW(rig.calls().synchronize("wait"), Error);
  EXPECT_FALSE(rig.calls().lost());
}

TEST(Calls, ALostContextFailsEveryLaterCallAlike) {
  Rig rig;
  rig.calls().set_fault({.first = 1, .once = true, .error = cudaErrorIllegalAddress});
  for (int i = 0; i < 3; ++i) {
    const auto error = error_of([&] { rig.calls().synchronize("wait"); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(value_of(*error, "cuda_error"), cudaGetErrorName(cudaErrorIllegalAddress));
    EXPECT_EQ(value_of(*error, "context"), "lost");
    EXPECT_FALSE(error->hint().empty());
  }
  EXPECT_TRUE(rig.calls().lost());
  rig.calls().set_fault({});
  EXPECT_FALSE(rig.calls().lost());
  rig.calls().synchronize("wait");
}

TEST(Calls, ARefusedAllocationIsInsufficientVramWithTheNumbers) {
  Rig rig;
  const uint64_t before = rig.calls().count(CallKind::kCopy);
  rig.load();
  const uint64_t first = rig.calls().count(CallKind::kAllocate);
  EXPECT_GT(rig.calls().count(CallKind::kCopy), before);
  // The first allocation of a load: after choosing the device twice nothing else comes before it.
  std::optional<Error> error;
  for (uint64_t i = 1; i < 20 && !(error && error->code() == ErrorCode::kInsufficientVram); ++i) {
    const device::ResolvedLimits limits = rig.device->resolve(*rig.model.program, rig.limits);
    rig.calls().set_fault({.first = i, .once = true, .error = cudaErrorMemoryAllocation});
    const uint64_t copies = rig.calls().count(CallKind::kCopy);
    error = error_of([&] { rig.device->load(rig.model.program, limits, {}); });
    rig.calls().set_fault({});
    EXPECT_EQ(rig.calls().count(CallKind::kCopy), copies) << "something was uploaded before it was refused";
  }
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kInsufficientVram);
  for (const char* name : {"required", "available", "device", "model", "max_context"})
    EXPECT_NE(value_of(*error, name), "") << name;
  EXPECT_GT(first, 0u);
}

TEST(Calls, WhatDoesNotFitIsRefusedBeforeAnythingIsAllocated) {
  Rig rig;
  rig.limits.budget_bytes = 1 << 20;
  rig.limits.kv_cache_bytes = 0;
  const uint64_t allocations = rig.calls().count(CallKind::kAllocate);
  const auto error = error_of([&] { rig.load(); });
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kInsufficientVram);
  EXPECT_EQ(value_of(*error, "available"), std::to_string(1 << 20));
  for (const char* name : {"required", "available", "device", "model", "max_context"})
    EXPECT_NE(value_of(*error, name), "") << name;
  EXPECT_EQ(rig.calls().count(CallKind::kAllocate), allocations);
}

TEST(Calls, PlanLedgerAndAllocationsAreEqualToTheByte) {
  Rig rig;
  {
    const auto executor = rig.load();
    const memory::Plan plan = rig.device->plan(*rig.model.program, executor->limits());
    EXPECT_EQ(plan.total_bytes(), executor->ledger().total_bytes());
    EXPECT_EQ(plan.total_bytes(), rig.calls().holdings().device_bytes);
    EXPECT_EQ(plan.host_bytes(), executor->ledger().host_bytes());
    EXPECT_EQ(plan.host_bytes(), rig.calls().holdings().host_bytes);
    EXPECT_GT(plan.host_peak_bytes(), plan.host_bytes());
    EXPECT_EQ(executor->plan().total_bytes(), plan.total_bytes());
    EXPECT_EQ(executor->plan().host_bytes(), plan.host_bytes());
  }
  EXPECT_EQ(rig.calls().holdings(), Holdings{});
}

TEST(Context, OpensAndClosesOnAnyThreadAndIsHandedOn) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 5; ++i) EXPECT_EQ(Context(0).calls->holdings(), Holdings{});
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto on_a_thread = [](const auto& call) { std::thread(call).join(); };
  std::unique_ptr<Rig> rig;
  std::unique_ptr<device::Executor> executor;
  test::Drawn first, second;
  on_a_thread([&] { rig = std::make_unique<Rig>(); });
  on_a_thread([&] { executor = rig->load(); });
  on_a_thread([&] { first = test::run_request(*executor); });
  on_a_thread([&] { second = test::run_request(*executor); });
  EXPECT_EQ(first, second);
  on_a_thread([&] { executor.reset(); });
  EXPECT_EQ(rig->calls().holdings(), Holdings{});
  on_a_thread([&] { rig.reset(); });
}

TEST(Calls, PointersAreToldApart) {
  Rig rig;
  void* on_device = rig.calls().allocate(nullptr, memory::Category::kStaging, 4096);
  void* pinned = rig.calls().host_allocate(nullptr, 4096);
  int local = 0;
  EXPECT_EQ(rig.calls().pointer_type(on_device), "device");
  EXPECT_EQ(rig.calls().pointer_type(pinned), "host");
  EXPECT_EQ(rig.calls().pointer_type(&local), "unknown");
  rig.calls().free(nullptr, memory::Category::kStaging, 4096, on_device);
  rig.calls().host_free(nullptr, 4096, pinned);
}

}  // namespace
}  // namespace orcd::cuda
