#include "sampling/sampler.h"

#include <algorithm>
#include <bit>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "sampling/rules.h"

namespace orcd::sampling {
namespace {

constexpr uint32_t kBlock = 64;  // tokens that share one maximum and one word of the seen bitmap
constexpr uint32_t kBins = 2048;
constexpr float kZeroWeight = -23.0f;  // exp(-23) * 2^32 < 1: what lies this far below the maximum weighs 0

// The workspace: adjusted logits and their block maxima; then the candidates in ascending order of id.
struct Workspace {
  float* adjusted;  // [n_vocab rounded up to kBlock]
  uint32_t* keys;   // [n_vocab]; of a selection
  float* maxima;    // [n_blocks]
  uint32_t* ids;    // [n_vocab]; of candidates
  float* values;    // [n_vocab]; of candidates: logits, then weights
  uint64_t* bins;   // [kBins]
};

constexpr uint64_t n_blocks(uint64_t n_vocab) { return (n_vocab + kBlock - 1) / kBlock; }

Workspace lay_out(std::byte* base, uint64_t n_vocab) {
  const uint64_t padded = n_blocks(n_vocab) * kBlock;
  Workspace w;
  w.bins = reinterpret_cast<uint64_t*>(base);
  w.adjusted = reinterpret_cast<float*>(base + kBins * 8);
  w.ids = reinterpret_cast<uint32_t*>(w.adjusted + padded);
  w.values = reinterpret_cast<float*>(w.ids + padded);
  w.keys = reinterpret_cast<uint32_t*>(w.values + padded);
  w.maxima = reinterpret_cast<float*>(w.keys + padded);
  return w;
}

ORCD_HD int32_t signed_order(float x) {
  const auto bits = static_cast<int32_t>(numerics::float_bits(x));
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

// Steps 1 and 2 over whole blocks; false if a logit is NaN or +Inf.
ORCD_HD bool adjust_blocks(const float* logits, uint64_t n, const SamplingParams& params,
                           const uint64_t* seen, const Workspace& w) {
  const float temperature = is_greedy(params.temperature) ? 1.0f : params.temperature;
  const bool penalise = params.repetition_penalty != 1.0f;
  uint32_t invalid = 0;
  for (uint64_t block = 0; block * kBlock < n; ++block) {
    const uint64_t begin = block * kBlock, size = n - begin < kBlock ? n - begin : kBlock;
    float* out = w.adjusted + begin;
    for (uint64_t i = 0; i < size; ++i) {
      const float logit = logits[begin + i];
      invalid |= is_valid_logit(logit) ? 0u : 1u;
      out[i] = adjust_logit(logit, temperature, 1.0f, false);
    }
    if (penalise) {
      for (uint64_t bits = seen[block]; bits != 0; bits &= bits - 1) {
        const uint32_t i = static_cast<uint32_t>(std::countr_zero(bits));
        out[i] = adjust_logit(logits[begin + i], params.temperature, params.repetition_penalty, true);
      }
    }
    for (uint64_t i = size; i < kBlock; ++i) out[i] = numerics::bits_float(0xff800000u);
    // Of integers in the order of the floats: a maximum of floats is not vectorised.
    int32_t max = INT32_MIN;
    for (uint32_t i = 0; i < kBlock; ++i) max = std::max(max, signed_order(out[i]));
    w.maxima[block] = numerics::bits_float(static_cast<uint32_t>(max ^ ((max >> 31) & 0x7fffffff)));
  }
  return invalid == 0;
}

// The same code compiled for processors with FMA, where it takes one instruction instead of a library call.
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) bool adjust_fma(const float* logits, uint64_t n,
                                                    const SamplingParams& params, const uint64_t* seen,
                                                    const Workspace& w) {
  return adjust_blocks(logits, n, params, seen, w);
}

// token_weight for -23 < l - max <= 0, eight at a time: exp_f32 without the cases outside that range, where
// scaling by 2^n and by 2^32 is exact.
__attribute__((target("avx2,fma"))) void weigh_fma(float* values, uint64_t n, float max) {
  const __m256 magic = _mm256_set1_ps(12582912.0f);
  uint64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 x = _mm256_sub_ps(_mm256_loadu_ps(values + i), _mm256_set1_ps(max));
    const __m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(1.44269504088896341f), magic);
    const __m256 whole = _mm256_sub_ps(t, magic);
    __m256 r = _mm256_fmadd_ps(whole, _mm256_set1_ps(-0.693359375f), x);
    r = _mm256_fmadd_ps(whole, _mm256_set1_ps(2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    for (const float c :
         {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
      p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
    }
    const __m256 y = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
    const __m256i exponent =
        _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000 - 127 - 32));
    const __m256 scaled = _mm256_mul_ps(y, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
    _mm256_storeu_ps(values + i, _mm256_round_ps(scaled, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC));
  }
  for (; i < n; ++i) values[i] = token_weight(values[i], max);
}
const bool kHasFma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
constexpr bool kHasFma = false;
bool adjust_fma(const float*, uint64_t, const SamplingParams&, const uint64_t*, const Workspace&) {
  return false;
}
void weigh_fma(float*, uint64_t, float) {}
#endif

void weigh(float* values, uint64_t n, float max) {
  if (kHasFma) return weigh_fma(values, n, max);
  for (uint64_t i = 0; i < n; ++i) values[i] = token_weight(values[i], max);
}

struct Cut {
  uint32_t key;        // the largest key whose entries, with all above, reach the target
  uint64_t remaining;  // what entries with exactly this key must still give
};

// Exact selection without sorting: the key's digits (11, 11, 10 bits) from the top, a histogram of amounts
// for each. Keys that share the digits found so far are collected in w.keys. REQUIRES the sum of all amounts
// >= target > 0.
template <class Key, class Amount>
Cut select_from_top(uint64_t n, uint64_t target, const Workspace& w, Key key, Amount amount) {
  constexpr struct { uint32_t shift, n_bins; } kDigits[] = {{21, 2048}, {10, 2048}, {0, 1024}};
  uint32_t found = 0;
  for (const auto& [shift, bin_count] : kDigits) {
    const bool first = shift == 21;
    const uint32_t mask = bin_count - 1;
    std::fill(w.bins, w.bins + bin_count, uint64_t{0});
    for (uint64_t j = 0; j < n; ++j) {
      const uint32_t k = first ? key(j) : w.keys[j];
      w.bins[(k >> shift) & mask] += amount(k);
    }
    uint32_t digit = mask;
    while (w.bins[digit] < target) target -= w.bins[digit--];
    found |= digit << shift;
    uint64_t kept = 0;
    for (uint64_t j = 0; j < n && shift != 0; ++j) {
      const uint32_t k = first ? key(j) : w.keys[j];
      w.keys[kept] = k;
      kept += ((k >> shift) & mask) == digit ? 1 : 0;
    }
    n = kept;
  }
  return {found, target};
}

// Keeps entries above the cut and the first n_ties at it; order stays. Returns how many are left.
template <class Key>
uint64_t keep_from(const Cut& cut, uint64_t n_ties, uint64_t n, const Workspace& w, Key key) {
  uint64_t kept = 0;
  for (uint64_t j = 0; j < n; ++j) {
    const uint32_t k = key(j);
    if (k < cut.key || (k == cut.key && n_ties == 0)) continue;
    if (k == cut.key) --n_ties;
    w.ids[kept] = w.ids[j];
    w.values[kept++] = w.values[j];
  }
  return kept;
}

// Gathers what can have a weight: at least `floor` and less than 23 below the maximum.
uint64_t gather(uint64_t n_vocab, float max, float floor, const Workspace& w) {
  uint64_t n = 0;
  for (uint64_t block = 0; block < n_blocks(n_vocab); ++block) {
    if (!(w.maxima[block] >= floor && w.maxima[block] - max > kZeroWeight)) continue;
    for (uint64_t i = block * kBlock; i < (block + 1) * kBlock; ++i) {
      w.ids[n] = static_cast<uint32_t>(i);
      w.values[n] = w.adjusted[i];
      n += w.adjusted[i] >= floor && w.adjusted[i] - max > kZeroWeight ? 1 : 0;
    }
  }
  return n;
}

// Step 4. The k-th largest block maximum is a lower bound of the k-th largest logit, so few blocks are read.
uint64_t top_k_candidates(uint64_t n_vocab, uint64_t k, float max, const Workspace& w) {
  float floor = -3.402823466e+38f;
  if (k > 0 && k < n_blocks(n_vocab)) {
    const Cut cut = select_from_top(
        n_blocks(n_vocab), k, w, [&](uint64_t j) { return order_key(w.maxima[j]); },
        [](uint32_t) { return uint64_t{1}; });
    const float bound = numerics::bits_float(cut.key & 0x80000000u ? cut.key & 0x7fffffffu : ~cut.key);
    floor = std::max(floor, bound);
  }
  const uint64_t n = gather(n_vocab, max, floor, w);
  if (k == 0 || k >= n) return n;
  const auto key = [&](uint64_t j) { return order_key(w.values[j]); };
  const Cut cut = select_from_top(n, k, w, key, [](uint32_t) { return uint64_t{1}; });
  return keep_from(cut, cut.remaining, n, w, key);
}

uint64_t sum_weights(const float* values, uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t j = 0; j < n; ++j) sum += static_cast<uint64_t>(static_cast<int64_t>(values[j]));
  return sum;
}

// Step 6. Weights are positive floats, so their bits are in their order.
uint64_t top_p_prefix(float top_p, uint64_t n, const Workspace& w) {
  const uint64_t target =
      std::max<uint64_t>(1, prefix_target(fixed_fraction(top_p), sum_weights(w.values, n)));
  const auto key = [&](uint64_t j) { return numerics::float_bits(w.values[j]); };
  const auto weight = [](uint32_t bits) {
    return static_cast<uint64_t>(static_cast<int64_t>(numerics::bits_float(bits)));
  };
  const Cut cut = select_from_top(n, target, w, key, weight);
  const uint64_t each = static_cast<uint64_t>(numerics::bits_float(cut.key));
  return keep_from(cut, (cut.remaining + each - 1) / each, n, w, key);
}

// Step 7.
uint64_t min_p_filter(float min_p, uint64_t n, const Workspace& w) {
  const float least = min_p * 4294967296.0f;
  uint64_t kept = 0;
  for (uint64_t j = 0; j < n; ++j) {
    w.ids[kept] = w.ids[j];
    w.values[kept] = w.values[j];
    kept += w.values[j] >= least ? 1 : 0;
  }
  return kept;
}

// Step 8.
uint32_t draw(uint64_t random, uint64_t n, const Workspace& w) {
  uint64_t point = draw_point(random, sum_weights(w.values, n));
  for (uint64_t j = 0;; ++j) {
    const uint64_t weight = static_cast<uint64_t>(w.values[j]);
    if (point < weight) return w.ids[j];
    point -= weight;
  }
}

// Step 3.
uint32_t first_equal(float max, const Workspace& w) {
  uint64_t block = 0;
  while (!(w.maxima[block] == max)) ++block;
  uint64_t i = block * kBlock;
  while (!(w.adjusted[i] == max)) ++i;
  return static_cast<uint32_t>(i);
}

}  // namespace

uint64_t workspace_bytes(uint32_t n_vocab) {
  const uint64_t padded = n_blocks(n_vocab) * kBlock;
  return kBins * 8 + padded * 16 + (n_blocks(n_vocab) * 4 + 63) / 64 * 64;
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
  const bool valid = kHasFma ? adjust_fma(logits.data(), n_vocab_, params_, seen_.data(), w)
                             : adjust_blocks(logits.data(), n_vocab_, params_, seen_.data(), w);
  const float max = valid ? *std::max_element(w.maxima, w.maxima + n_blocks(n_vocab_)) : 0.0f;
  if (!valid || !numerics::is_finite(max)) return {.token = -1, .non_finite = true};

  uint32_t token = 0;
  if (is_greedy(params_.temperature)) {
    token = first_equal(max, w);
  } else {
    uint64_t n = top_k_candidates(n_vocab_, params_.top_k, max, w);
    weigh(w.values, n, max);
    if (params_.top_p < 1.0f) n = top_p_prefix(params_.top_p, n, w);
    if (params_.min_p > 0.0f) n = min_p_filter(params_.min_p, n, w);
    token = draw(numerics::random_bits(params_.seed, params_.choice, position), n, w);
  }
  mark_seen(static_cast<int32_t>(token));
  return {.token = static_cast<int32_t>(token), .non_finite = false};
}

}  // namespace orcd::sampling
