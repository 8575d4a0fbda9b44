#include "kv/pages.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "base/error.h"
#include "base/sha256.h"
#include "kv/block_table.h"

namespace orcd::kv {
namespace {

std::vector<int32_t> tokens(size_t n, int32_t first = 0) {
  std::vector<int32_t> out(n);
  std::iota(out.begin(), out.end(), first);
  return out;
}

PageKey key(int32_t first) { return next_key({}, tokens(kPagePositions, first)); }

TEST(Layout, PageBytesCountKeysAndValuesInBinary16) {
  EXPECT_EQ(page_bytes(3, 64), 3u * 64 * 64 * 2 * 2);
  EXPECT_EQ(pages_for(0), 0u);
  EXPECT_EQ(pages_for(1), 1u);
  EXPECT_EQ(pages_for(64), 1u);
  EXPECT_EQ(pages_for(65), 2u);
}

TEST(PageKey, IsTheSha256OfTheParentAndTheIdsInLittleEndian) {
  std::string bytes(32, '\0');
  for (int i = 0; i < 64; ++i) bytes += {static_cast<char>(i), 0, 0, 0};
  EXPECT_EQ(to_hex(key(0).digest), sha256_hex(bytes));
}

TEST(PageKey, DependsOnEveryTokenBefore) {
  const PageKey a = key(0), b = key(1);
  EXPECT_NE(a, b);
  EXPECT_NE(next_key(a, tokens(64)), next_key(b, tokens(64)));
  EXPECT_THROW(next_key(a, tokens(63)), Error);
}

TEST(PagePool, HandsOutEachPageOnceAndThenNone) {
  PagePool pool(3);
  EXPECT_EQ(pool.allocate(), 0u);
  EXPECT_EQ(pool.allocate(), 1u);
  EXPECT_EQ(pool.allocate(), 2u);
  EXPECT_EQ(pool.allocate(), std::nullopt);
  EXPECT_EQ(pool.n_in_use(), 3u);
  pool.release(1);
  EXPECT_EQ(pool.n_available(), 1u);
  EXPECT_EQ(pool.allocate(), 1u);
}

TEST(PagePool, APageLivesAsLongAsItsLastHolder) {
  PagePool pool(1);
  const PageId page = *pool.allocate();
  pool.retain(page);
  pool.release(page);
  EXPECT_EQ(pool.n_in_use(), 1u);
  EXPECT_EQ(pool.allocate(), std::nullopt);
  pool.release(page);
  EXPECT_EQ(pool.n_free(), 1u);
}

TEST(PagePool, MisuseIsAnError) {
  PagePool pool(2);
  EXPECT_THROW(pool.release(0), Error);
  EXPECT_THROW(pool.retain(0), Error);
  EXPECT_THROW(pool.retain(2), Error);
  EXPECT_THROW(pool.publish(0, key(0)), Error);
  EXPECT_EQ(pool.n_free(), 2u);
}

TEST(PagePool, PublishedPagesAreFoundInUseAndAfter) {
  PagePool pool(2);
  const PageId page = *pool.allocate();
  EXPECT_TRUE(pool.publish(page, key(0)));
  EXPECT_EQ(pool.find(key(0)), page);
  EXPECT_EQ(pool.references(page), 2u);
  pool.release(page);
  pool.release(page);
  EXPECT_EQ(pool.n_cached(), 1u);
  EXPECT_EQ(pool.n_available(), 2u);
  EXPECT_EQ(pool.find(key(0)), page);
  EXPECT_EQ(pool.n_cached(), 0u);
  EXPECT_EQ(pool.find(key(1)), std::nullopt);
}

TEST(PagePool, TheFirstPublisherOfAKeyWins) {
  PagePool pool(2);
  const PageId first = *pool.allocate(), second = *pool.allocate();
  EXPECT_TRUE(pool.publish(first, key(0)));
  EXPECT_FALSE(pool.publish(second, key(0)));
  EXPECT_FALSE(pool.publish(first, key(1)));
  pool.release(second);
  EXPECT_EQ(pool.n_free(), 1u);  // nothing to find in it
  EXPECT_EQ(pool.find(key(0)), first);
}

TEST(PagePool, FreePagesGoFirstThenTheLeastRecentlyUsed) {
  PagePool pool(4);
  for (int32_t i = 0; i < 3; ++i) pool.publish(*pool.allocate(), key(i));
  for (const PageId page : {1u, 0u, 2u}) pool.release(page);
  pool.release(*pool.find(key(1)));  // used again: now the youngest
  EXPECT_EQ(pool.allocate(), 3u);
  EXPECT_EQ(pool.allocate(), 0u);
  EXPECT_EQ(pool.find(key(0)), std::nullopt);
  EXPECT_EQ(pool.allocate(), 2u);
  EXPECT_EQ(pool.find(key(1)), 1u);
  EXPECT_EQ(pool.allocate(), std::nullopt);
}

TEST(PagePool, ForgettingFreesWhatIsCached) {
  PagePool pool(2);
  pool.publish(*pool.allocate(), key(0));
  pool.publish(*pool.allocate(), key(1));
  pool.release(0);
  pool.forget_all();
  EXPECT_EQ(pool.n_free(), 1u);
  EXPECT_EQ(pool.find(key(0)), std::nullopt);
  EXPECT_EQ(pool.find(key(1)), std::nullopt);
  pool.release(1);
  EXPECT_EQ(pool.n_free(), 2u);
}

TEST(BlockTable, GrowsAllOrNothing) {
  PagePool pool(3);
  BlockTable a(pool), b(pool);
  EXPECT_TRUE(a.grow(65));
  EXPECT_EQ(a.pages().size(), 2u);
  EXPECT_EQ(a.capacity(), 128u);
  EXPECT_FALSE(b.grow(129));
  EXPECT_EQ(b.pages().size(), 0u);
  EXPECT_EQ(pool.n_available(), 1u);
  EXPECT_TRUE(a.grow(10));
  EXPECT_EQ(a.pages().size(), 2u);
}

TEST(BlockTable, AdoptsTheLongestCachedPrefixButNeverTheLastToken) {
  PagePool pool(8);
  const auto prompt = tokens(200);
  {
    BlockTable first(pool);
    ASSERT_TRUE(first.grow(200));
    first.publish(prompt);
  }
  EXPECT_EQ(pool.n_cached(), 3u);
  BlockTable same(pool), exact(pool), longer(pool), other(pool);
  EXPECT_EQ(same.adopt_prefix(prompt), 192u);
  EXPECT_EQ(exact.adopt_prefix(std::span(prompt).first(192)), 128u);
  EXPECT_EQ(longer.adopt_prefix(tokens(1000)), 192u);
  EXPECT_EQ(other.adopt_prefix(tokens(200, 1)), 0u);
  EXPECT_EQ(pool.references(same.pages()[0]), 3u);
  EXPECT_THROW(same.adopt_prefix(prompt), Error);
}

TEST(BlockTable, PublishesStepByStepWhatIsFull) {
  PagePool pool(8);
  BlockTable a(pool), b(pool);
  const auto all = tokens(300);
  for (const size_t n : {10u, 63u, 64u, 100u, 256u, 300u}) {
    ASSERT_TRUE(a.grow(n));
    a.publish(std::span(all).first(n));
  }
  EXPECT_THROW(a.publish(tokens(400)), Error);
  EXPECT_EQ(b.adopt_prefix(all), 256u);
  EXPECT_TRUE(std::equal(b.pages().begin(), b.pages().end(), a.pages().begin()));
}

TEST(BlockTable, APrefixOutlivesWhatFollowsIt) {
  PagePool pool(4);
  const auto prompt = tokens(256);
  {
    BlockTable table(pool);
    ASSERT_TRUE(table.grow(256));
    table.publish(prompt);
  }
  BlockTable other(pool);
  ASSERT_TRUE(other.grow(100));  // evicts two pages: the last two of the sequence
  BlockTable again(pool);
  EXPECT_EQ(again.adopt_prefix(prompt), 128u);
}

TEST(BlockTable, MovingMovesTheReferences) {
  PagePool pool(4);
  BlockTable a(pool);
  ASSERT_TRUE(a.grow(128));
  BlockTable b(std::move(a));
  EXPECT_EQ(a.pages().size(), 0u);
  EXPECT_EQ(b.pages().size(), 2u);
  a = std::move(b);
  EXPECT_EQ(a.pages().size(), 2u);
  a.clear();
  EXPECT_EQ(pool.n_free(), 4u);
}

// Sequences with shared prefixes come, grow and go at random; a mirror counts who holds what.
TEST(BlockTable, CountsStayTrueUnderRandomUse) {
  std::mt19937 random(11);
  PagePool pool(24);
  std::vector<std::pair<BlockTable, std::vector<int32_t>>> live;
  for (int step = 0; step < 5000; ++step) {
    const bool start = live.empty() || random() % 3 == 0;
    if (start && live.size() < 6) {
      std::vector<int32_t> text = tokens(1 + random() % 300, static_cast<int32_t>(random() % 2));
      BlockTable table(pool);
      table.adopt_prefix(text);
      if (!table.grow(text.size())) continue;
      table.publish(text);
      live.emplace_back(std::move(table), std::move(text));
    } else if (!live.empty()) {
      auto& [table, text] = live[random() % live.size()];
      text.push_back(static_cast<int32_t>(random() % 3));
      if (random() % 4 == 0 || !table.grow(text.size())) {
        std::swap(live[static_cast<size_t>(&live.back() - &live.front())], live[random() % live.size()]);
        live.pop_back();
      } else {
        table.publish(text);
      }
    }
    std::vector<uint32_t> held(pool.n_pages());
    for (const auto& [table, text] : live) {
      for (const PageId page : table.pages()) ++held[page];
    }
    uint32_t in_use = 0;
    for (PageId page = 0; page < pool.n_pages(); ++page) {
      ASSERT_EQ(pool.references(page), held[page]) << "page " << page << " in step " << step;
      in_use += held[page] > 0;
    }
    ASSERT_EQ(pool.n_in_use(), in_use);
  }
  live.clear();
  EXPECT_EQ(pool.n_available(), pool.n_pages());
}

}  // namespace
}  // namespace orcd::kv
