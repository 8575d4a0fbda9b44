// The open connections of a server: how many there are, and who makes room when there are too many.
#pragma once

#include <memory>
#include <mutex>
#include <set>

namespace orcd::server {

class Connection;

// Thread-safe.
class Connections {
 public:
  void add(Connection* connection);
  void remove(Connection* connection);  // REQUIRES that it was added
  size_t size() const;
  // Closes the one that has waited longest for its client: first of those that have sent nothing of a
  // request, then of those in the middle of one. false if every one is being answered.
  bool close_longest_waiting();

 private:
  mutable std::mutex mutex_;
  std::set<Connection*> open_;
};

}  // namespace orcd::server
