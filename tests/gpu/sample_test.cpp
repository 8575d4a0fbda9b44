// Drawing on the device, kernel by kernel: every token and digest equals the host's, by one block and by a
// cluster of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

#include "device/cuda/ops.h"
#include "gpu/rig.h"
#include "sampling/rules.h"
#include "support/host_sampler.h"

namespace orcd::cuda {
namespace {

using sampling::SamplingParams;

constexpr float kInf = std::numeric_limits<float>::infinity();

// Device memory that lives as long as a test's rig.
class Buffers {
 public:
  explicit Buffers(Calls* calls) : calls_(calls) {}
  ~Buffers() {
    calls_->finish();
    for (const auto& [pointer, bytes] : all_)
      calls_->free(nullptr, memory::Category::kSampling, bytes, pointer);
  }
  template <typename T>
  T* make(size_t n) {
    const uint64_t bytes = n * sizeof(T);
    void* pointer = calls_->allocate(nullptr, memory::Category::kSampling, bytes);
    all_.emplace_back(pointer, bytes);
    calls_->set(pointer, 0, bytes, "a test's buffer");
    return static_cast<T*>(pointer);
  }
  template <typename T>
  T* make(const std::vector<T>& values) {
    T* pointer = make<T>(values.size());
    write(pointer, values);
    return pointer;
  }
  template <typename T>
  void write(T* to, const std::vector<T>& values) {
    calls_->copy_to_device(to, values.data(), values.size() * sizeof(T), "a test's input");
    calls_->synchronize("a test's input");
  }
  template <typename T>
  std::vector<T> read(const T* from, size_t n) {
    std::vector<T> out(n);
    calls_->copy_to_host(out.data(), from, n * sizeof(T), "a test's output");
    calls_->synchronize("a test's output");
    return out;
  }

 private:
  Calls* calls_;
  std::vector<std::pair<void*, uint64_t>> all_;
};

class Cases {
 public:
  explicit Cases(uint32_t n_vocab) : n_vocab_(n_vocab), rng_(n_vocab) {}

  std::vector<float> logits(uint32_t kind) {
    std::vector<float> out(n_vocab_);
    std::normal_distribution<float> normal(0.0f, 4.0f);
    for (float& logit : out) {
      const float x = normal(rng_);
      switch (kind % 7) {
        case 0:
          logit = x;
          break;
        case 1:
          logit = 1.5f;
          break;  // all equal
        case 2:
          logit = x * 1e-4f;
          break;  // nearly
        case 3:
          logit = std::floor(x);
          break;  // ties
        case 4:
          logit = rng_() % 2 ? x : -kInf;
          break;  // masked
        case 5:
          logit = x * 1e30f;
          break;  // far apart
        default:
          logit = x < -2.0f ? -0.0f : (x < 0.0f ? 0.0f : x / 100.0f);  // both zeros
      }
    }
    if (kind % 7 == 3) out[rng_() % n_vocab_] += 30.0f;
    if (kind % 7 == 4) out[rng_() % n_vocab_] = 1.0f;
    if (kind == 7) std::fill(out.begin(), out.end(), -kInf);
    if (kind == 8) out[rng_() % n_vocab_] = std::numeric_limits<float>::quiet_NaN();
    if (kind == 9) out[n_vocab_ - 1] = kInf;
    return out;
  }
  SamplingParams params() {
    const auto pick = [&](auto... values) {
      const std::common_type_t<decltype(values)...> all[] = {values...};
      return all[rng_() % std::size(all)];
    };
    SamplingParams out;
    out.temperature = pick(0.0f, 1e-6f, 0.3f, 0.8f, 1.0f, 2.0f);
    out.top_p = pick(0.0f, 1e-9f, 0.1f, 0.5f, 0.95f, 1.0f, 1.0f);
    out.top_k = pick(0u, 0u, 1u, 7u, 40u, n_vocab_ - 1, n_vocab_, n_vocab_ + 1);
    out.min_p = pick(0.0f, 0.0f, 0.05f, 1.0f);
    out.repetition_penalty = pick(1.0f, 1.0f, 1.3f, 0.5f, 0.0f);
    out.seed = rng_();
    out.choice = static_cast<uint32_t>(rng_() % 3);
    return out;
  }
  std::vector<int32_t> seen() {
    std::vector<int32_t> out(rng_() % 50);
    for (int32_t& id : out) id = static_cast<int32_t>(rng_() % n_vocab_);
    return out;
  }

 private:
  uint32_t n_vocab_;
  std::mt19937_64 rng_;
};

class SampleRows : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Vocabularies, SampleRows,
                         testing::Values(1, 2, 31, 300, 5'000, 49'152, 151'936, 262'145));

TEST_P(SampleRows, EqualTheHostsForAnyParametersAndLogits) {
  const uint32_t n_vocab = GetParam(), n_rows = 70, words = (n_vocab + 63) / 64 * 2;
  test::Rig rig;
  Buffers buffers(&rig.calls());
  Cases cases(n_vocab);
  test::HostSampler host(n_vocab);

  std::vector<float> logits;
  std::vector<SlotState> slots(n_rows);
  std::vector<uint32_t> seen(uint64_t{n_rows} * words);
  std::vector<int32_t> position(n_rows), row_token(n_rows), row_slot(n_rows), want(n_rows, -1);
  std::vector<bool> broken(n_rows);
  std::vector<numerics::Digest> digests(n_rows);
  for (uint32_t row = 0; row < n_rows; ++row) {
    // Rows, tokens and slots in orders of their own; every 13th row is of a sequence that draws nothing.
    const uint32_t slot = (row * 3 + 1) % n_rows, token = n_rows - 1 - row;
    const std::vector<float> one = cases.logits(row % 10);
    logits.insert(logits.end(), one.begin(), one.end());
    slots[slot].params = cases.params();
    position[token] = static_cast<int32_t>(row * 31);
    row_token[row] = static_cast<int32_t>(token);
    row_slot[row] = row % 13 == 12 ? -1 : static_cast<int32_t>(slot);
    digests[row] = numerics::digest_row(one.data(), n_vocab);
    broken[row] = !std::all_of(one.begin(), one.end(), sampling::is_valid_logit);
    const std::vector<int32_t> ids = cases.seen();
    for (const int32_t id : ids) seen[slot * words + static_cast<uint32_t>(id) / 32] |= 1u << (id % 32);
    if (row_slot[row] < 0) continue;
    host.sampler.begin(slots[slot].params, ids);
    const sampling::SampleResult result = host.draw(one, static_cast<uint64_t>(position[token]) + 1);
    want[row] = result.token;
    broken[row] = result.non_finite;
  }

  SampleArgs args = {};
  args.step.position = buffers.make(position);
  args.step.row_token = buffers.make(row_token);
  args.step.row_slot = buffers.make(row_slot);
  args.logits = buffers.make(logits);
  args.n_vocab = n_vocab;
  args.slots = buffers.make(slots);
  args.seen = buffers.make(seen);
  args.seen_words = words;
  args.last_token = buffers.make<int32_t>(n_rows);
  args.row_best = buffers.make<uint64_t>(n_rows);
  args.results = buffers.make<RowResult>(n_rows);
  args.published = buffers.make<RowResult>(n_rows);
  args.values = buffers.make<float>(logits.size());
  args.ids = buffers.make<uint32_t>(logits.size());
  std::vector<uint32_t> sizes = {1};
  if (rig.context->has_clusters) sizes = {1, 2, kSampleBlocks};
  for (const uint32_t n_blocks : sizes) {
    buffers.write(args.seen, seen);
    launch_row_stats(&rig.calls(), n_rows, args);
    launch_sample(&rig.calls(), n_rows, n_blocks, args);
    const std::vector<RowResult> got = buffers.read(args.published, n_rows);
    const std::vector<int32_t> last = buffers.read(args.last_token, n_rows);
    const std::vector<uint32_t> seen_now = buffers.read(args.seen, seen.size());
    for (uint32_t row = 0; row < n_rows; ++row) {
      SCOPED_TRACE("row " + std::to_string(row) + ", blocks " + std::to_string(n_blocks));
      EXPECT_EQ(got[row].token, want[row]);
      EXPECT_EQ(got[row].non_finite != 0, broken[row]);
      EXPECT_EQ(got[row].digest, digests[row]);
      if (row_slot[row] < 0) continue;
      const auto slot = static_cast<uint32_t>(row_slot[row]);
      EXPECT_EQ(last[slot], want[row]);
      if (want[row] < 0) continue;
      const auto id = static_cast<uint32_t>(want[row]);
      EXPECT_EQ(seen_now[slot * words + id / 32], seen[slot * words + id / 32] | 1u << (id % 32));
    }
    // What the next step finds.
    EXPECT_EQ(buffers.read(args.row_best, n_rows), std::vector<uint64_t>(n_rows));
    for (const RowResult& result : buffers.read(args.results, n_rows))
      EXPECT_TRUE(result.digest == numerics::Digest{} && result.non_finite == 0);
  }
}

}  // namespace
}  // namespace orcd::cuda
