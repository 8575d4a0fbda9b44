#include "engine/bench.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/log_setup.h"
#include "cli/session.h"
#include "device/limits.h"
#include "kv/layout.h"

namespace orcd::cli {
namespace {

struct Report {
  std::string model, device;
  uint32_t threads = 0, prompt_tokens = 0, gen_tokens = 0, depth = 0;
  engine::BenchResult result;
  double bandwidth = 0;          // bytes/s, measured before the model was loaded
  uint64_t bytes_per_token = 0;  // weights and KV that one decoded token reads

  double share() const {
    return bandwidth > 0 ? static_cast<double>(bytes_per_token) * result.decode_tokens_per_s / bandwidth : 0;
  }
};

// What was not measured is null, not 0.
nlohmann::ordered_json rate(uint32_t n_tokens, double value) {
  return n_tokens ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

void print_json(const Report& r) {
  nlohmann::ordered_json batch = nlohmann::ordered_json::array();
  for (const engine::BenchBatch& row : r.result.batch)
    batch.push_back({{"n", row.n}, {"tokens_per_s", row.tokens_per_s}});
  const nlohmann::ordered_json json = {
      {"model", r.model},
      {"device", r.device},
      {"threads", r.threads},
      {"prompt_tokens", r.prompt_tokens},
      {"prefill_tokens_per_s", rate(r.prompt_tokens, r.result.prefill_tokens_per_s)},
      {"gen_tokens", r.gen_tokens},
      {"decode_tokens_per_s", rate(r.gen_tokens, r.result.decode_tokens_per_s)},
      {"depth", r.depth},
      {"bytes_per_token", r.bytes_per_token},
      {"bandwidth_bytes_per_s", r.bandwidth},
      {"bandwidth_share", rate(r.gen_tokens, r.share())},
      {"batch", std::move(batch)}};
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

void print_row(const Report& r, const std::string& test, double tokens_per_s) {
  std::printf("| %-36s | %-8s | %7u | %16s | %12.2f |\n", r.model.c_str(), r.device.c_str(), r.threads,
              test.c_str(), tokens_per_s);
}

void print_table(const Report& r) {
  std::printf("| %-36s | %-8s | %7s | %16s | %12s |\n| %s: | %s: | %s: | %s: | %s: |\n", "model", "device",
              "threads", "test", "t/s", std::string(35, '-').c_str(), std::string(7, '-').c_str(),
              std::string(6, '-').c_str(), std::string(15, '-').c_str(), std::string(11, '-').c_str());
  const std::string at = r.depth ? " @ d" + std::to_string(r.depth) : "";
  if (r.prompt_tokens)
    print_row(r, "pp" + std::to_string(r.prompt_tokens) + at, r.result.prefill_tokens_per_s);
  if (r.gen_tokens) print_row(r, "tg" + std::to_string(r.gen_tokens) + at, r.result.decode_tokens_per_s);
  for (const engine::BenchBatch& row : r.result.batch)
    if (row.n > 1)
      print_row(r, "tg" + std::to_string(r.gen_tokens) + " x " + std::to_string(row.n) + at,
                row.tokens_per_s);
  std::printf("\nmeasured read bandwidth %.2f GB/s, %llu bytes per token", r.bandwidth / 1e9,
              static_cast<unsigned long long>(r.bytes_per_token));
  if (r.gen_tokens) std::printf(": decode runs at %.1f %% of the bandwidth", 100 * r.share());
  std::printf("\n");
}

}  // namespace

int bench(const Options& options) {
  install_log(options.log_format, {"", model_name(options.model), options.device}, LogLevel::kWarn);
  engine::BenchOptions what{
      .prompt_tokens = options.bench_prompt,
      .gen_tokens = options.bench_generate,
      .depth = options.bench_depth,
      .batch = options.bench_batch.empty() ? std::vector<uint32_t>{1} : options.bench_batch,
      .repetitions = options.repetitions};
  Report report;
  Model model = open_model(options.model, options.tokenizer_file);
  report.bandwidth = open_device(options)->measure_read_bandwidth();
  device::Limits limits = limits_of(options);
  limits.slots = *std::ranges::max_element(what.batch);
  // A step has a token of each sequence.
  if (limits.batch_tokens == 0 && limits.slots > device::kBatchTokens) limits.batch_tokens = limits.slots;
  const uint64_t positions = engine::bench_positions(what);  // of every sequence
  if (limits.context == 0) limits.context = static_cast<uint32_t>(std::min<uint64_t>(positions, UINT32_MAX));
  if (limits.kv_cache_bytes == 0) {
    uint64_t page_bytes = 0;
    for (const auto& layer : model.program->spec.layers)
      page_bytes += kv::page_bytes(layer.n_kv_heads, layer.head_dim);
    limits.kv_cache_bytes = page_bytes * kv::pages_for(limits.context) * limits.slots;
  }
  const Session session = load(options, limits, {}, std::move(model));
  const model::Program& program = *session.model.program;
  report.model = model_name(options.model);
  report.device = options.device;
  report.threads = session.device->info().n_threads;
  report.prompt_tokens = what.prompt_tokens;
  report.gen_tokens = what.gen_tokens;
  report.depth = what.depth;
  report.result = engine::bench(*session.executor, program.spec.n_vocab, what);
  report.bytes_per_token = model::weight_bytes_per_token(program) +
                           engine::kv_bytes_per_token(program, what.depth + what.gen_tokens / 2);
  options.json ? print_json(report) : print_table(report);
  return 0;
}

}  // namespace orcd::cli
