#include "sampling/sampler.h"

#include <algorithm>
#include <bit>

#include "sampling/passes.h"
#include "sampling/rules.h"

namespace orcd::sampling {
namespace {

constexpr uint32_t kBins = 2048;
constexpr uint32_t kCopies =
    4;  // of a histogram: neighbours that fall into one bin do not wait for each other
constexpr float kMinusInf = -__builtin_inff();

constexpr uint64_t n_blocks(uint64_t n_values) { return (n_values + kBlock - 1) / kBlock; }

// The workspace. Candidates are whole blocks of values. Logits of the whole vocabulary are not kept: the few
// blocks that matter are adjusted again.
struct Workspace {
  uint64_t* bins;  // [kCopies][kBins]
  uint32_t* keys;  // [n_vocab rounded up to kBlock]; of a selection
  uint32_t* ids;   // [same]; of candidates that are not the whole vocabulary
  float* values;   // [same]; of candidates: logits, then weights
  uint64_t* sums;  // [n_blocks]; of candidates
  float* maxima;   // [n_blocks]; of the vocabulary
};

Workspace lay_out(std::byte* base, uint64_t n_vocab) {
  const uint64_t padded = n_blocks(n_vocab) * kBlock;
  Workspace w;
  w.bins = reinterpret_cast<uint64_t*>(base);
  w.keys = reinterpret_cast<uint32_t*>(w.bins + kCopies * kBins);
  w.ids = w.keys + padded;
  w.values = reinterpret_cast<float*>(w.ids + padded);
  w.sums = reinterpret_cast<uint64_t*>(w.values + padded);
  w.maxima = reinterpret_cast<float*>(w.sums + n_blocks(n_vocab));
  return w;
}

// The logits of a step with what is done to them before anything is compared.
struct Logits {
  std::span<const float> raw;
  const SamplingParams& params;
  const uint64_t* seen;

  uint64_t blocks() const { return n_blocks(raw.size()); }
  // Steps 1 and 2; out: [kBlock].
  bool adjust(uint64_t block, float* out, float* max) const {
    const uint64_t begin = block * kBlock;
    const auto size = static_cast<uint32_t>(std::min<uint64_t>(raw.size() - begin, kBlock));
    return best_passes().adjust_block(raw.data() + begin, size, params, seen[block], out, max);
  }
};

struct Candidates {
  float* values;
  uint64_t blocks;
  const uint32_t* ids;  // nullptr: value i is that of token i
};

struct Cut {
  uint32_t key;        // the largest key whose entries, with all above, reach the target
  uint64_t remaining;  // what entries with exactly this key must still give
  uint64_t amount;     // what all entries with this key give
};

// Exact selection without sorting, over w.keys[0..n): their digits (11, 11, 10 bits) from the top, a
// histogram of amounts for each. REQUIRES the sum of all amounts >= target > 0.
template <class Amount>
Cut select_from_top(uint64_t n, uint64_t target, const Workspace& w, Amount amount) {
  constexpr struct { uint32_t shift, n_bins; } kDigits[] = {{21, 2048}, {10, 2048}, {0, 1024}};
  Cut cut{0, target, 0};
  for (const auto& [shift, bin_count] : kDigits) {
    const uint32_t mask = bin_count - 1;
    const uint64_t copies = n < kBins ? 1 : kCopies;
    std::fill(w.bins, w.bins + copies * kBins, uint64_t{0});
    for (uint64_t j = 0; j < n; ++j)
      w.bins[(j & (copies - 1)) * kBins + ((w.keys[j] >> shift) & mask)] += amount(w.keys[j]);
    const auto bin = [&](uint32_t digit) {
      uint64_t sum = 0;
      for (uint64_t copy = 0; copy < copies; ++copy) sum += w.bins[copy * kBins + digit];
      return sum;
    };
    uint32_t digit = mask;
    for (cut.amount = bin(digit); cut.amount < cut.remaining; cut.amount = bin(--digit))
      cut.remaining -= cut.amount;
    cut.key |= digit << shift;
    if (shift != 0) n = best_passes().keep_equal(w.keys, n, mask << shift, digit << shift);
  }
  return cut;
}

// As a function that can be handed on: order_key itself is always inlined.
uint32_t key_of(float x) { return order_key(x); }
uint64_t one_each(uint32_t) { return 1; }
uint64_t weight_of_bits(uint32_t bits) {
  return static_cast<uint64_t>(static_cast<int64_t>(numerics::bits_float(bits)));
}

// Step 4, for 0 < k < n_vocab: the k largest logits, as far as they can weigh something, in order of id. The
// k-th largest block maximum is a lower bound of the k-th largest logit, so few blocks are read.
Candidates top_k(const Logits& logits, uint64_t k, float max, const Workspace& w) {
  float floor = -3.402823466e+38f;
  const uint64_t blocks = logits.blocks();
  if (k < blocks) {
    std::transform(w.maxima, w.maxima + blocks, w.keys, key_of);
    const uint32_t key = select_from_top(blocks, k, w, one_each).key;
    floor = std::max(floor, numerics::bits_float(key & 0x80000000u ? key & 0x7fffffffu : ~key));
  }
  uint64_t n = 0;
  for (uint64_t block = 0; block < blocks; ++block) {
    if (!(w.maxima[block] >= floor && w.maxima[block] - max > kZeroWeight)) continue;
    float adjusted[kBlock];
    logits.adjust(block, adjusted, &w.maxima[block]);
    for (uint32_t i = 0; i < kBlock; ++i) {
      w.ids[n] = static_cast<uint32_t>(block * kBlock + i);
      w.values[n] = adjusted[i];
      n += adjusted[i] >= floor && adjusted[i] - max > kZeroWeight ? 1 : 0;
    }
  }
  if (k < n) {
    std::transform(w.values, w.values + n, w.keys, key_of);
    Cut cut = select_from_top(n, k, w, one_each);
    uint64_t kept = 0;
    for (uint64_t j = 0; j < n; ++j) {
      const uint32_t key = order_key(w.values[j]);
      if (key < cut.key || (key == cut.key && cut.remaining == 0)) continue;
      if (key == cut.key) --cut.remaining;
      w.ids[kept] = w.ids[j];
      w.values[kept++] = w.values[j];
    }
    n = kept;
  }
  std::fill(w.values + n, w.values + n_blocks(n) * kBlock, kMinusInf);
  return {w.values, n_blocks(n), w.ids};
}

// Step 5; weights below `least` count as 0. Blocks of sum 0 may hold anything: nobody reads them. Returns the
// sum.
uint64_t weigh(const Candidates& c, const Logits& logits, float max, float least, const Workspace& w) {
  uint64_t total = 0;
  for (uint64_t block = 0; block < c.blocks; ++block) {
    float* values = c.values + block * kBlock;
    w.sums[block] = 0;
    if (c.ids == nullptr) {
      if (!(w.maxima[block] - max > kZeroWeight)) continue;
      logits.adjust(block, values, &w.maxima[block]);
    }
    w.sums[block] = best_passes().weigh_block(values, max, least);
    total += w.sums[block];
  }
  return total;
}

// The first n_kept of the candidates that weigh exactly `weight` stay, the others become 0. Returns the sum
// of those that go.
uint64_t drop_ties(const Candidates& c, float weight, uint64_t n_kept, const Workspace& w) {
  const auto each = static_cast<uint64_t>(weight);
  uint64_t dropped = 0;
  for (uint64_t block = 0; block < c.blocks; ++block) {
    if (w.sums[block] < each) continue;
    for (float* value = c.values + block * kBlock; value < c.values + (block + 1) * kBlock; ++value) {
      if (*value != weight) continue;
      if (n_kept > 0) {
        --n_kept;
        continue;
      }
      *value = 0.0f;
      w.sums[block] -= each;
      dropped += each;
    }
  }
  return dropped;
}

// Steps 6 and 7 on weights that add up to `total`; weights below `least` go after the prefix was chosen.
// Returns the new sum.
uint64_t top_p(const Candidates& c, float p, float least, uint64_t total, const Workspace& w) {
  const uint64_t target = std::max<uint64_t>(1, prefix_target(fixed_fraction(p), total));
  // All weights below this one together are no more than what the prefix leaves out, so it has none of them.
  // Cut to 24 bits it is a float.
  uint64_t negligible = std::max<uint64_t>(1, (total - target) / (c.blocks * kBlock));
  const int excess = std::max(0, static_cast<int>(std::bit_width(negligible)) - 24);
  negligible = negligible >> excess << excess;
  uint64_t n = 0;
  for (uint64_t block = 0; block < c.blocks; ++block) {
    if (w.sums[block] < negligible) continue;
    n += best_passes().collect_block(c.values + block * kBlock, static_cast<float>(negligible), w.keys + n);
  }
  // Weights are positive floats, so their bits are in their order.
  const Cut cut = select_from_top(n, target, w, weight_of_bits);
  const float smallest = numerics::bits_float(cut.key);
  uint64_t kept = 0;
  for (uint64_t block = 0; block < c.blocks; ++block) {
    if (w.sums[block] == 0) continue;
    w.sums[block] = best_passes().cut_block(c.values + block * kBlock, std::max(smallest, least));
    kept += w.sums[block];
  }
  if (cut.remaining >= cut.amount || smallest < least) return kept;
  const auto each = static_cast<uint64_t>(smallest);
  return kept - drop_ties(c, smallest, (cut.remaining + each - 1) / each, w);
}

// Step 8.
uint32_t draw(const Candidates& c, uint64_t point, const Workspace& w) {
  uint64_t block = 0;
  for (; point >= w.sums[block]; ++block) point -= w.sums[block];
  for (uint64_t i = block * kBlock;; ++i) {
    const auto weight = static_cast<uint64_t>(c.values[i]);
    if (point < weight) return c.ids != nullptr ? c.ids[i] : static_cast<uint32_t>(i);
    point -= weight;
  }
}

// Step 3.
uint32_t first_equal(const Logits& logits, float max, const Workspace& w) {
  uint64_t block = 0;
  while (!(w.maxima[block] == max)) ++block;
  float adjusted[kBlock];
  logits.adjust(block, adjusted, &w.maxima[block]);
  return static_cast<uint32_t>(block * kBlock +
                               static_cast<uint64_t>(std::find(adjusted, adjusted + kBlock, max) - adjusted));
}

}  // namespace

uint64_t workspace_bytes(uint32_t n_vocab) {
  const uint64_t padded = n_blocks(n_vocab) * kBlock;
  return (kCopies * kBins * 8 + padded * 12 + n_blocks(n_vocab) * 12 + 63) / 64 * 64;
}

uint64_t slot_bytes(uint32_t n_vocab) { return n_blocks(n_vocab) * 8; }

SlotSampler::SlotSampler(uint32_t n_vocab, std::span<std::byte> state)
    : n_vocab_(n_vocab), seen_(reinterpret_cast<uint64_t*>(state.data()), n_blocks(n_vocab)) {
  std::fill(seen_.begin(), seen_.end(), uint64_t{0});
}

void SlotSampler::begin(const SamplingParams& params, std::span<const int32_t> seen) {
  params_ = params;
  std::fill(seen_.begin(), seen_.end(), uint64_t{0});
  for (const int32_t id : seen) mark_seen(id);
}

void SlotSampler::mark_seen(int32_t id) {
  if (id >= 0 && static_cast<uint32_t>(id) < n_vocab_)
    seen_[static_cast<uint32_t>(id) / kBlock] |= uint64_t{1} << (static_cast<uint32_t>(id) % kBlock);
}

SampleResult SlotSampler::sample(std::span<const float> logits, uint64_t position,
                                 std::span<std::byte> workspace) {
  const Workspace w = lay_out(workspace.data(), n_vocab_);
  const Logits all{logits.first(n_vocab_), params_, seen_.data()};
  bool valid = true;
  for (uint64_t block = 0; block < all.blocks(); ++block) {
    float adjusted[kBlock];
    valid = all.adjust(block, adjusted, &w.maxima[block]) && valid;
  }
  const float max = valid ? *std::max_element(w.maxima, w.maxima + all.blocks()) : 0.0f;
  if (!valid || !numerics::is_finite(max)) return {.token = -1, .non_finite = true};

  uint32_t token = 0;
  if (is_greedy(params_.temperature)) {
    token = first_equal(all, max, w);
  } else {
    const bool some = params_.top_k > 0 && params_.top_k < n_vocab_, prefix = params_.top_p < 1.0f;
    const Candidates candidates =
        some ? top_k(all, params_.top_k, max, w) : Candidates{w.values, all.blocks(), nullptr};
    const float least = params_.min_p * 4294967296.0f;
    uint64_t total = weigh(candidates, all, max, prefix ? 0.0f : least, w);
    if (prefix) total = top_p(candidates, params_.top_p, least, total, w);
    const uint64_t random = numerics::random_bits(params_.seed, params_.choice, position);
    token = draw(candidates, draw_point(random, total), w);
  }
  mark_seen(static_cast<int32_t>(token));
  return {.token = static_cast<int32_t>(token), .non_finite = false};
}

}  // namespace orcd::sampling
