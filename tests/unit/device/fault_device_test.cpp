// Names of devices that fail on purpose, and which calls of them do.
#include "device/fault/fault_device.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace orcd::fault {
namespace {

TEST(FaultDevice, NamesSayCallNumberModeAndDevice) {
  const Name name = parse_name("fault:collect:12:lost:cuda:3");
  EXPECT_EQ(name.plan.call, Call::kCollect);
  EXPECT_EQ(name.plan.first, 12u);
  EXPECT_EQ(name.plan.how, How::kLost);
  EXPECT_EQ(name.device, "cuda:3");
  for (const char* wrong :
       {"fault:", "fault:collect:0:lost:cpu", "fault:collect:1:lost:", "fault:x:1:once:cpu",
        "fault:begin:1:never:cpu", "fault:begin:1x:once:cpu", "fault:begin:-1:once:cpu"}) {
    try {
      parse_name(wrong);
      ADD_FAILURE() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
    }
  }
}

// Which of the first five calls fail.
std::string struck(Faults& faults, Call call) {
  std::string out;
  for (int i = 0; i < 5; ++i) {
    try {
      faults.strike(call);
      out += '.';
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCudaError);
      out += 'x';
    }
  }
  return out;
}

TEST(FaultDevice, OnceAlwaysAndLost) {
  Faults faults({Call::kSubmit, 3, How::kOnce});
  EXPECT_EQ(struck(faults, Call::kBegin), ".....");
  EXPECT_EQ(struck(faults, Call::kSubmit), "..x..");
  faults.set({Call::kSubmit, 3, How::kAlways});
  EXPECT_EQ(struck(faults, Call::kSubmit), "..xxx");
  EXPECT_FALSE(faults.lost());
  faults.set({Call::kSubmit, 3, How::kLost});
  EXPECT_EQ(struck(faults, Call::kSubmit), "..xxx");
  EXPECT_TRUE(faults.lost());
  EXPECT_EQ(struck(faults, Call::kBegin), "xxxxx");
  faults.set({});
  EXPECT_EQ(struck(faults, Call::kBegin), ".....");
}

}  // namespace
}  // namespace orcd::fault
