// The definition of N6 in its plainest form: sorts, and 128-bit sums.
#pragma once

#include <algorithm>
#include <set>
#include <vector>

#include "sampling/rules.h"

namespace orcd::sampling {

inline int32_t naive_sample(const std::vector<float>& logits, const SamplingParams& params,
                            const std::set<int32_t>& seen, uint64_t position) {
  struct Entry {
    int32_t id;
    float l;
    uint64_t weight;
  };
  std::vector<Entry> entries;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!is_valid_logit(logits[i])) return -1;
    const auto id = static_cast<int32_t>(i);
    entries.push_back(
        {id, adjust_logit(logits[i], params.temperature, params.repetition_penalty, seen.contains(id)), 0});
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.l > b.l; });
  const float max = entries[0].l;
  if (!numerics::is_finite(max)) return -1;
  if (is_greedy(params.temperature)) return entries[0].id;
  if (params.top_k > 0 && params.top_k < entries.size()) entries.resize(params.top_k);
  unsigned __int128 total = 0;
  for (Entry& e : entries) {
    e.weight = static_cast<uint64_t>(numerics::exp_f32(e.l - max) * 4294967296.0f);
    total += e.weight;
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
  });
  if (params.top_p < 1.0f) {
    const auto fraction = static_cast<uint64_t>(params.top_p * 4294967296.0f);
    const unsigned __int128 target = (total * fraction + 0xffffffffu) >> 32;
    unsigned __int128 sum = 0;
    size_t kept = 0;
    do sum += entries[kept++].weight;
    while (sum < target);
    entries.resize(kept);
  }
  std::erase_if(entries, [&](const Entry& e) {
    return static_cast<double>(e.weight) < static_cast<double>(params.min_p) * 4294967296.0;
  });
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.id < b.id; });
  total = 0;
  for (const Entry& e : entries) total += e.weight;
  const auto random = numerics::random_bits(params.seed, params.choice, position);
  const auto point = static_cast<uint64_t>((static_cast<unsigned __int128>(random) * total) >> 64);
  uint64_t sum = 0;
  for (const Entry& e : entries) {
    sum += e.weight;
    if (sum > point) return e.id;
  }
  return -2;
}

}  // namespace orcd::sampling
