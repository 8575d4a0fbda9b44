#include "server/connections.h"

#include "server/connection.h"

namespace orcd::server {

void Connections::add(Connection* connection) {
  std::lock_guard lock(mutex_);
  open_.insert(connection);
}

void Connections::remove(Connection* connection) {
  std::lock_guard lock(mutex_);
  open_.erase(connection);
}

size_t Connections::size() const {
  std::lock_guard lock(mutex_);
  return open_.size();
}

bool Connections::close_longest_waiting() {
  std::shared_ptr<Connection> chosen;
  {
    std::lock_guard lock(mutex_);
    for (Connection* connection : open_) {
      if (connection->place() >= (chosen ? chosen->place() : Connection::kNotWaiting)) continue;
      // One whose last holder has gone waits for this lock in its destructor.
      if (auto alive = connection->weak_from_this().lock()) chosen = std::move(alive);
    }
  }
  if (!chosen) return false;
  chosen->make_room();
  return true;
}

}  // namespace orcd::server
