#include "base/memory_reserve.h"

#include <gtest/gtest.h>

#include <new>

#include "base/error.h"

namespace orcd {
namespace {

// The handler is what operator new calls when it finds nothing: it makes room once, then gives up.
TEST(MemoryReserve, IsSpentOnceAndFilledAgain) {
  EXPECT_TRUE(memory_reserve_is_whole()) << "none was held, so none is missing";
  hold_memory_reserve();
  const std::new_handler handler = std::get_new_handler();
  ASSERT_NE(handler, nullptr);
  handler();
  EXPECT_THROW(handler(), std::bad_alloc);
  EXPECT_TRUE(memory_reserve_is_whole()) << "there is memory, so it is filled again";
  handler();
  EXPECT_THROW(handler(), std::bad_alloc);
  std::set_new_handler(nullptr);
}

TEST(OutOfMemory, IsOneInternalErrorWithAHint) {
  EXPECT_EQ(&out_of_memory(), &out_of_memory());
  EXPECT_EQ(out_of_memory().code(), ErrorCode::kInternal);
  EXPECT_FALSE(out_of_memory().hint().empty());
}

}  // namespace
}  // namespace orcd
