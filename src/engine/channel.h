// The bounded event channel between the engine thread and one reader (SSE writer, stdout, orcd_next).
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>

#include "engine/request.h"

namespace orcd::engine {

// One producer (the engine), one consumer. The engine never blocks on it: a sequence whose reader is behind
// is paused by the scheduler until the reader has made room, and dropping the reader cancels the request.
class Channel {
 public:
  explicit Channel(size_t capacity = 256);

  // Producer. Events of steps already under way are taken beyond the capacity, so nothing is ever lost; the
  // producer asks behind() before it starts another step. Nothing is taken after the terminal event or when
  // the reader is gone: then false.
  bool push(Event event);
  // The one terminal event (EndEvent or ErrorEvent). false if there already was one.
  bool push_terminal(Event event);
  // In place of push_terminal where there is no memory for the event: the reader gets out_of_memory().
  void push_out_of_memory() noexcept;
  // From the moment the channel is full until the reader has made half of it free: a paused sequence may have
  // lost its slot, and one event of room is not worth the way back.
  bool behind() const;
  bool reader_gone() const;

  // Consumer. pop: blocks; nullopt after the terminal event was taken. try_pop: never blocks. pop_until: also
  // nullopt when none has come by then.
  std::optional<Event> pop();
  std::optional<Event> pop_until(std::chrono::steady_clock::time_point deadline);
  std::optional<Event> try_pop();
  bool finished() const;  // the terminal event was taken
  // Called on the engine thread after an event became available (a server posts to its strand). At most one;
  // set before submit. Must not throw.
  void on_event(std::function<void()> notify);
  // Called on the reader's thread when it is no longer behind, or left; the engine sets it to wake itself.
  void on_room(std::function<void()> notify);
  void close_reader();

 private:
  std::optional<Event> take(std::unique_lock<std::mutex>& lock);
  void note_size() { behind_ = events_.size() >= (behind_ ? capacity_ / 2 + 1 : capacity_); }
  bool nothing_left() const { return events_.empty() && !out_of_memory_; }
  bool has_news() const { return !nothing_left() || terminal_taken_; }

  mutable std::mutex mutex_;
  std::condition_variable available_;
  std::deque<Event> events_;
  std::function<void()> notify_event_, notify_room_;
  size_t capacity_;
  bool terminal_pushed_ = false, terminal_taken_ = false, reader_gone_ = false, behind_ = false;
  bool out_of_memory_ = false;  // the terminal event is out_of_memory(), behind those in the queue
};

}  // namespace orcd::engine
