#include "engine/engine.h"

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/log.h"
#include "base/memory_reserve.h"
#include "engine/core.h"

namespace orcd::engine {
namespace {

// What a residency check gave, or its error: by value, so that no exception is shared by two threads.
using ResidencyAnswer = std::variant<std::vector<device::Executor::Residency>, Error>;

// How other threads reach the engine thread. Shared with every Generation, so that one may outlive the
// engine.
struct Mailbox {
  std::mutex mutex;
  std::condition_variable wake_up, idle_changed;
  std::vector<std::shared_ptr<Job>> inbox;
  std::vector<std::packaged_task<ResidencyAnswer()>> tasks;
  std::unordered_map<std::string, std::shared_ptr<Job>> jobs;  // active, by id
  std::string unhealthy_reason;
  bool woken = false, stopping = false, accepting = true, idle = true;

  void wake() {
    {
      std::lock_guard lock(mutex);
      woken = true;
    }
    wake_up.notify_one();
  }
};

std::string digest_of_model(device::Executor& executor) {
  numerics::Digest digest;
  for (const device::Executor::Residency& arena : executor.check_residency())
    numerics::digest_chain(&digest, arena.expected);
  return hex_digest(digest);
}

}  // namespace

Generation::Generation(std::shared_ptr<Channel> channel, std::function<void()> cancel)
    : channel_(std::move(channel)), cancel_(std::move(cancel)) {}

Generation::~Generation() {
  channel_->close_reader();
  cancel_();
}

struct Engine::Impl {
  Impl(std::unique_ptr<device::Executor> executor_in, std::shared_ptr<const model::Program> program_in,
       std::shared_ptr<const tokenizer::Tokenizer> tokenizer_in, EngineOptions options_in)
      : executor(std::move(executor_in)),
        program(std::move(program_in)),
        tokenizer(std::move(tokenizer_in)),
        options(options_in),
        model_digest(digest_of_model(*executor)),
        core(*executor, *tokenizer, core_options(), &counters) {
    thread = std::thread([this] { run(); });
  }

  ~Impl() {
    {
      std::lock_guard lock(mailbox->mutex);
      mailbox->stopping = true;
      mailbox->accepting = false;
    }
    mailbox->wake();
    thread.join();
  }

  CoreOptions core_options() {
    CoreOptions out;
    out.model_digest = model_digest;
    out.target_step_seconds = options.target_step_seconds;
    out.ended = [box = mailbox](const Job& job) {
      std::lock_guard lock(box->mutex);
      box->jobs.erase(job.request.id);
    };
    out.lost = [box = mailbox](const Error& error) {
      log_event(LogLevel::kError, "error", {{"message", error.line()}});
      std::lock_guard lock(box->mutex);
      box->unhealthy_reason = error.line();
    };
    return out;
  }

  // Takes what others left for this thread; false when it is time to stop.
  bool take_mail() {
    std::vector<std::shared_ptr<Job>> inbox;
    decltype(mailbox->tasks) tasks;
    {
      std::unique_lock lock(mailbox->mutex);
      mailbox->woken = false;
      if (mailbox->stopping) return false;
      inbox.swap(mailbox->inbox);
      tasks.swap(mailbox->tasks);
    }
    for (const std::shared_ptr<Job>& job : inbox) add(job);
    for (auto& task : tasks) task();
    return true;
  }

  void add(const std::shared_ptr<Job>& job) noexcept {
    try {
      core.add(job);
    } catch (...) {
      {
        std::lock_guard lock(mailbox->mutex);
        mailbox->jobs.erase(job->request.id);
      }
      try {
        job->channel->push_terminal(ErrorEvent{current_error()});
      } catch (...) {
        job->channel->push_out_of_memory();
      }
    }
  }

  void sleep() {
    std::unique_lock lock(mailbox->mutex);
    if (core.idle() && mailbox->inbox.empty()) {
      mailbox->idle = true;
      mailbox->idle_changed.notify_all();
    }
    const auto ready = [&] { return mailbox->woken; };
    const Time deadline = core.next_deadline();
    if (deadline == Time::max()) {
      mailbox->wake_up.wait(lock, ready);
    } else {
      mailbox->wake_up.wait_until(lock, deadline, ready);
    }
  }

  void run() {
    bool going = true;
    while (going) {
      try {
        going = take_mail();
        if (going && !core.turn()) sleep();
      } catch (...) {
        recover();
      }
    }
    stop();
    std::vector<std::shared_ptr<Job>> inbox;
    {
      std::lock_guard lock(mailbox->mutex);
      inbox.swap(mailbox->inbox);
      mailbox->tasks.clear();  // their futures throw broken_promise
    }
    for (const std::shared_ptr<Job>& job : inbox) add(job);
    stop();
    std::lock_guard lock(mailbox->mutex);
    mailbox->idle = true;
    mailbox->idle_changed.notify_all();
  }

  // A fault of the engine itself, want of memory most likely: what it was doing is lost, the process and new
  // requests are not.
  void recover() noexcept {
    try {
      const Error error = current_error();
      core.end_all(error);
      log_event(LogLevel::kError, "error",
                {{"code", std::string(error_code_name(error.code()))}, {"message", error.line()}});
    } catch (...) {
      core.abandon_all();
      std::fputs("INTERNAL: the worker ran out of host memory; every active request was ended\n", stderr);
    }
  }

  void stop() noexcept {
    try {
      core.end_all(Error(ErrorCode::kCancelled, "the worker stopped before the request had ended"));
    } catch (...) {
      core.abandon_all();
    }
  }

  std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>();
  std::unique_ptr<device::Executor> executor;
  std::shared_ptr<const model::Program> program;  // keeps the weights' names and shapes alive
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  EngineOptions options;
  std::string model_digest;
  Counters counters;
  Core core;
  std::thread thread;
};

Engine::Engine(std::unique_ptr<device::Executor> executor, std::shared_ptr<const model::Program> program,
               std::shared_ptr<const tokenizer::Tokenizer> tokenizer, EngineOptions options)
    : impl_(std::make_unique<Impl>(std::move(executor), std::move(program), std::move(tokenizer), options)) {}

Engine::~Engine() = default;

std::unique_ptr<Generation> Engine::submit(Request request, std::function<void()> notify) {
  impl_->core.check(request);
  if (!memory_reserve_is_whole()) {
    throw Error(ErrorCode::kOverloaded, "the worker is short of host memory and takes no new work", {},
                "try again later; if it lasts, give the worker more memory");
  }
  auto job = std::make_shared<Job>();
  job->request = std::move(request);
  job->channel = std::make_shared<Channel>(impl_->options.channel_capacity);
  job->channel->on_event(std::move(notify));
  job->channel->on_room([box = impl_->mailbox] { box->wake(); });
  job->arrived = std::chrono::steady_clock::now();

  Mailbox& box = *impl_->mailbox;
  // Made first: once the engine has the job, nothing may fail, or nobody would read what it says.
  auto generation =
      std::make_unique<Generation>(job->channel, [weak = std::weak_ptr<Job>(job), mailbox = impl_->mailbox] {
        const std::shared_ptr<Job> alive = weak.lock();
        if (!alive) return;
        alive->cancelled = true;
        mailbox->wake();
      });
  {
    std::lock_guard lock(box.mutex);
    if (!box.accepting) throw Error(ErrorCode::kShuttingDown, "the worker takes no new work");
    if (!impl_->counters.healthy)
      throw Error(ErrorCode::kCudaError, "the device failed and the worker must be restarted",
                  {{"reason", box.unhealthy_reason}});
    // Whoever is not running waits, in the scheduler's queue or still in the inbox; but slow readers do not
    // fill the queue.
    const size_t elsewhere = size_t{impl_->counters.running} + impl_->counters.set_aside;
    const size_t waiting = box.jobs.size() - std::min(box.jobs.size(), elsewhere);
    if (waiting >= impl_->options.max_queue && box.jobs.size() >= limits().slots) {
      throw Error(ErrorCode::kOverloaded, "the queue is full",
                  {{"waiting", uint64_t{waiting}}, {"limit", uint64_t{impl_->options.max_queue}}},
                  "try again later");
    }
    box.inbox.reserve(box.inbox.size() + 1);
    if (!box.jobs.emplace(job->request.id, job).second) {
      throw Error(ErrorCode::kInvalidRequest, "a request with this id is active",
                  {{"param", "job_id"}, {"job_id", job->request.id}},
                  "use an id of its own for each request");
    }
    box.inbox.push_back(job);
    box.idle = false;
    box.woken = true;
  }
  box.wake_up.notify_one();
  return generation;
}

bool Engine::cancel(std::string_view request_id) {
  {
    std::lock_guard lock(impl_->mailbox->mutex);
    const auto found = impl_->mailbox->jobs.find(std::string(request_id));
    if (found == impl_->mailbox->jobs.end()) return false;
    found->second->cancelled = true;
  }
  impl_->mailbox->wake();
  return true;
}

void Engine::stop_accepting() {
  std::lock_guard lock(impl_->mailbox->mutex);
  impl_->mailbox->accepting = false;
}

bool Engine::wait_idle(std::chrono::milliseconds timeout) {
  std::unique_lock lock(impl_->mailbox->mutex);
  return impl_->mailbox->idle_changed.wait_for(lock, timeout, [&] { return impl_->mailbox->idle; });
}

EngineStats Engine::stats() const {
  const Counters& c = impl_->counters;
  EngineStats out;
  out.running = c.running;
  out.kv_pages_total = impl_->executor->limits().kv_pages;
  out.kv_pages_used = c.kv_pages_used;
  out.tokens_generated = c.tokens_generated;
  out.prompt_tokens = c.prompt_tokens;
  out.prefix_queries = c.prefix_queries;
  out.prefix_hits = c.prefix_hits;
  out.n_preemptions = c.n_preemptions;
  out.requests_ok = c.requests_ok;
  out.requests_error = c.requests_error;
  out.requests_cancelled = c.requests_cancelled;
  out.busy_seconds = static_cast<double>(c.busy_nanoseconds) * 1e-9;
  out.healthy = c.healthy;
  out.failing = c.failed_steps >= kFailingSteps;
  std::lock_guard lock(impl_->mailbox->mutex);
  out.waiting = c.waiting + static_cast<uint32_t>(impl_->mailbox->inbox.size());
  out.unhealthy_reason = impl_->mailbox->unhealthy_reason;
  return out;
}

const device::ResolvedLimits& Engine::limits() const { return impl_->executor->limits(); }
const memory::Plan& Engine::plan() const { return impl_->executor->plan(); }
const memory::Ledger& Engine::ledger() const { return impl_->executor->ledger(); }
const std::string& Engine::model_digest() const { return impl_->model_digest; }

std::vector<device::Executor::Residency> Engine::check_residency() {
  std::packaged_task<ResidencyAnswer()> task([impl = impl_.get()]() -> ResidencyAnswer {
    try {
      return impl->core.check_residency();
    } catch (const Error& error) {
      return error;
    }
  });
  auto result = task.get_future();
  {
    std::lock_guard lock(impl_->mailbox->mutex);
    if (impl_->mailbox->stopping) throw Error(ErrorCode::kShuttingDown, "the engine has stopped");
    impl_->mailbox->tasks.push_back(std::move(task));
  }
  impl_->mailbox->wake();
  std::optional<ResidencyAnswer> answer;
  try {
    answer = result.get();
  } catch (const std::future_error&) {
    throw Error(ErrorCode::kShuttingDown, "the engine stopped before it could check");
  }
  if (const Error* error = std::get_if<Error>(&*answer)) throw *error;
  return std::get<std::vector<device::Executor::Residency>>(std::move(*answer));
}

}  // namespace orcd::engine
