#include "device/cpu/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"

namespace orcd::cpu {

namespace {
constexpr uint64_t kTouchBytes =
    16 << 20;  // the system may take 0.1 s for so much, where memory is in pieces
}

// Delegates, so that the destructor gives back what a stop leaves half touched.
HostArena::HostArena(memory::Category category, uint64_t bytes, memory::Ledger* ledger,
                     const std::function<void()>& between_pieces)
    : HostArena() {
  if (bytes == 0) return;
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error(ErrorCode::kInsufficientVram, "the system refused memory for an arena",
                {{"category", std::string(memory::category_name(category))},
                 {"bytes", bytes},
                 {"device", std::string("cpu")},
                 {"system", std::string(std::strerror(errno))}},
                "free memory or lower --ctx and --slots");
  }
  // Large pages where the system has them: fewer TLB misses while streaming weights. Advice only.
  madvise(mapped, bytes, MADV_HUGEPAGE);
  data_ = static_cast<uint8_t*>(mapped);
  bytes_ = bytes;
  category_ = category;
  ledger_ = ledger;
  ledger_->allocated(category_, bytes_);
  // Touched now, so that nothing is left to fail or to wait for later.
  for (uint64_t done = 0; done < bytes; done += kTouchBytes) {
    if (between_pieces) between_pieces();
    std::memset(data_ + done, 0, std::min(kTouchBytes, bytes - done));
  }
}

HostArena::~HostArena() {
  if (data_ == nullptr) return;
  munmap(data_, bytes_);
  ledger_->freed(category_, bytes_);
}

HostArena& HostArena::operator=(HostArena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(category_, other.category_);
  std::swap(ledger_, other.ledger_);
  return *this;
}

}  // namespace orcd::cpu
