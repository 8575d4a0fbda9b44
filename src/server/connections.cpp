#include "server/connections.h"

#include <utility>
#include <vector>

namespace orcd::server {

void Connections::add(LineMember* member) {
  std::lock_guard lock(mutex_);
  open_.insert(member);
}

void Connections::remove(LineMember* member) {
  std::lock_guard lock(mutex_);
  open_.erase(member);
}

size_t Connections::size() const {
  std::lock_guard lock(mutex_);
  return open_.size();
}

// Under the lock a member is held only to be returned: were its last holder let go there, its destructor
// would wait for the lock for ever.
std::shared_ptr<LineMember> Connections::longest_waiting() {
  std::lock_guard lock(mutex_);
  while (true) {
    LineMember* first = nullptr;
    uint64_t first_place = LineMember::kNotWaiting;
    for (LineMember* member : open_) {
      const uint64_t place = member->place();
      if (place >= first_place) continue;
      first = member;
      first_place = place;
    }
    if (!first) return nullptr;
    if (auto alive = first->weak_from_this().lock()) return alive;
    first->leave_line();  // its last holder has gone: it waits for this lock in its destructor
  }
}

bool Connections::close_longest_waiting() {
  const std::shared_ptr<LineMember> chosen = longest_waiting();
  if (!chosen) return false;
  chosen->make_room();
  return true;
}

void Connections::close_all() {
  std::vector<std::shared_ptr<LineMember>> all;
  {
    std::lock_guard lock(mutex_);
    all.reserve(open_.size());  // with nothing held yet that could be let go under the lock
    for (LineMember* member : open_)
      if (auto alive = member->weak_from_this().lock()) all.push_back(std::move(alive));
  }
  for (const auto& member : all) member->close();
}

}  // namespace orcd::server
