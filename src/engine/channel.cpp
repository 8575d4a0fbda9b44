#include "engine/channel.h"

namespace orcd::engine {

Channel::Channel(size_t capacity) : capacity_(capacity) {}

bool Channel::push(Event event) {
  {
    std::lock_guard lock(mutex_);
    if (terminal_pushed_ || reader_gone_) return false;
    events_.push_back(std::move(event));
    note_size();
  }
  available_.notify_one();
  if (notify_event_) notify_event_();
  return true;
}

bool Channel::push_terminal(Event event) {
  {
    std::lock_guard lock(mutex_);
    if (terminal_pushed_) return false;
    events_.push_back(std::move(event));
    terminal_pushed_ = true;
  }
  available_.notify_one();
  if (notify_event_) notify_event_();
  return true;
}

void Channel::push_out_of_memory() noexcept {
  {
    std::lock_guard lock(mutex_);
    if (!terminal_pushed_) out_of_memory_ = true;
    terminal_pushed_ = true;
  }
  available_.notify_one();
  if (notify_event_) notify_event_();
}

bool Channel::behind() const {
  std::lock_guard lock(mutex_);
  return behind_;
}

bool Channel::reader_gone() const {
  std::lock_guard lock(mutex_);
  return reader_gone_;
}

std::optional<Event> Channel::take(std::unique_lock<std::mutex>& lock) {
  if (events_.empty()) {
    std::optional<Event> last(ErrorEvent{out_of_memory()});
    out_of_memory_ = false;
    terminal_taken_ = true;
    return last;
  }
  const bool was_behind = behind_;
  std::optional<Event> event(std::move(events_.front()));
  events_.pop_front();
  note_size();
  if (terminal_pushed_ && nothing_left()) terminal_taken_ = true;
  const bool room = was_behind && !behind_ && !terminal_pushed_;
  lock.unlock();
  if (room && notify_room_) notify_room_();
  return event;
}

std::optional<Event> Channel::pop() {
  std::unique_lock lock(mutex_);
  available_.wait(lock, [&] { return has_news(); });
  if (nothing_left()) return std::nullopt;
  return take(lock);
}

std::optional<Event> Channel::pop_until(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  available_.wait_until(lock, deadline, [&] { return has_news(); });
  if (nothing_left()) return std::nullopt;
  return take(lock);
}

std::optional<Event> Channel::try_pop() {
  std::unique_lock lock(mutex_);
  if (nothing_left()) return std::nullopt;
  return take(lock);
}

bool Channel::finished() const {
  std::lock_guard lock(mutex_);
  return terminal_taken_;
}

void Channel::on_event(std::function<void()> notify) { notify_event_ = std::move(notify); }
void Channel::on_room(std::function<void()> notify) { notify_room_ = std::move(notify); }

void Channel::close_reader() {
  {
    std::lock_guard lock(mutex_);
    if (reader_gone_) return;
    reader_gone_ = true;
  }
  if (notify_room_) notify_room_();
}

}  // namespace orcd::engine
