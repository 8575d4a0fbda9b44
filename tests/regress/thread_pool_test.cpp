// Tasks of compute threads that once ended the process.
#include <gtest/gtest.h>

#include <atomic>
#include <new>

#include "device/cpu/thread_pool.h"

namespace orcd::cpu {
namespace {

// The tables of RoPE are filled by all threads and take memory: what one threw left its thread. Found by the
// fault sweep.
TEST(ThreadPoolRegression, WhatATaskThrowsComesOutOfRunOnce) {
  ThreadPool pool(3);
  std::atomic<int> n_calls = 0;
  for (const uint32_t thrower : {0u, 1u, 2u}) {
    EXPECT_THROW(pool.run([&](uint32_t thread) {
      ++n_calls;
      if (thread == thrower) throw std::bad_alloc();
    }),
                 std::bad_alloc);
  }
  EXPECT_THROW(pool.run([](uint32_t) { throw std::bad_alloc(); }), std::bad_alloc);
  EXPECT_EQ(n_calls, 9);
  EXPECT_NO_THROW(pool.run([&](uint32_t) { ++n_calls; }));
  EXPECT_EQ(n_calls, 12);
}

}  // namespace
}  // namespace orcd::cpu
