// Everything the command line can say, as values; parsed from arguments and ORCD_* variables.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sampling/params.h"

namespace orcd::cli {

enum class Command {
  kServe,
  kRun,
  kPlan,
  kInspect,
  kCheck,
  kTokenize,
  kDetokenize,
  kPerplexity,
  kBench,
  kDevices,
  kDoctor,
  kVerify,
  kVersion
};

enum class LogFormat { kText, kJson };

struct Options {
  Command command = Command::kServe;
  bool json = false;
  LogFormat log_format = LogFormat::kText;

  // The model and the device.
  std::string model;
  std::string device;  // "cpu", "cuda:0"; "" only where a subcommand takes none
  uint32_t threads = 0;
  std::optional<uint64_t> vram_budget_mb, kv_cache_size_mb;
  uint32_t context = 0, slots = 4, batch_tokens = 0;

  // Text in, for run, verify, tokenize and perplexity; ids for detokenize.
  std::optional<std::string> prompt, file, text;
  std::string tokenizer_file;
  std::string ids;
  bool special = false, bos = false, chat = false;

  std::optional<uint64_t> seed;  // run; serve: of requests that name none

  // run
  sampling::SamplingParams sampling;
  uint32_t max_tokens = 2048;
  std::vector<std::string> stop;

  std::string receipt;  // verify: a file

  // inspect
  bool show_program = false, show_tensors = false, show_metadata = false;

  // perplexity: prompt tokens in one step, windows at once
  uint32_t chunk = 0, windows = 1;

  // bench
  uint32_t bench_prompt = 512, bench_generate = 128, bench_depth = 0, repetitions = 5;
  std::vector<uint32_t> bench_batch;

  // serve
  std::string host = "127.0.0.1", worker_id, callback_url, api_key_file, cors_origin;
  uint16_t port = 8080;
  uint32_t max_tokens_in = 0, max_tokens_out = 2048, inference_timeout_sec = 300, residency_check_sec = 60,
           drain_sec = 30;
};

// A command line that cannot be obeyed; exit code 2.
struct UsageError {
  std::string message;
};

// nullopt when the answer was printed already (help). Throws UsageError.
std::optional<Options> parse_options(int argc, const char* const* argv);

}  // namespace orcd::cli
