// Speeds of parts of the worker as ratios that hardly depend on the machine: how often a part runs in the
// time of one million links of a chain of multiplications, which takes the same clock cycles on every
// processor. Times are those of this thread on the processor, taken in turns with the chain's, and each ratio
// is the median of its rounds: what else the machine does, and its clock, cancel out.
//
//   bench_ratios MODEL.gguf [ROUNDS]     JSON: {isa, ratios: {name: value}}; MODEL for its vocabulary alone
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "device/cpu/cpu_device.h"
#include "device/cpu/isa.h"
#include "device/cpu/kernels.h"
#include "engine/bench.h"
#include "engine/session.h"
#include "kv/layout.h"
#include "sampling/sampler.h"
#include "support/synthetic_model.h"

namespace orcd {
namespace {

constexpr double kRoundSeconds = 0.002;  // of one part, and of the chain
constexpr uint64_t kChainUnit = 1'000'000;

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The chain. What it gives is kept, so that it is computed.
volatile uint64_t g_sink;
void chain(uint64_t n_links) {
  uint64_t x = g_sink | 1;
  for (uint64_t i = 0; i < n_links; ++i) {
    x *= 0x9e3779b97f4a7c15ull;
    asm volatile("" : "+r"(x));  // one link after the other
  }
  g_sink = x;
}

double seconds_of(const std::function<void()>& work, uint64_t n_runs) {
  const double begin = thread_seconds();
  for (uint64_t i = 0; i < n_runs; ++i) work();
  return thread_seconds() - begin;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Runs of `work` in the time of a million links.
double ratio(const std::function<void()>& work, int n_rounds) {
  uint64_t n_runs = 1;
  while (seconds_of(work, n_runs) < kRoundSeconds && n_runs < (1u << 20)) n_runs *= 2;
  std::vector<double> ratios;
  for (int round = 0; round < n_rounds; ++round) {
    const double chain_seconds = seconds_of([] { chain(kChainUnit); }, 2) / 2;
    const double work_seconds = seconds_of(work, n_runs) / static_cast<double>(n_runs);
    ratios.push_back(chain_seconds / work_seconds);
  }
  return median(std::move(ratios));
}

const cpu::Kernels& kernels_of(cpu::Isa isa) {
#if defined(__x86_64__)
  if (isa == cpu::Isa::kAvx2) return cpu::avx2_kernels();
  if (isa == cpu::Isa::kAvx512) return cpu::avx512_kernels();
#endif
  (void)isa;
  return cpu::scalar_kernels();
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};
template <typename T>
using Buffer = std::unique_ptr<T[], Free>;

template <typename T>
Buffer<T> zeros(uint64_t n) {
  const uint64_t bytes = (n * sizeof(T) + 63) / 64 * 64;
  Buffer<T> out(static_cast<T*>(std::aligned_alloc(64, bytes)));
  std::fill_n(reinterpret_cast<char*>(out.get()), bytes, char{0});
  return out;
}

class Suite {
 public:
  explicit Suite(int n_rounds) : n_rounds_(n_rounds) {}
  void run(const std::string& name, const std::function<void()>& work) {
    ratios_[name] = ratio(work, n_rounds_);
  }
  const nlohmann::ordered_json& ratios() const { return ratios_; }

  // y = W x of 256 rows by 1024 columns, which a core's own caches hold, for one token and for 16.
  void linear(TensorType type) {
    constexpr uint64_t kRows = 256, kCols = 1024;
    constexpr uint32_t kTokens = 16;
    std::mt19937 rng(1);
    const std::vector<uint8_t> file = test::random_weights(type, kRows, kCols, rng);
    const Buffer<uint8_t> packed = zeros<uint8_t>(cpu::packed_bytes(type, kRows, kCols));
    for (uint64_t tile = 0; tile < kRows / cpu::kTileRows; ++tile) {
      cpu::pack_tile(type, kCols, &file[tile * cpu::kTileRows * (file.size() / kRows)], file.size() / kRows,
                     cpu::kTileRows, &packed[tile * cpu::tile_layout(type, kCols).tile_bytes]);
    }
    std::vector<float> x(kTokens * kCols);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 97) / 97 - 0.5f;
    const Buffer<int8_t> xq = zeros<int8_t>(kTokens * kCols);
    const Buffer<cpu::GroupScale> xs = zeros<cpu::GroupScale>(kTokens * kCols / 32);
    for (uint32_t t = 0; t < kTokens; ++t)
      kernels.quantize(&x[t * kCols], kCols, &xq[t * kCols], &xs[t * kCols / 32]);
    const Buffer<float> y = zeros<float>(kTokens * kRows);
    const Buffer<uint8_t> scratch = zeros<uint8_t>(cpu::linear_scratch_bytes(kCols));
    cpu::LinearArgs args{};
    args.type = type;
    args.weights = packed.get();
    args.rows = kRows;
    args.cols = kCols;
    args.strips = 1;
    args.xq = xq.get();
    args.xs = xs.get();
    args.xf = x.data();
    args.xf_stride = kCols;
    args.y = y.get();
    args.y_stride = kRows;
    args.tile_end = kRows / cpu::kTileRows;
    args.scratch = scratch.get();
    for (const uint32_t n : {1u, kTokens}) {
      args.n_tokens = n;
      run("linear " + std::string(tensor_type_name(type)) + " x" + std::to_string(n),
          [&] { kernels.linear(args); });
    }
  }

  void attend() {
    constexpr uint32_t kHeadDim = 64, kPages = 8;
    const uint64_t page_bytes = kv::page_bytes(1, kHeadDim);
    const Buffer<uint8_t> kv = zeros<uint8_t>(page_bytes * kPages);
    std::vector<uint32_t> pages(kPages);
    for (uint32_t i = 0; i < kPages; ++i) pages[i] = i;
    std::vector<float> q(kHeadDim, 0.1f), out(kHeadDim), scratch(cpu::attend_scratch_floats(kHeadDim));
    cpu::AttendArgs args{};
    args.n_rows = 1;
    args.q[0] = q.data();
    args.out[0] = out.data();
    args.position[0] = kPages * kv::kPagePositions - 1;
    args.kv = kv.get();
    args.page_stride = page_bytes;
    args.pages = pages.data();
    args.head_dim = kHeadDim;
    args.scratch = scratch.data();
    run("attention over 512 positions", [&] { kernels.attend(args); });
  }

  void vectors() {
    constexpr uint32_t n = 4096;
    std::vector<float> x(n, 0.3f), w(n, 1.1f), y(n);
    const Buffer<int8_t> q = zeros<int8_t>(n);
    const Buffer<cpu::GroupScale> scales = zeros<cpu::GroupScale>(n / 32);
    run("quantize", [&] { kernels.quantize(x.data(), n, q.get(), scales.get()); });
    run("rms_norm", [&] { kernels.rms_norm(x.data(), n, w.data(), 1e-6f, y.data()); });
    run("silu", [&] { kernels.glu(cpu::Glu::kSilu, x.data(), w.data(), n, y.data()); });
    uint64_t a = 0, b = 0;
    bool bad = false;
    run("digest of logits", [&] { kernels.digest(x.data(), n, 0, n, &a, &b, &bad); });
  }

  void sample() {
    constexpr uint32_t kVocab = 32'000;
    std::vector<float> logits(kVocab);
    for (uint32_t i = 0; i < kVocab; ++i) logits[i] = static_cast<float>(uint64_t{i} * 7919 % 1013) / 100;
    std::vector<std::byte> workspace(sampling::workspace_bytes(kVocab) + 64);
    std::byte* aligned = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64);
    std::vector<uint64_t> state(sampling::slot_bytes(kVocab) / 8 + 1);
    sampling::SlotSampler sampler(kVocab, std::as_writable_bytes(std::span(state)));
    uint64_t position = 0;
    for (const bool greedy : {true, false}) {
      sampling::SamplingParams params;
      params.temperature = greedy ? 0.0f : 0.8f;
      params.top_p = greedy ? 1.0f : 0.9f;
      sampler.begin(params, {});
      run(greedy ? "greedy" : "top-p", [&] {
        sampler.sample(logits, ++position, {aligned, sampling::workspace_bytes(kVocab)});
      });
    }
  }

  void tokenizer(const std::string& path) {
    const engine::Model model = engine::open_model(path);
    std::string text;
    for (int i = 0; i < 40; ++i)
      text += "The quick brown fox jumped over 13 lazy dogs' fences; naïve café naps, twice. ";
    run("tokenize", [&] { model.tokenizer->encode(text, {}); });
  }

  // A whole step of a small model on one thread, the engine's way to the device.
  void model() {
    const test::LoadedModel model(
        test::SyntheticModel{.dim = 512, .ffn_dim = 1024, .types = {TensorType::kQ4_1}});
    const auto device = cpu::open_cpu_device(1);
    device::Limits limits;
    limits.context = 512;
    limits.slots = 1;
    const auto executor = device->load(model.program, device->resolve(*model.program, limits), {});
    const std::vector<uint32_t> pages = {0, 1, 2, 3};
    std::vector<int32_t> prompt(128);
    for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i * 7 % 300);
    sampling::SamplingParams greedy;
    greedy.temperature = 0;
    executor->begin_sequence(0, greedy, {});
    const auto step = [&](uint32_t position, std::span<const int32_t> tokens) {
      device::SequenceStep one;
      one.first_position = position;
      one.tokens = tokens;
      one.pages = pages;
      one.sample = true;
      one.logits = device::LogitsMode::kLast;
      executor->submit({&one, 1});
      executor->collect();
    };
    run("prefill of 128 tokens", [&] { step(0, prompt); });
    run("decode", [&] { step(128, {}); });
  }

  const cpu::Isa isa = cpu::choose_isa();
  const cpu::Kernels& kernels = kernels_of(isa);

 private:
  int n_rounds_;
  nlohmann::ordered_json ratios_;
};

int run(const std::string& model, int n_rounds) {
  Suite suite(n_rounds);
  chain(20 * kChainUnit);  // until the clock has its speed
  for (const TensorType type : test::kBlockTypes) suite.linear(type);
  for (const TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBF16}) suite.linear(type);
  suite.attend();
  suite.vectors();
  suite.sample();
  suite.tokenizer(model);
  suite.model();
  const nlohmann::ordered_json out = {{"isa", cpu::isa_name(suite.isa)}, {"ratios", suite.ratios()}};
  std::printf("%s\n", out.dump(1).c_str());
  return 0;
}

}  // namespace
}  // namespace orcd

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fputs("usage: bench_ratios MODEL.gguf [ROUNDS]\n", stderr);
    return 2;
  }
  try {
    return orcd::run(argv[1], argc == 3 ? std::max(1, std::atoi(argv[2])) : 15);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
