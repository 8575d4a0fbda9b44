#include "base/memory_reserve.h"

#include <atomic>
#include <cstddef>
#include <new>

namespace orcd {
namespace {

constexpr size_t kReserveBytes = size_t{4} << 20;

std::atomic<void*> reserve = nullptr;
std::atomic<bool> is_used = false;

void spend_reserve() {
  void* const held = reserve.exchange(nullptr);
  if (!held) throw std::bad_alloc();
  ::operator delete(held);
}

bool fill_reserve() noexcept {
  void* const held = ::operator new(kReserveBytes, std::nothrow);
  void* none = nullptr;
  if (held && !reserve.compare_exchange_strong(none, held)) ::operator delete(held);  // another was faster
  return reserve != nullptr;
}

}  // namespace

void hold_memory_reserve() {
  is_used = true;
  fill_reserve();
  std::set_new_handler(spend_reserve);
}

bool memory_reserve_is_whole() noexcept { return !is_used || reserve || fill_reserve(); }

}  // namespace orcd
