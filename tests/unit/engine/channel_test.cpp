#include "engine/channel.h"

#include <gtest/gtest.h>

#include <thread>

namespace orcd::engine {
namespace {

Event token(uint32_t index) { return TokenEvent{"x", 7, index}; }
Event cancelled() { return ErrorEvent{Error(ErrorCode::kCancelled, "stop")}; }

TEST(Channel, GivesEventsInOrderAndEndsAfterTheTerminalOne) {
  Channel channel(4);
  EXPECT_TRUE(channel.push(token(0)));
  EXPECT_TRUE(channel.push(token(1)));
  EXPECT_TRUE(channel.push_terminal(cancelled()));
  EXPECT_EQ(std::get<TokenEvent>(*channel.pop()).index, 0u);
  EXPECT_EQ(std::get<TokenEvent>(*channel.try_pop()).index, 1u);
  EXPECT_FALSE(channel.finished());
  EXPECT_TRUE(std::holds_alternative<ErrorEvent>(*channel.pop()));
  EXPECT_TRUE(channel.finished());
  EXPECT_FALSE(channel.pop().has_value());
  EXPECT_FALSE(channel.try_pop().has_value());
}

TEST(Channel, WaitsNoLongerThanUntilTheDeadline) {
  Channel channel;
  const auto now = std::chrono::steady_clock::now();
  EXPECT_FALSE(channel.pop_until(now).has_value());
  EXPECT_FALSE(channel.finished());
  channel.push(token(0));
  EXPECT_EQ(std::get<TokenEvent>(*channel.pop_until(now)).index, 0u);
  std::thread producer([&] { channel.push_terminal(cancelled()); });
  EXPECT_TRUE(channel.pop_until(std::chrono::steady_clock::time_point::max()).has_value());
  producer.join();
  EXPECT_FALSE(channel.pop_until(std::chrono::steady_clock::time_point::max()).has_value());
}

TEST(Channel, HasOneTerminalEventAndNothingAfterIt) {
  Channel channel;
  EXPECT_TRUE(channel.push_terminal(cancelled()));
  EXPECT_FALSE(channel.push_terminal(cancelled()));
  EXPECT_FALSE(channel.push(token(0)));
  EXPECT_TRUE(channel.pop().has_value());
  EXPECT_FALSE(channel.pop().has_value());
}

TEST(Channel, OutOfMemoryIsATerminalEventThatTakesNone) {
  Channel channel;
  int notices = 0;
  channel.on_event([&] { ++notices; });
  channel.push(token(0));
  channel.push_out_of_memory();
  EXPECT_EQ(notices, 2);
  EXPECT_FALSE(channel.push_terminal(cancelled()));
  EXPECT_EQ(std::get<TokenEvent>(*channel.pop()).index, 0u);
  EXPECT_FALSE(channel.finished());
  EXPECT_EQ(std::get<ErrorEvent>(*channel.try_pop()).error.message(), out_of_memory().message());
  EXPECT_TRUE(channel.finished());
  EXPECT_FALSE(channel.pop().has_value());
}

TEST(Channel, OutOfMemoryReachesAReaderThatWaitsUntilADeadline) {
  Channel channel;
  channel.push_out_of_memory();
  const std::optional<Event> last = channel.pop_until(std::chrono::steady_clock::now());
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(std::get<ErrorEvent>(*last).error.message(), out_of_memory().message());
  EXPECT_TRUE(channel.finished());
}

TEST(Channel, OutOfMemoryAfterTheTerminalEventChangesNothing) {
  Channel channel;
  channel.push_terminal(cancelled());
  channel.push_out_of_memory();
  EXPECT_EQ(std::get<ErrorEvent>(*channel.pop()).error.code(), ErrorCode::kCancelled);
  EXPECT_FALSE(channel.pop().has_value());
}

TEST(Channel, AReaderIsBehindFromAFullChannelToAHalfEmptyOneWhichIsAnnouncedOnce) {
  Channel channel(4);
  int rooms = 0;
  channel.on_room([&] { ++rooms; });
  for (uint32_t i = 0; i < 3; ++i) channel.push(token(i));
  EXPECT_FALSE(channel.behind());
  channel.push(token(3));
  EXPECT_TRUE(channel.behind());
  EXPECT_TRUE(channel.push(token(4)));  // of a step already under way
  for (int size = 4; size > 2; --size) {
    channel.try_pop();
    EXPECT_EQ(rooms, 0);
    EXPECT_TRUE(channel.behind());
  }
  channel.try_pop();
  EXPECT_EQ(rooms, 1);
  EXPECT_FALSE(channel.behind());
  channel.try_pop();
  channel.try_pop();
  EXPECT_EQ(rooms, 1);
}

TEST(Channel, OfOneEventIsFullAndEmptyInTurns) {
  Channel channel(1);
  channel.push(token(0));
  EXPECT_TRUE(channel.behind());
  channel.try_pop();
  EXPECT_FALSE(channel.behind());
}

TEST(Channel, ReaderThatLeavesIsAnnouncedAndNothingIsTakenAnyMore) {
  Channel channel;
  int rooms = 0;
  channel.on_room([&] { ++rooms; });
  channel.close_reader();
  channel.close_reader();
  EXPECT_EQ(rooms, 1);
  EXPECT_TRUE(channel.reader_gone());
  EXPECT_FALSE(channel.push(token(0)));
  EXPECT_TRUE(channel.push_terminal(cancelled()));
}

TEST(Channel, NotifiesForEveryEvent) {
  Channel channel;
  int events = 0;
  channel.on_event([&] { ++events; });
  channel.push(token(0));
  channel.push_terminal(cancelled());
  EXPECT_EQ(events, 2);
}

TEST(Channel, BlockingReaderGetsEverythingFromAnotherThread) {
  Channel channel(8);
  std::thread producer([&] {
    for (uint32_t i = 0; i < 1000; ++i) channel.push(token(i));
    channel.push_terminal(cancelled());
  });
  uint32_t n = 0;
  while (const auto event = channel.pop()) {
    if (const auto* t = std::get_if<TokenEvent>(&*event)) {
      EXPECT_EQ(t->index, n++);
    }
  }
  producer.join();
  EXPECT_EQ(n, 1000u);
}

}  // namespace
}  // namespace orcd::engine
