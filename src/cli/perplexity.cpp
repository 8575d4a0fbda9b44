#include "engine/perplexity.h"
#include "device/limits.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/log_setup.h"
#include "cli/session.h"

namespace orcd::cli {
namespace {

constexpr uint32_t kDefaultWindow = 512;

void print_json(const engine::PerplexityResult& result, const Options& options, uint32_t window) {
  const nlohmann::ordered_json json = {{"model", model_name(options.model)},
                                       {"device", options.device},
                                       {"tokens", result.tokens},
                                       {"predicted", result.predicted},
                                       {"window", window},
                                       {"nll", result.nll},
                                       {"ppl", result.ppl},
                                       {"logits_digest", engine::hex_digest(result.logits_digest)},
                                       {"seconds", result.seconds}};
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

}  // namespace

int perplexity(const Options& options) {
  install_log(options.log_format, {"", model_name(options.model), options.device}, LogLevel::kWarn);
  const std::string text = read_text(std::nullopt, options.file);
  Model model = open_model(options.model, options.tokenizer_file);
  const std::vector<int32_t> tokens =
      model.tokenizer->encode(text, {.add_bos = true, .parse_special = false});

  device::Limits limits = limits_of(options);
  const uint32_t window =
      options.context ? options.context : std::min(kDefaultWindow, model.program->spec.context_length);
  limits.context = window;
  limits.slots = options.windows;
  if (limits.batch_tokens == 0) limits.batch_tokens = device::kBatchTokens;
  if (options.chunk) limits.batch_tokens = std::min(limits.batch_tokens, options.chunk * options.windows);
  limits.logits_rows = limits.batch_tokens;
  const Session session = load(options, limits, {}, std::move(model));
  const engine::PerplexityResult result =
      engine::perplexity(*session.executor, session.model.program->spec.n_vocab, tokens,
                         {.window = window, .chunk = options.chunk, .batch = options.windows});
  if (options.json) {
    print_json(result, options, window);
  } else {
    std::printf("tokens %llu  window %u  nll %.6f  ppl %.6f  logits digest %s  %.1f tokens/s\n",
                static_cast<unsigned long long>(result.tokens), window, result.nll, result.ppl,
                engine::hex_digest(result.logits_digest).c_str(),
                static_cast<double>(result.tokens) / result.seconds);
  }
  return 0;
}

}  // namespace orcd::cli
