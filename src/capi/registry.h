// Handles: keys that name objects, so that a stale, foreign or damaged one is found out instead of followed.
// Also who owns whom, and how an object is freed while other threads use it.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "orcd/orcd.h"

namespace orcd::capi {

enum class Kind : uint8_t { kContext = 1, kModel = 2, kGeneration = 3 };

// What a handle names.
class Object {
 public:
  virtual ~Object() = default;
  // Called once when the object is being freed, on the freeing thread: makes calls that wait on it return.
  virtual void close() noexcept = 0;
};

template <typename T>
class Pin;

// Thread-safe. Lives as long as the process, see registry().
class Registry {
 public:
  Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // Takes the object in; parent 0 only for contexts. Throws INVALID_HANDLE when the parent has been freed
  // meanwhile (the object dies then), SHUTTING_DOWN when the process is exiting, WRONG_STATE after fork().
  uint64_t add(Kind kind, std::unique_ptr<Object> object, uint64_t parent);

  // Takes the object and its descendants out, closes them, waits until no call uses them, frees them:
  // children first. Throws INVALID_ARGUMENT for NULL, INVALID_HANDLE, WRONG_STATE after fork().
  void free(Kind kind, const void* handle);

  // The object stays alive while it is pinned. Throws as free() does. Notes the context that the call
  // concerns.
  template <typename T>
  Pin<T> pin(const void* handle);

  // Calls `look` on every live object of a kind below `ancestor` (0: all), one after the other, under the
  // lock.
  void each(Kind kind, uint64_t ancestor, const std::function<void(Object&)>& look);

  // Frees everything, for the end of the process or of the library; nothing can be added from then on. In a
  // child of fork() nothing is done: the threads to wait for are the parent's.
  void shut_down() noexcept;

 private:
  friend class PinBase;
  struct Entry {
    Kind kind;
    uint64_t parent, context;
    std::unique_ptr<Object> object;
    uint32_t n_pins = 0;
  };
  using Entries = std::vector<std::unique_ptr<Entry>>;

  Entry* find(Kind kind, const void* handle);  // REQUIRES the lock
  // Takes out those that are wanted, children before their parents, in one pass: a program may hold many
  // generations. REQUIRES the lock. If it throws, nothing has changed.
  Entries take(const std::function<bool(uint64_t id, const Entry& entry)>& wanted);
  void free_taken(Entries taken, std::unique_lock<std::mutex> lock);
  Entry* pin_entry(Kind kind, const void* handle);
  void unpin(Entry* entry) noexcept;
  void check_process() const;

  const pid_t pid_;
  std::mutex mutex_;
  std::condition_variable unpinned_;
  std::unordered_map<uint64_t, std::unique_ptr<Entry>> entries_;
  uint64_t last_serial_ = 0;
  bool shut_ = false;
};

class PinBase {
 public:
  PinBase(const PinBase&) = delete;
  PinBase& operator=(const PinBase&) = delete;

 protected:
  PinBase(Registry* registry, Kind kind, const void* handle)
      : registry_(registry), entry_(registry->pin_entry(kind, handle)) {}
  ~PinBase() { registry_->unpin(entry_); }
  Object* object() const { return entry_->object.get(); }

 private:
  Registry* registry_;
  Registry::Entry* entry_;
};

// REQUIRES T::kKind, and that objects of this kind are T.
template <typename T>
class Pin : PinBase {
 public:
  Pin(Registry* registry, const void* handle) : PinBase(registry, T::kKind, handle) {}
  T* operator->() const { return static_cast<T*>(object()); }
  T& operator*() const { return static_cast<T&>(*object()); }
};

template <typename T>
Pin<T> Registry::pin(const void* handle) {
  return Pin<T>(this, handle);
}

// The one of this process. Shut down when the process exits or the library is unloaded, but never destroyed:
// a thread that still calls finds it empty.
Registry& registry();

inline uint64_t id_of(const void* handle) { return reinterpret_cast<uint64_t>(handle); }
template <typename Handle>
Handle* handle_of(uint64_t id) {
  return reinterpret_cast<Handle*>(id);
}

}  // namespace orcd::capi
