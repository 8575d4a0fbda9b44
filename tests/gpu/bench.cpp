// Speed of a model file on a device: gpu_bench DEVICE MODEL.gguf [digest]. Prints one line per figure; with
// `digest` the chained logits digest of 512 prompt tokens and 256 sampled ones, to compare devices.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>

#include "base/error.h"
#include "device/device.h"
#include "kv/layout.h"

namespace orcd::device {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Bench {
  std::unique_ptr<Device> device;
  std::shared_ptr<const model::Program> program;
  ResolvedLimits limits;
  std::unique_ptr<Executor> executor;

  std::vector<uint32_t> pages_of(uint32_t slot) const {
    std::vector<uint32_t> pages;
    const uint32_t each = limits.kv_pages / limits.slots;
    // The first slot may go on into the others' share: it is measured alone there.
    for (uint32_t i = 0; i < (slot == 0 ? limits.kv_pages : each); ++i) pages.push_back(slot * each + i);
    return pages;
  }

  std::vector<int32_t> tokens(uint32_t n, uint32_t seed) const {
    std::mt19937 rng(seed);
    std::vector<int32_t> ids(n);
    for (int32_t& id : ids) id = static_cast<int32_t>(rng() % program->spec.n_vocab);
    return ids;
  }

  // Prompt of `slot` in chunks of batch_tokens; the last samples. Seconds.
  double prefill(uint32_t slot, std::span<const int32_t> prompt, LogitsMode mode, numerics::Digest* digest,
                 uint32_t chunk) {
    const std::vector<uint32_t> pages = pages_of(slot);
    const auto start = Clock::now();
    for (size_t at = 0; at < prompt.size(); at += chunk) {
      SequenceStep step;
      step.slot = slot;
      step.first_position = static_cast<uint32_t>(at);
      step.tokens = prompt.subspan(at, std::min<size_t>(chunk, prompt.size() - at));
      step.pages = pages;
      const bool last = at + step.tokens.size() == prompt.size();
      step.logits = last && mode == LogitsMode::kNone ? LogitsMode::kLast : mode;
      step.sample = last;
      executor->submit({&step, 1});
      const SequenceResult result = executor->collect()[0];
      if (digest) numerics::digest_chain(digest, result.logits_digest);
    }
    return seconds_since(start);
  }

  // n tokens of each of the first n_slots slots after `position`; the host one step behind where the device
  // allows it.
  double decode(uint32_t n_slots, uint32_t position, uint32_t n, numerics::Digest* digest) {
    std::vector<std::vector<uint32_t>> pages;
    for (uint32_t slot = 0; slot < n_slots; ++slot) pages.push_back(pages_of(slot));
    const auto collect = [&] {
      for (const SequenceResult& result : executor->collect())
        if (digest) {
          numerics::digest_chain(digest, result.logits_digest);
          digest->a += static_cast<uint64_t>(result.token);
        }
    };
    const auto start = Clock::now();
    uint32_t behind = 0;
    for (uint32_t i = 0; i < n; ++i) {
      std::vector<SequenceStep> steps(n_slots);
      for (uint32_t slot = 0; slot < n_slots; ++slot) {
        steps[slot].slot = slot;
        steps[slot].first_position = position + i;
        steps[slot].pages = pages[slot];
        steps[slot].logits = LogitsMode::kLast;
        steps[slot].sample = true;
      }
      executor->submit(steps);
      if (++behind == executor->pipeline_depth()) {
        collect();
        --behind;
      }
    }
    while (behind-- > 0) collect();
    return seconds_since(start);
  }
};

int run(const char* device_name, const char* path, bool digest_only) {
  Bench b;
  b.program = std::make_shared<const model::Program>(model::lower(model::read_spec(gguf::File::open(path))));
  b.device = open_device({device_name, 0});
  Limits limits;
  limits.context = std::min(4608u, b.program->spec.context_length);
  limits.slots = digest_only ? 1 : 32;
  limits.batch_tokens = digest_only ? 512 : 2048;
  limits.logits_rows = digest_only ? 512 : 0;
  b.limits = b.device->resolve(*b.program, limits);
  const auto start = Clock::now();
  b.executor = b.device->load(b.program, b.limits, {});
  const double load_seconds = seconds_since(start);
  sampling::SamplingParams params;
  params.temperature = digest_only ? 0.9f : 0.0f;
  params.top_p = digest_only ? 0.95f : 1.0f;
  params.seed = 7;
  for (uint32_t slot = 0; slot < b.limits.slots; ++slot) b.executor->begin_sequence(slot, params, {});
  std::printf("model %s device %s: plan %llu ledger %llu\n", b.program->spec.name.c_str(),
              b.device->info().description.c_str(),
              static_cast<unsigned long long>(b.executor->plan().total_bytes()),
              static_cast<unsigned long long>(b.executor->ledger().total_bytes()));
  if (digest_only) {
    for (const uint32_t chunk : {512u, 64u}) {
      numerics::Digest rows, drawn;
      b.executor->begin_sequence(0, params, {});
      b.prefill(0, b.tokens(512, 1), LogitsMode::kAll, &rows, 512);
      numerics::Digest last;
      b.executor->begin_sequence(0, params, {});
      b.prefill(0, b.tokens(512, 1), LogitsMode::kLast, &last, chunk);
      b.decode(1, 512, 256, &drawn);
      std::printf("digest prompt %016llx%016llx sampled %016llx%016llx (chunk %u)\n",
                  static_cast<unsigned long long>(rows.a), static_cast<unsigned long long>(rows.b),
                  static_cast<unsigned long long>(drawn.a), static_cast<unsigned long long>(drawn.b), chunk);
      if (std::strcmp(device_name, "cpu") == 0) break;
    }
    return 0;
  }
  const double bandwidth = b.device->measure_read_bandwidth();
  const uint64_t bytes = model::weight_bytes_per_token(*b.program);
  std::printf("load %.2f s, read bandwidth %.3f TB/s, weights per token %.3f GB\n", load_seconds,
              bandwidth / 1e12, bytes / 1e9);
  b.prefill(0, b.tokens(512, 1), LogitsMode::kNone, nullptr, 512);
  std::printf("first token after 512: %.2f ms\n",
              b.prefill(0, b.tokens(512, 2), LogitsMode::kNone, nullptr, 512) * 1e3);
  for (uint32_t slot = 1; slot < b.limits.slots; ++slot)
    b.prefill(slot, b.tokens(512, 3 + slot), LogitsMode::kNone, nullptr, 512);
  uint64_t kv = 0;
  for (const model::LayerSpec& layer : b.program->spec.layers)
    kv += kv::page_bytes(layer.n_kv_heads, layer.head_dim) / 64;
  // 128 steps; the bytes that they move by the mean position.
  const auto decoded = [&](const char* what, uint32_t n_slots, uint32_t position) {
    b.decode(n_slots, position, 16, nullptr);
    const double seconds = b.decode(n_slots, position, 128, nullptr) / 128;
    const double moved = bytes + static_cast<double>(kv) * (position + 64) * n_slots;
    std::printf("decode batch %u%s: %.1f tok/s, %.3f ms a step, %.1f %% of the bandwidth\n", n_slots, what,
                n_slots / seconds, seconds * 1e3, 100 * moved / seconds / bandwidth);
  };
  decoded(" from position 0", 1, 0);
  for (const uint32_t n_slots : {1u, 2u, 4u, 8u, 12u, 16u, 32u}) decoded("", n_slots, 512);
  params.temperature = 0.8f;
  const auto drawn = [&](const char* what, uint32_t n_slots) {
    for (uint32_t slot = 0; slot < n_slots; ++slot) b.executor->begin_sequence(slot, params, {});
    b.decode(n_slots, 512, 16, nullptr);
    std::printf("decode batch %u, temperature 0.8%s: %.1f tok/s\n", n_slots, what,
                n_slots * 128 / b.decode(n_slots, 512, 128, nullptr));
  };
  drawn("", 1);
  params.top_p = 0.95f;
  drawn(", top-p 0.95", 1);
  drawn(", top-p 0.95", 8);
  params.top_k = 40;
  drawn(", top-k 40, top-p 0.95", 1);
  params.top_k = 0;
  params.top_p = 1.0f;
  params.temperature = 0.0f;
  b.executor->begin_sequence(0, params, {});
  if (b.limits.context < 2048 + 136) return 0;  // what follows does not fit
  for (const uint32_t chunk : {512u, 1024u, 2048u}) {
    const double seconds = b.prefill(0, b.tokens(2048, 9), LogitsMode::kNone, nullptr, chunk);
    std::printf("prefill 2048 by %u: %.0f tok/s (%.1f ms)\n", chunk, 2048 / seconds, seconds * 1e3);
  }
  b.decode(1, 2048, 8, nullptr);
  std::printf("decode at 2048: %.1f tok/s\n", 128 / b.decode(1, 2048, 128, nullptr));
  return 0;
}

}  // namespace
}  // namespace orcd::device

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: gpu_bench DEVICE MODEL.gguf [digest]\n");
    return 2;
  }
  try {
    return orcd::device::run(argv[1], argv[2], argc > 3);
  } catch (const orcd::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
