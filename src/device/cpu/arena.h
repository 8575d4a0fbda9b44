// Memory of the CPU device: one mapping per category, taken at load, counted in the ledger, resident from the
// start.
#pragma once

#include <cstdint>
#include <utility>

#include "memory/ledger.h"

namespace orcd::cpu {

class HostArena {
 public:
  HostArena() = default;
  // Maps and touches `bytes` zeroed bytes; throws Error(kInsufficientVram) when the system refuses. bytes may
  // be 0.
  HostArena(memory::Category category, uint64_t bytes, memory::Ledger* ledger);
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
