// Extreme parameters and logits, each with the ids that may come out. What each value means:
// docs/NUMERICS.md, N6.
#include <gtest/gtest.h>

#include <limits>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "sampling/sampler.h"
#include "support/host_sampler.h"

namespace orcd::sampling {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kMax = std::numeric_limits<float>::max();

using Logits = std::vector<float>;
using Ids = std::set<int32_t>;

// 1 is the most likely, 3 and 4 are tied behind it; 5 is far behind.
const Logits kUsual = {0, 3, 1, 2, 2, -30};
const Logits kEqual(6, 1.5f);
const Ids kAll = {0, 1, 2, 3, 4, 5}, kBroken = {-1};

struct Edge {
  std::string name;
  SamplingParams params;
  Logits logits;
  Ids seen;
  Ids drawn;  // exactly these come out over 4,000 positions; {-1}: the row is reported as not finite
};
std::ostream& operator<<(std::ostream& out, const Edge& edge) { return out << edge.name; }

SamplingParams temperature(float value) { return {.temperature = value}; }
SamplingParams top_k(uint32_t value) { return {.top_k = value}; }
SamplingParams top_p(float value) { return {.top_p = value}; }
SamplingParams min_p(float value) { return {.min_p = value}; }
SamplingParams penalty(float value, float t = 0) { return {.temperature = t, .repetition_penalty = value}; }

struct Drawn {
  Ids ids;
  bool non_finite = false;
};

Drawn draw_many(const Edge& edge, int n = 4000) {
  test::HostSampler host(static_cast<uint32_t>(edge.logits.size()));
  Drawn drawn;
  for (int position = 0; position < n; ++position) {
    host.sampler.begin(edge.params, std::vector<int32_t>(edge.seen.begin(), edge.seen.end()));
    const SampleResult result = host.draw(edge.logits, static_cast<uint64_t>(position));
    drawn.ids.insert(result.token);
    drawn.non_finite |= result.non_finite;
  }
  return drawn;
}

class SamplingEdge : public testing::TestWithParam<Edge> {};

TEST_P(SamplingEdge, DrawsExactlyWhatTheTableSays) {
  const Edge& edge = GetParam();
  const Drawn drawn = draw_many(edge);
  EXPECT_EQ(drawn.ids, edge.drawn);
  EXPECT_EQ(drawn.non_finite, edge.drawn == kBroken);
}

// A sampled token that the row masks, or whose weight is 0, would be a token of probability 0.
const Ids kUsualDrawn = {0, 1, 2, 3, 4};  // exp(-33) * 2^32 < 1: token 5 weighs 0

INSTANTIATE_TEST_SUITE_P(
    Temperature, SamplingEdge,
    testing::Values(
        Edge{"zero is the maximum", temperature(0), kUsual, {}, {1}},
        Edge{"zero, all equal: the lowest id", temperature(0), kEqual, {}, {0}},
        Edge{"zero, tied maxima: the lowest id", temperature(0), {1, 5, 2, 5, 5}, {}, {1}},
        Edge{"1e-6 is the maximum", temperature(1e-6f), kUsual, {}, {1}},
        Edge{"1e-6, all equal: each", temperature(1e-6f), kEqual, {}, kAll},
        Edge{"1e-6, tied maxima: each of them", temperature(1e-6f), {1, 5, 2, 5, 5}, {}, {1, 3, 4}},
        Edge{"a denormal counts as zero", temperature(1e-40f), {5, 5, 1}, {}, {0}},
        Edge{"1", temperature(1), kUsual, {}, kUsualDrawn},
        Edge{"2 is flatter", temperature(2), kUsual, {}, kUsualDrawn},
        Edge{"2, logits of the largest magnitude", temperature(2), {kMax, -kMax, kMax}, {}, {0, 2}},
        Edge{"1e-6, quotients stop at the largest float", temperature(1e-6f), {kMax, 1e33f, 0}, {}, {0, 1}}));

INSTANTIATE_TEST_SUITE_P(
    TopK, SamplingEdge,
    testing::Values(Edge{"0 is off", top_k(0), kUsual, {}, kUsualDrawn},
                    Edge{"1 is the maximum", top_k(1), kUsual, {}, {1}},
                    Edge{"1, all equal: the lowest id", top_k(1), kEqual, {}, {0}},
                    Edge{"2 of two tied: the lower id", top_k(2), kUsual, {}, {1, 3}},
                    Edge{"3 has both of them", top_k(3), kUsual, {}, {1, 3, 4}},
                    Edge{"the vocabulary is off", top_k(6), kUsual, {}, kUsualDrawn},
                    Edge{"one more is off", top_k(7), kUsual, {}, kUsualDrawn},
                    Edge{"the largest number is off", top_k(UINT32_MAX), kUsual, {}, kUsualDrawn}));

INSTANTIATE_TEST_SUITE_P(
    TopP, SamplingEdge,
    testing::Values(Edge{"0 keeps one token", top_p(0), kUsual, {}, {1}},
                    Edge{"0, all equal: the lowest id", top_p(0), kEqual, {}, {0}},
                    Edge{"1e-9 keeps one token", top_p(1e-9f), kUsual, {}, {1}},
                    Edge{"1e-9, all equal: the lowest id", top_p(1e-9f), kEqual, {}, {0}},
                    Edge{"half of four equal: two", top_p(0.5f), {1, 1, 1, 1}, {}, {0, 1}},
                    Edge{"a little more: three", top_p(0.50001f), {1, 1, 1, 1}, {}, {0, 1, 2}},
                    Edge{"1 is off", top_p(1), kUsual, {}, kUsualDrawn}));

INSTANTIATE_TEST_SUITE_P(
    MinP, SamplingEdge,
    testing::Values(Edge{"0 is off", min_p(0), kUsual, {}, kUsualDrawn},
                    Edge{"1 keeps the maximum", min_p(1), kUsual, {}, {1}},
                    Edge{"1 keeps what is tied with it", min_p(1), kEqual, {}, kAll},
                    Edge{"a third keeps those at exp(-1)", min_p(1.0f / 3), kUsual, {}, {1, 3, 4}},
                    Edge{"a half does not", min_p(0.5f), kUsual, {}, {1}}));

INSTANTIATE_TEST_SUITE_P(
    Penalty, SamplingEdge,
    testing::Values(Edge{"1 is off", penalty(1), kUsual, {1}, {1}},
                    Edge{"2 halves what is above zero", penalty(2), kUsual, {1}, {3}},
                    Edge{"2 doubles what is below zero", penalty(2), {-2, -3, -5}, {0}, {1}},
                    Edge{"2 leaves a zero", penalty(2), {0, -1, -2}, {0}, {0}},
                    Edge{"0 makes the largest float of what is above zero", penalty(0), {1, 3, 2}, {2}, {2}},
                    Edge{"0, more of them: a tie to the lowest id", penalty(0), {1, 3, 2}, {0, 1, 2}, {0}},
                    Edge{"0 makes zero of what is below", penalty(0), {-1, -3, -2}, {1}, {1}},
                    Edge{"0 leaves a zero", penalty(0), {0, -1, 1}, {0}, {2}},
                    Edge{"a masked token stays masked", penalty(0), {-kInf, -3, -2}, {0}, {2}},
                    Edge{"0 while drawing: no NaN", penalty(0, 1), {1, 3, 2}, {0, 1, 2}, {0, 1, 2}}));

INSTANTIATE_TEST_SUITE_P(
    Logits, SamplingEdge,
    testing::Values(Edge{"all equal: each id", temperature(1), kEqual, {}, kAll},
                    Edge{"all zero", temperature(1), Logits(6, 0.0f), {}, kAll},
                    Edge{"zeros of both signs are equal", temperature(0), {-0.0f, 0.0f}, {}, {0}},
                    Edge{"one token", temperature(1), {-7}, {}, {0}},
                    Edge{"all but one masked", temperature(1), {-kInf, -kInf, -9, -kInf}, {}, {2}},
                    Edge{"all masked", temperature(1), Logits(6, -kInf), {}, kBroken},
                    Edge{"one is plus infinity", temperature(1), {0, kInf, 1}, {}, kBroken},
                    Edge{"one is plus infinity, greedy", temperature(0), {0, kInf, 1}, {}, kBroken},
                    Edge{"one is NaN", temperature(1), {0, 1, kNan}, {}, kBroken},
                    Edge{"one is NaN, greedy", temperature(0), {0, 1, kNan}, {}, kBroken},
                    Edge{"NaN outside the top k", top_k(1), {9, 1, kNan}, {}, kBroken},
                    Edge{"all NaN", temperature(0), Logits(6, kNan), {}, kBroken},
                    Edge{"the largest floats", temperature(1), {kMax, -kMax, kMax}, {}, {0, 2}}));

INSTANTIATE_TEST_SUITE_P(
    Together, SamplingEdge,
    testing::Values(Edge{"everything off at its extreme",
                         {.top_p = 1, .top_k = 6, .min_p = 0, .repetition_penalty = 1},
                         kUsual,
                         {},
                         kUsualDrawn},
                    Edge{"everything as narrow as can be",
                         {.temperature = 2, .top_p = 0, .top_k = 1, .min_p = 1},
                         kUsual,
                         {},
                         {1}},
                    Edge{
                        "top-k cuts before top-p counts", {.top_p = 0.5f, .top_k = 2}, {1, 1, 1, 1}, {}, {0}},
                    Edge{"a penalty before the temperature's maximum",
                         {.temperature = 1e-6f, .repetition_penalty = 2},
                         kUsual,
                         {1},
                         {3, 4}}));

// The same draw wherever it happens: nothing but logits, parameters, seen tokens and position goes in, not
// what a neighbour in the same workspace drew before.
TEST(SamplingReproducible, AnyOrderOfDrawsGivesTheSameTokens) {
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> workspace(workspace_bytes(6) / 64 + 1);
  struct Slot {
    explicit Slot(const SamplingParams& params)
        : state(slot_bytes(6) / 8 + 1), sampler(6, std::as_writable_bytes(std::span(state))) {
      sampler.begin(params, {});
    }
    std::vector<uint64_t> state;
    SlotSampler sampler;
  };
  const auto draw = [&](Slot& slot, uint64_t position) {
    return slot.sampler.sample(kUsual, position, std::as_writable_bytes(std::span(workspace))).token;
  };
  const SamplingParams params = {.temperature = 0.8f, .top_p = 0.9f, .seed = 77};
  Slot alone(params), batched(params), neighbour({.temperature = 2, .top_k = 3, .seed = 5});
  std::vector<int32_t> forwards(64), backwards(64);
  for (uint64_t i = 0; i < 64; ++i) forwards[i] = draw(alone, i);
  for (uint64_t i = 64; i-- > 0;) {
    draw(neighbour, i);
    backwards[i] = draw(batched, i);
  }
  EXPECT_EQ(forwards, backwards);
  EXPECT_GT(std::set<int32_t>(forwards.begin(), forwards.end()).size(), 1u);
}

}  // namespace
}  // namespace orcd::sampling
