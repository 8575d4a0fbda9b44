// Memory of the CPU device: one mapping per category, taken at load, counted in the ledger, resident from the
// start.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "memory/ledger.h"

namespace orcd::cpu {

class HostArena {
 public:
  HostArena() = default;
  // Maps and touches `bytes` zeroed bytes; throws Error(kInsufficientVram) when the system refuses. bytes may
  // be 0. between_pieces, unless empty, is called before each piece is touched; what it throws ends that.
  HostArena(memory::Category category, uint64_t bytes, memory::Ledger* ledger,
            const std::function<void()>& between_pieces = {});
  ~HostArena();
  HostArena(HostArena&& other) noexcept { *this = std::move(other); }
  HostArena& operator=(HostArena&& other) noexcept;

  uint8_t* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  uint64_t bytes_ = 0;
  memory::Category category_{};
  memory::Ledger* ledger_ = nullptr;
};

}  // namespace orcd::cpu
