#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <set>
#include <type_traits>

#include "cli/usage.h"
#include "device/limits.h"
#include "engine/request_limits.h"

namespace orcd::cli {
namespace {

constexpr std::string_view kSubcommands[] = {"serve",    "run",        "plan",       "inspect", "check",
                                             "tokenize", "detokenize", "perplexity", "bench",   "devices",
                                             "doctor",   "verify",     "version"};

// --vram-budget-mb -> ORCD_VRAM_BUDGET_MB
std::string env_name(const std::string& long_name) {
  std::string name = "ORCD_";
  for (const char c : long_name)
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

// Adds options to one subcommand; every one is also an environment variable if that subcommand is the chosen
// one (CLI11 reads the variables of all, and would let the last one overrule the command line).
class Adder {
 public:
  Adder(CLI::App* app, bool chosen) : app_(app), chosen_(chosen) {}

  template <typename T>
  CLI::Option* add(const std::string& names, T& value, const std::string& text) {
    CLI::Option* option = app_->add_option(names, value, text);
    name_in_environment(option);
    if constexpr (!requires { value.push_back({}); } || std::is_same_v<T, std::string>) option->take_last();
    return option;
  }
  CLI::Option* flag(const std::string& names, bool& value, const std::string& text) {
    CLI::Option* option = app_->add_flag(names, value, text);
    name_in_environment(option);
    return option;
  }

 private:
  void name_in_environment(CLI::Option* option) const {
    if (chosen_ && !option->get_lnames().empty()) option->envname(env_name(option->get_lnames().front()));
  }
  CLI::App* app_;
  bool chosen_;
};

// CLI::Range lets NaN pass.
CLI::Validator between(engine::Range range) {
  const auto [low, high] = range;
  return CLI::Validator(
      [low = low, high = high](std::string& text) -> std::string {
        double value = 0;
        if (!CLI::detail::lexical_cast(text, value) || !(value >= low && value <= high)) {
          return "must be a number between " + CLI::detail::to_string(low) + " and " +
                 CLI::detail::to_string(high) + ", got " + text;
        }
        return {};
      },
      "FLOAT in [" + CLI::detail::to_string(low) + " - " + CLI::detail::to_string(high) + "]");
}

CLI::Validator at_least(uint64_t low, uint64_t high = UINT32_MAX) {
  return CLI::Validator(
      [low, high](std::string& text) -> std::string {
        const bool digits =
            !text.empty() && text.find_first_not_of("0123456789") == text.npos && text.size() <= 20;
        unsigned long long value = 0;
        errno = 0;
        if (digits) value = std::strtoull(text.c_str(), nullptr, 10);
        if (!digits || errno == ERANGE || value < low || value > high) {
          return "must be an integer between " + std::to_string(low) + " and " + std::to_string(high) +
                 ", got " + text;
        }
        return {};
      },
      "UINT");
}

struct Extras {
  std::optional<uint32_t> gpu_device;
  std::string log_format = "text";
};

void add_log(Adder& add, Options& o, Extras& extras) {
  (void)o;
  add.add("--log-format", extras.log_format, "text or json, on stderr")
      ->check(CLI::IsMember({"text", "json"}));
}

void add_model(Adder& add, Options& o, bool positional = false) {
  add.add(positional ? "--model,model" : "--model,-m", o.model, "GGUF file (the first of a split set)")
      ->required();
}

void add_device(Adder& add, Options& o, Extras& extras) {
  add.add("--device", o.device, "cpu or cuda:N; there is no default");
  add.add("--gpu-device", extras.gpu_device, "N, the same as --device cuda:N")->check(at_least(0, 1024));
  add.add("--threads,-t", o.threads, "threads of the cpu device (0: one per core)")->check(at_least(0, 256));
  add.add("--vram-budget-mb", o.vram_budget_mb, "most memory to take on the device, in MiB")
      ->check(at_least(1, 1ull << 40));
  add.add("--kv-cache-size-mb", o.kv_cache_size_mb, "memory of the KV cache, in MiB")
      ->check(at_least(1, 1ull << 40));
  add.add("--ctx,-c", o.context, "positions of a sequence (0: the model's, as far as they fit)")
      ->check(at_least(0));
  add.add("--slots", o.slots, "sequences in flight")->check(at_least(1, device::kMaxSlots));
  add.add("--batch-tokens", o.batch_tokens,
          "tokens in one step, all sequences together (0: what suits the device)")
      ->check(at_least(0, device::kMaxBatchTokens));
}

void add_json(Adder& add, Options& o) { add.flag("--json", o.json, "print JSON"); }

void add_prompt(Adder& add, Options& o) {
  add.add("--prompt", o.prompt, "prompt; special tokens written in it count as such");
  add.add("--file,-f", o.file, "file that holds the prompt, - for stdin");
  add.flag("--chat", o.chat, "the prompt is what a user says; the model's chat template frames it");
}

void add_seed(Adder& add, Options& o, const std::string& text) {
  add.add("--seed", o.seed, text)->check(at_least(0, UINT64_MAX));
}

void add_tokenizer(Adder& add, Options& o) {
  add.add("--tokenizer", o.tokenizer_file,
          "tokenizer.json or GGUF file that is used instead of the model's vocabulary");
}

void add_serve(Adder add, Options& o, Extras& extras) {
  add_model(add, o);
  add_device(add, o, extras);
  add_log(add, o, extras);
  add.add("--host", o.host, "address to listen on");
  add.add("--port,-p", o.port, "port to listen on, 0 for a free one (default 8080)")
      ->check(at_least(0, 65535));
  add.add("--worker-id", o.worker_id, "name of this worker in logs and answers (default: a new one)");
  add.add("--callback-url", o.callback_url, "http:// address that is told once the worker is ready");
  add.add("--api-key-file", o.api_key_file,
          "file of API keys, one a line; requests need Authorization: Bearer KEY");
  add.add("--cors-origin", o.cors_origin, "origin whose pages may call this worker, or *");
  add.add("--max-tokens-in", o.max_tokens_in, "longest prompt in tokens (0: the context)")
      ->check(at_least(0));
  add.add("--max-tokens-out", o.max_tokens_out, "most tokens of one answer")->check(at_least(1));
  add.add("--inference-timeout-sec", o.inference_timeout_sec, "longest time for one request")
      ->check(at_least(1, 1u << 24));
  add.add("--residency-check-sec", o.residency_check_sec, "seconds between checks of the weights (0: never)")
      ->check(at_least(0, 1u << 24));
  add.add("--drain-sec", o.drain_sec, "seconds that active requests may go on after SIGTERM")
      ->check(at_least(0, 1u << 24));
  add_seed(add, o, "of requests that name none (default: a new one for each)");
  add_tokenizer(add, o);
  add.flag("--json", o.json, "the same as --log-format json");
}

void add_run(Adder add, Options& o, Extras& extras) {
  add_model(add, o);
  add_device(add, o, extras);
  add_log(add, o, extras);
  add_json(add, o);
  add_prompt(add, o);
  add.add("--max-tokens,-n", o.max_tokens, "most tokens of the answer")->check(at_least(1));
  add.add("--temperature", o.sampling.temperature, "0 is greedy")->check(between(engine::kTemperatureRange));
  add.add("--top-p", o.sampling.top_p, "1 is off")->check(between(engine::kTopPRange));
  add.add("--top-k", o.sampling.top_k, "0 is off")->check(at_least(0, INT32_MAX));
  add.add("--min-p", o.sampling.min_p, "0 is off")->check(between(engine::kMinPRange));
  add.add("--repetition-penalty", o.sampling.repetition_penalty, "1 is off")
      ->check(between(engine::kPenaltyRange));
  add_seed(add, o, "of the random numbers (default: a new one)");
  add.add("--stop", o.stop, "text that ends the answer; may be repeated")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);  // with them, CLI11 takes "[a,b]" for two
  add_tokenizer(add, o);
}

void add_verify(Adder add, Options& o, Extras& extras) {
  add.add("receipt", o.receipt,
          "JSON file with a receipt, - for stdin: what run --json prints, or an answer's")
      ->required();
  add_model(add, o);
  add_device(add, o, extras);
  add_log(add, o, extras);
  add_json(add, o);
  add_prompt(add, o);
  add_tokenizer(add, o);
}

void add_plan(Adder add, Options& o, Extras& extras) {
  add_model(add, o);
  add_device(add, o, extras);
  add_log(add, o, extras);
  add_json(add, o);
  add_tokenizer(add, o);
}

void add_inspect(Adder add, Options& o) {
  add_model(add, o, true);
  add_json(add, o);
  add.flag("--program", o.show_program, "the operations with their shapes");
  add.flag("--tensors", o.show_tensors, "every tensor");
  add.flag("--metadata", o.show_metadata, "every key");
}

void add_vocabulary(Adder& add, Options& o) {
  add.add("--model,-m", o.model, "GGUF file, a vocabulary-only one too");
  add.add("--tokenizer", o.tokenizer_file, "file whose vocabulary is used instead of the model's");
  add_json(add, o);
  add.flag("--special", o.special, "special tokens written in the text count as such, and are shown");
}

void add_tokenize(Adder add, Options& o) {
  add_vocabulary(add, o);
  add.add("--text", o.text, "text");
  add.add("--file,-f", o.file, "file that holds the text, - for stdin");
  add.flag("--bos", o.bos, "begin as the vocabulary begins a text");
}

void add_detokenize(Adder add, Options& o) {
  add_vocabulary(add, o);
  add.add("--ids", o.ids, "token ids separated by blanks or commas")->required();
}

void add_perplexity(Adder add, Options& o, Extras& extras) {
  add_model(add, o);
  add_device(add, o, extras);
  add_log(add, o, extras);
  add_json(add, o);
  add.add("--file,-f", o.file, "text to predict, - for stdin")->required();
  add.add("--chunk", o.chunk, "tokens in one step (0: as many as fit)")->check(at_least(0, 65536));
  add.add("--batch", o.windows, "windows evaluated at once")->check(at_least(1, 4096));
  add_tokenizer(add, o);
}

void add_bench(Adder add, Options& o, Extras& extras) {
  add_model(add, o);
  add_device(add, o, extras);
  add_log(add, o, extras);
  add_json(add, o);
  add.add("-p,--prompt-tokens", o.bench_prompt, "prompt tokens (0: not measured)")->check(at_least(0));
  add.add("-n,--gen-tokens", o.bench_generate, "tokens to generate (0: not measured)")->check(at_least(0));
  add.add("-d,--depth", o.bench_depth, "positions filled before measuring")->check(at_least(0));
  add.add("-b,--batch", o.bench_batch, "sequences decoded at once, e.g. 1,8,32")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(at_least(1, 4096));
  add.add("-r,--repetitions", o.repetitions, "runs of each")->check(at_least(1, 1000));
  add_tokenizer(add, o);
}

void add_doctor(Adder add, Options& o, Extras& extras) {
  add.add("--model,-m", o.model, "GGUF file");
  add_device(add, o, extras);
  add_json(add, o);
  add.add("--host", o.host, "address to listen on");
  add.add("--port", o.port, "port to listen on")->check(at_least(0, 65535));
}

bool needs_device(Command command) {
  switch (command) {
    case Command::kServe:
    case Command::kRun:
    case Command::kVerify:
    case Command::kPlan:
    case Command::kPerplexity:
    case Command::kBench:
      return true;
    default:
      return false;
  }
}

bool given(const std::vector<std::string>& arguments, const std::string& name) {
  for (const std::string& argument : arguments)
    if (argument == name || argument.starts_with(name + "=")) return true;
  return false;
}

// --gpu-device N is --device cuda:N; on the command line either outweighs both variables.
void settle_device(const std::vector<std::string>& arguments, const Extras& extras, Options* o) {
  if (!extras.gpu_device) return;
  const std::string cuda = "cuda:" + std::to_string(*extras.gpu_device);
  const bool by_name = given(arguments, "--device"), by_number = given(arguments, "--gpu-device");
  if (o->device.empty() || (by_number && !by_name)) {
    o->device = cuda;
  } else if (by_name == by_number && o->device != cuda) {
    throw UsageError{"--device " + o->device + " and --gpu-device " + std::to_string(*extras.gpu_device) +
                     " name two devices"};
  }
}

// One of two ways to give a text: what the command line says outweighs the other's variable.
void settle_text(const std::vector<std::string>& arguments, const std::string& name, Options* o) {
  std::optional<std::string>& text = o->command == Command::kTokenize ? o->text : o->prompt;
  const bool by_text = given(arguments, name), by_file = given(arguments, "--file") || given(arguments, "-f");
  if (by_text && !by_file) o->file.reset();
  if (by_file && !by_text) text.reset();
  const bool is_needed = o->command != Command::kVerify;  // a receipt may hold its prompt
  if (text ? o->file.has_value() : is_needed && !o->file)
    throw UsageError{arguments[0] + " needs either " + name + " or --file"};
}

void check_together(const std::vector<std::string>& arguments, const Options& o) {
  // "--api-key-file $KEYS" without KEYS must not serve everybody, nor must the variable.
  if (o.api_key_file.empty() && (given(arguments, "--api-key-file") ||
                                 (o.command == Command::kServe && std::getenv("ORCD_API_KEY_FILE")))) {
    throw UsageError{"--api-key-file (ORCD_API_KEY_FILE) names no file: leave it out to serve without keys"};
  }
  if (needs_device(o.command) && o.device.empty()) {
    throw UsageError{"--device is required (or --gpu-device N for cuda:N); here there are: " +
                     device_names()};
  }
  if ((o.command == Command::kTokenize || o.command == Command::kDetokenize) && o.model.empty() &&
      o.tokenizer_file.empty()) {
    throw UsageError{"one of --model and --tokenizer is needed"};
  }
}

// As the orchestrator starts it: options without a subcommand serve.
std::vector<std::string> with_subcommand(int argc, const char* const* argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  static const std::set<std::string> kTop = {"-h", "--help", "--version"};
  const bool serve = !arguments.empty() && arguments[0].starts_with('-') && !kTop.contains(arguments[0]);
  if (serve || (arguments.empty() && std::getenv("ORCD_MODEL"))) arguments.insert(arguments.begin(), "serve");
  return arguments;
}

}  // namespace

std::optional<Options> parse_options(int argc, const char* const* argv) {
  const std::vector<std::string> arguments = with_subcommand(argc, argv);
  Options o;
  Extras extras;
  CLI::App app("worker-orcd: serves one GGUF model from one device", "worker-orcd");
  app.require_subcommand(1);
  bool version = false;
  app.add_flag("--version", version, "print the version");
  app.footer(
      "Without a subcommand it serves: worker-orcd --model FILE --device cpu --port 8080\nEvery option is "
      "also ORCD_<NAME> in the environment. Exit codes: 0 done, 1 failed, 2 usage.");
  const auto subcommand = [&](Command command, const std::string& text) {
    CLI::App* sub = app.add_subcommand(std::string(kSubcommands[static_cast<int>(command)]), text);
    sub->callback([&o, command] { o.command = command; });
    return Adder(sub, !arguments.empty() && arguments[0] == sub->get_name());
  };
  add_serve(subcommand(Command::kServe, "serve requests over HTTP"), o, extras);
  add_run(subcommand(Command::kRun, "one generation"), o, extras);
  add_plan(subcommand(Command::kPlan, "the memory plan; the device is not touched"), o, extras);
  add_inspect(subcommand(Command::kInspect, "what the file holds"), o);
  {
    Adder add = subcommand(Command::kCheck, "validate an untrusted file");
    add_model(add, o, true);
    add_json(add, o);
  }
  add_tokenize(subcommand(Command::kTokenize, "text to token ids"), o);
  add_detokenize(subcommand(Command::kDetokenize, "token ids to text"), o);
  add_perplexity(subcommand(Command::kPerplexity, "how well the model predicts a text"), o, extras);
  add_bench(subcommand(Command::kBench, "prompt and decode speed"), o, extras);
  for (const auto& [command, text] : {std::pair{Command::kDevices, "devices of this machine"},
                                      std::pair{Command::kVersion, "version of this program"}}) {
    Adder add = subcommand(command, text);
    add_json(add, o);
  }
  add_verify(subcommand(Command::kVerify, "replay a receipt: the same request must give the same bits"), o,
             extras);
  add_doctor(subcommand(Command::kDoctor, "what would fail here, and why"), o, extras);

  if (!arguments.empty() && !arguments[0].starts_with('-') &&
      std::ranges::find(kSubcommands, arguments[0]) == std::end(kSubcommands)) {
    throw UsageError{"there is no subcommand " + arguments[0]};
  }
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  if (!arguments.empty() && arguments[0] == "--version") reversed = {"version"};
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app.get_subcommands();
    std::cout << (chosen.empty() ? app.help() : chosen.front()->help());
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    throw UsageError{error.what()};
  }
  const bool logs_json = extras.log_format == "json" || (o.command == Command::kServe && o.json);
  o.log_format = logs_json ? LogFormat::kJson : LogFormat::kText;
  settle_device(arguments, extras, &o);
  check_together(arguments, o);
  if (o.command == Command::kRun || o.command == Command::kVerify) settle_text(arguments, "--prompt", &o);
  if (o.command == Command::kTokenize) settle_text(arguments, "--text", &o);
  return o;
}

}  // namespace orcd::cli
