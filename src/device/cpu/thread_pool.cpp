#include "device/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <system_error>
#include <utility>

#include "base/error.h"

namespace orcd::cpu {
namespace {

// A waiter polls for some 50 to 100 microseconds before it sleeps: longer than the imbalance of a phase in a
// decode step, short enough that a machine busy with other work gets its core back.
constexpr int kRounds = 400;
// Polls between two pauses. Pauses closer together than some 128 cycles look like a contended lock to a
// hypervisor, which then takes the core away (pause-loop exiting): that cost a third of the decode speed on a
// virtual machine.
constexpr int kPolls = 64;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns when `value` is no longer `old`.
void await_change(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int round = 0; round < kRounds; ++round) {
    for (int poll = 0; poll < kPolls; ++poll) {
      if (value.load(std::memory_order_acquire) != old) return;
    }
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

void pin_to(uint32_t index) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  const int n = CPU_COUNT(&allowed);
  int skip = n > 0 ? static_cast<int>(index % static_cast<uint32_t>(n)) : 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || skip-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    // Pinning is a preference: where it is refused the thread runs wherever the system puts it.
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    return;
  }
}

}  // namespace

void Barrier::wait() {
  if (n_threads_ == 1) return;
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.fetch_add(1, std::memory_order_release);
    phase_.notify_all();
    return;
  }
  await_change(phase_, phase);
}

uint32_t available_cores() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return std::thread::hardware_concurrency();
  return static_cast<uint32_t>(CPU_COUNT(&allowed));
}

ThreadPool::ThreadPool(uint32_t n_threads) : n_threads_(n_threads), barrier_(n_threads) {
  try {
    for (uint32_t thread = 1; thread < n_threads; ++thread)
      workers_.emplace_back(&ThreadPool::worker, this, thread);
  } catch (const std::system_error& error) {
    stop();
    throw Error(ErrorCode::kInternal, "cannot start a compute thread",
                {{"threads", uint64_t{n_threads}}, {"system", std::string(error.what())}}, "lower --threads");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stopping_ = true;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& thread : workers_) thread.join();
  workers_.clear();
}

void ThreadPool::run(const std::function<void(uint32_t)>& fn) {
  task_ = &fn;
  n_done_.store(0, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  attempt(0);
  for (;;) {
    const uint32_t done = n_done_.load(std::memory_order_acquire);
    if (done == n_threads_ - 1) break;
    await_change(n_done_, done);
  }
  if (has_failed_.exchange(false)) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void ThreadPool::attempt(uint32_t thread) noexcept {
  try {
    (*task_)(thread);
  } catch (...) {
    if (!has_failed_.exchange(true)) failure_ = std::current_exception();
  }
}

void ThreadPool::worker(uint32_t thread) {
  pin_to(thread);
  uint32_t seen = 0;
  for (;;) {
    await_change(epoch_, seen);
    seen = epoch_.load(std::memory_order_acquire);
    if (stopping_) return;
    attempt(thread);
    n_done_.fetch_add(1, std::memory_order_release);
    n_done_.notify_all();
  }
}

}  // namespace orcd::cpu
