#include "capi/registry.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>

#include "base/log.h"
#include "capi/call_error.h"
#include "capi/entry.h"

namespace orcd::capi {
namespace {

static_assert(sizeof(void*) == sizeof(uint64_t));

// A handle is a tag that no address of a process begins with, and a serial number scattered over the other
// bits: numbers, addresses and handles that are off by a little name nothing.
constexpr int kSerialBits = 48;
constexpr uint64_t kSerialMask = (uint64_t{1} << kSerialBits) - 1;
constexpr uint64_t kTag = uint64_t{0x6F72} << kSerialBits;  // "or"
constexpr uint64_t kScatter = 0x9E3779B97F4A7C15;           // odd, so the product can be undone

constexpr uint64_t inverse_of(uint64_t odd) {
  uint64_t inverse = odd;  // right in 3 bits; each round doubles them (Newton)
  for (int round = 0; round < 5; ++round) inverse *= 2 - odd * inverse;
  return inverse;
}
static_assert(kScatter * inverse_of(kScatter) == 1);

uint64_t id_of_serial(uint64_t serial) { return kTag | ((serial * kScatter) & kSerialMask); }
// 0 if no serial gives this id.
uint64_t serial_of_id(uint64_t id) {
  return (id & ~kSerialMask) == kTag ? (id * inverse_of(kScatter)) & kSerialMask : 0;
}

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::kContext:
      return "context";
    case Kind::kModel:
      return "model";
    case Kind::kGeneration:
      return "generation";
  }
  return "";
}

CallError invalid(Kind kind, const std::string& what) {
  return CallError(
      ORCD_STATUS_INVALID_HANDLE, std::string("not a live ") + kind_name(kind) + " handle: " + what, {},
      "a handle is valid from the call that made it until it, its model or its context is freed");
}

}  // namespace

Registry::Registry() : pid_(getpid()) {
  // Makes the log's own state first, so that it outlives the engines that shut_down() ends.
  log_event(LogLevel::kDebug, "library_loaded");
}

void Registry::check_process() const {
  if (getpid() == pid_) return;
  throw CallError(ORCD_STATUS_WRONG_STATE,
                  "the library was used before fork(): its threads are in the parent",
                  {{"pid", int64_t{getpid()}}, {"made_in_pid", int64_t{pid_}}},
                  "fork before the first context is made, or exec in the child");
}

uint64_t Registry::add(Kind kind, std::unique_ptr<Object> object, uint64_t parent) {
  check_process();
  auto entry = std::make_unique<Entry>();
  entry->kind = kind;
  entry->parent = parent;
  entry->object = std::move(object);
  // An object that is not taken in dies after the lock is given back: its end may take a while.
  std::lock_guard lock(mutex_);
  if (shut_) throw Error(ErrorCode::kShuttingDown, "the process is exiting");
  const uint64_t id = id_of_serial(++last_serial_);
  if (parent != 0) {
    const auto owner = entries_.find(parent);
    if (owner == entries_.end())
      throw invalid(kind == Kind::kModel ? Kind::kContext : Kind::kModel, "it was freed during this call");
    entry->context = owner->second->context;
  } else {
    entry->context = id;
  }
  entries_.emplace(id, std::move(entry));
  return id;
}

Registry::Entry* Registry::find(Kind kind, const void* handle) {
  const auto found = entries_.find(id_of(handle));
  if (found == entries_.end()) {
    const uint64_t serial = serial_of_id(id_of(handle));
    throw invalid(
        kind, serial != 0 && serial <= last_serial_ ? "it was freed before" : "this library never made it");
  }
  if (found->second->kind != kind)
    throw invalid(kind, std::string("it is that of a ") + kind_name(found->second->kind));
  return found->second.get();
}

Registry::Entries Registry::take(const std::function<bool(uint64_t, const Entry&)>& wanted) {
  Entries taken;
  taken.reserve(entries_.size());
  for (auto at = entries_.begin(); at != entries_.end();) {
    if (!wanted(at->first, *at->second)) {
      ++at;
      continue;
    }
    taken.push_back(std::move(at->second));
    at = entries_.erase(at);
  }
  std::sort(taken.begin(), taken.end(), [](const auto& a, const auto& b) { return a->kind > b->kind; });
  return taken;
}

void Registry::free_taken(Entries taken, std::unique_lock<std::mutex> lock) {
  lock.unlock();
  for (const auto& entry : taken) entry->object->close();
  lock.lock();
  unpinned_.wait(lock, [&] {
    return std::all_of(taken.begin(), taken.end(), [](const auto& entry) { return entry->n_pins == 0; });
  });
  lock.unlock();
  for (auto& entry : taken) entry.reset();
}

void Registry::free(Kind kind, const void* handle) {
  need(handle, kind_name(kind));
  check_process();
  std::unique_lock lock(mutex_);
  const uint64_t id = id_of(handle);
  concerns_context(find(kind, handle)->context);
  Entries taken = take([id](uint64_t other, const Entry& entry) {
    return other == id || entry.parent == id || entry.context == id;
  });
  free_taken(std::move(taken), std::move(lock));
}

Registry::Entry* Registry::pin_entry(Kind kind, const void* handle) {
  need(handle, kind_name(kind));
  check_process();
  std::lock_guard lock(mutex_);
  Entry* entry = find(kind, handle);
  concerns_context(entry->context);
  ++entry->n_pins;
  return entry;
}

void Registry::unpin(Entry* entry) noexcept {
  std::lock_guard lock(mutex_);
  if (--entry->n_pins == 0) unpinned_.notify_all();
}

void Registry::each(Kind kind, uint64_t ancestor, const std::function<void(Object&)>& look) {
  std::lock_guard lock(mutex_);
  for (const auto& [id, entry] : entries_) {
    if (entry->kind == kind && (ancestor == 0 || entry->context == ancestor || entry->parent == ancestor))
      look(*entry->object);
  }
}

void Registry::shut_down() noexcept {
  if (getpid() != pid_) return;
  try {
    std::unique_lock lock(mutex_);
    shut_ = true;
    Entries taken = take([](uint64_t, const Entry&) { return true; });
    decltype(entries_)().swap(entries_);
    free_taken(std::move(taken), std::move(lock));
  } catch (...) {
    fail_call();  // no caller is left to be told; what is left ends with the process
  }
}

Registry& registry() {
  alignas(Registry) static std::byte place[sizeof(Registry)];
  static Registry* const instance = std::construct_at(reinterpret_cast<Registry*>(place));
  struct AtExit {
    ~AtExit() { instance->shut_down(); }
  };
  static const AtExit at_exit;
  return *instance;
}

}  // namespace orcd::capi
