// What once went wrong while a device was taking its memory.
#include <gtest/gtest.h>

#include <stdexcept>

#include "device/cpu/arena.h"

namespace orcd::cpu {
namespace {

struct Stopped : std::runtime_error {
  Stopped() : std::runtime_error("stopped") {}
};

// A SIGTERM was not looked at while an arena was touched: 15 s for the KV cache of a small model, where the
// system had to put its large pages together first.
TEST(DeviceRegression, TouchingAnArenaCanBeStoppedAndLeavesNothing) {
  memory::Ledger ledger;
  int n_pieces = 0;
  const auto stop_at_third = [&] {
    if (++n_pieces == 3) throw Stopped();
  };
  EXPECT_THROW(HostArena(memory::Category::kKv, 256 << 20, &ledger, stop_at_third), Stopped);
  EXPECT_EQ(n_pieces, 3);
  EXPECT_EQ(ledger.total_bytes(), 0u);
}

}  // namespace
}  // namespace orcd::cpu
