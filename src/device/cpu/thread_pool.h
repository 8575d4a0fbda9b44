// A pool of pinned threads that run one function together (the caller is thread 0), and the barrier they
// share.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

namespace orcd::cpu {

// Sense-reversing barrier: spins briefly, then sleeps, so that an oversubscribed machine still makes
// progress.
class Barrier {
 public:
  explicit Barrier(uint32_t n_threads) : n_threads_(n_threads) {}
  void wait();

 private:
  const uint32_t n_threads_;
  alignas(64) std::atomic<uint32_t> arrived_ = 0;
  alignas(64) std::atomic<uint32_t> phase_ = 0;
};

class ThreadPool {
 public:
  // n_threads - 1 workers are started, each pinned to a core of the process's affinity mask. The caller is
  // not pinned: it belongs to somebody else. Throws Error(kInternal) if a thread cannot be started.
  explicit ThreadPool(uint32_t n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  uint32_t n_threads() const { return n_threads_; }
  // Runs fn(thread) on every thread and returns when all are done; throws what one of them threw. A fn that
  // waits at the barrier must not throw. Not reentrant.
  void run(const std::function<void(uint32_t thread)>& fn);
  Barrier& barrier() { return barrier_; }

 private:
  void worker(uint32_t thread);
  void attempt(uint32_t thread) noexcept;
  void stop();

  const uint32_t n_threads_;
  Barrier barrier_;
  const std::function<void(uint32_t)>* task_ = nullptr;
  alignas(64) std::atomic<uint32_t> epoch_ = 0;
  alignas(64) std::atomic<uint32_t> n_done_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> has_failed_ = false;
  std::exception_ptr failure_;  // of whoever set has_failed_
  std::vector<std::thread> workers_;
};

// Cores that the process may run on.
uint32_t available_cores();

}  // namespace orcd::cpu
