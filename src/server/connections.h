// The open connections of a server: how many there are, and who makes room when there are too many.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>

namespace orcd::server {

// A connection as the line of those that wait for their clients sees it. Any thread may call.
class LineMember : public std::enable_shared_from_this<LineMember> {
 public:
  static constexpr uint64_t kNotWaiting = UINT64_MAX;

  // kNotWaiting while a request is being answered. Whoever has sent nothing of a request stands before all
  // who have.
  virtual uint64_t place() const = 0;
  virtual void leave_line() = 0;  // place() is kNotWaiting from now on
  virtual void make_room() = 0;   // closes it, unless a request has come meanwhile
  virtual void close() = 0;       // with what it answers; REQUIRES that no thread serves it any more

 protected:
  ~LineMember() = default;
};

// Thread-safe. Members call remove() in their destructors.
class Connections {
 public:
  void add(LineMember* member);
  void remove(LineMember* member);  // REQUIRES that it was added
  size_t size() const;
  // Closes the one that has waited longest for its client: first of those that have sent nothing of a
  // request, then of those in the middle of one. false if every one is being answered.
  bool close_longest_waiting();
  void close_all();  // REQUIRES that no thread serves any of them any more

 private:
  std::shared_ptr<LineMember> longest_waiting();

  mutable std::mutex mutex_;
  std::set<LineMember*> open_;
};

}  // namespace orcd::server
