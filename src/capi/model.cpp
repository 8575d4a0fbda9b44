// Models: plan, load, what they are, hold and do; their text.
#include <limits>
#include <string>

#include "capi/cut_text.h"
#include "capi/entry.h"
#include "capi/objects.h"
#include "capi/structs.h"
#include "capi/text_out.h"
#include "engine/plan_report.h"

namespace orcd::capi {
namespace {

constexpr orcd_model_options kDefaultOptions = {.struct_size = sizeof(orcd_model_options),
                                                .n_threads = 0,
                                                .path = nullptr,
                                                .device = nullptr,
                                                .tokenizer_path = nullptr,
                                                .context_tokens = 0,
                                                .n_slots = 0,
                                                .batch_tokens = 0,
                                                .max_queue = 0,
                                                .budget_bytes = 0,
                                                .kv_cache_bytes = 0};

const char* text_or_empty(const char* text) { return text ? text : ""; }

// A required text of the options.
std::string need_text(const char* text, const char* name, const char* hint) {
  if (text && *text) return text;
  throw CallError(ORCD_STATUS_INVALID_ARGUMENT, std::string(name) + " must be given", {}, hint);
}

engine::LoadOptions load_options(const orcd_model_options& given) {
  engine::LoadOptions options;
  options.model_path = need_text(given.path, "options.path", "the path of a GGUF file");
  options.device.name =
      need_text(given.device, "options.device", "\"cpu\" or \"cuda:N\": no device is a default");
  options.device.n_threads = given.n_threads;
  options.tokenizer_path = text_or_empty(given.tokenizer_path);
  device::Limits& limits = options.limits;
  limits.context = given.context_tokens;
  if (given.n_slots) limits.slots = given.n_slots;
  if (given.batch_tokens) limits.batch_tokens = given.batch_tokens;
  limits.budget_bytes = given.budget_bytes;
  limits.kv_cache_bytes = given.kv_cache_bytes;
  return options;
}

engine::EngineOptions engine_options(const orcd_model_options& given) {
  engine::EngineOptions options;
  if (given.max_queue) options.max_queue = given.max_queue;
  // A generation that nobody reads keeps its tokens, at most max_tokens: paused, it would keep its slot from
  // others.
  options.channel_capacity = std::numeric_limits<size_t>::max();
  return options;
}

// Struct: with a field for each category. bytes_of: Category -> uint64_t.
template <typename Struct, typename BytesOf>
void fill_categories(Struct* out, BytesOf bytes_of) {
  using memory::Category;
  static_assert(memory::kCategoryCount == 6);
  out->weights_bytes = bytes_of(Category::kWeights);
  out->kv_bytes = bytes_of(Category::kKv);
  out->activations_bytes = bytes_of(Category::kActivations);
  out->sampling_bytes = bytes_of(Category::kSampling);
  out->staging_bytes = bytes_of(Category::kStaging);
  out->graphs_bytes = bytes_of(Category::kGraphs);
}

orcd_plan plan_result(const engine::PlanReport& report) {
  orcd_plan result{};
  result.fits = report.fits;
  result.total_bytes = report.plan.total_bytes();
  result.available_bytes = report.available;
  result.free_bytes = report.device.free_bytes;
  fill_categories(&result, [&](memory::Category c) { return report.plan.arena_bytes(c); });
  result.pinned_host_bytes = report.plan.host_bytes();
  result.max_context_tokens = report.max_context;
  result.context_tokens = report.limits.context;
  result.n_slots = report.limits.slots;
  result.n_kv_pages = report.limits.kv_pages;
  return result;
}

orcd_model_info info_result(Model& model) {
  const model::ModelSpec& spec = model.parts().program->spec;
  const device::ResolvedLimits& limits = model.engine().limits();
  const tokenizer::Tokenizer& tokenizer = model.tokenizer();
  orcd_model_info result{};
  result.vocab_size = static_cast<uint32_t>(tokenizer.vocab_size());
  result.trained_context_tokens = spec.context_length;
  result.context_tokens = limits.context;
  result.n_slots = limits.slots;
  result.n_kv_pages = limits.kv_pages;
  result.bos_token = tokenizer.bos_id();
  result.eos_token = tokenizer.eos_id();
  copy_cut(model.engine().model_digest(), result.digest);
  copy_cut(model.device().info().name, result.device);
  copy_cut(spec.architecture, result.architecture);
  copy_cut(engine::quant_kind(*model.parts().file), result.quant_kind);
  copy_cut(tokenizer.kind(), result.tokenizer_kind);
  copy_cut(model.name(), result.name);
  return result;
}

orcd_model_health health_result(Model& model) {
  const engine::EngineStats stats = model.engine().stats();
  const std::string reason = model.unhealthy_reason();
  orcd_model_health result{};
  result.healthy = reason.empty();
  result.n_running = stats.running;
  result.n_waiting = stats.waiting;
  result.n_kv_pages_used = stats.kv_pages_used;
  result.n_tokens_generated = stats.tokens_generated;
  result.n_complete = stats.requests_ok;
  result.n_failed = stats.requests_error;
  result.n_cancelled = stats.requests_cancelled;
  copy_cut(reason, result.reason);
  return result;
}

// Arenas are chained as the model's digest chains them, so that both can be compared.
orcd_residency residency_result(Model& model) {
  const std::vector<device::Executor::Residency> arenas = model.engine().check_residency();
  orcd_residency result{};
  result.resident = 1;
  numerics::Digest now, expected;
  for (const device::Executor::Residency& arena : arenas) {
    numerics::digest_chain(&now, arena.digest);
    numerics::digest_chain(&expected, arena.expected);
    result.checked_bytes += arena.bytes;
    if (!result.resident) continue;
    result.resident = arena.holds();
    copy_cut(arena.pointer_type, result.pointer_type);
    copy_cut(arena.first_mismatch, result.first_mismatch);
  }
  copy_cut(engine::hex_digest(now), result.digest);
  copy_cut(engine::hex_digest(expected), result.expected_digest);
  if (!result.resident)
    model.mark_not_resident("the residency check failed: pointer type " + std::string(result.pointer_type) +
                            ", first tensor that differs: " + std::string(result.first_mismatch));
  return result;
}

void need_flags(uint32_t flags, uint32_t known) {
  if ((flags & ~known) == 0) return;
  throw CallError(ORCD_STATUS_INVALID_ARGUMENT, "unknown flags",
                  {{"flags", uint64_t{flags}}, {"known", uint64_t{known}}},
                  "use the constants of the header");
}

std::string detokenized(const tokenizer::Tokenizer& tokenizer, std::span<const int32_t> tokens,
                        bool special) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < tokenizer.vocab_size()) continue;
    throw Error(ErrorCode::kInvalidRequest, "not a token id of this vocabulary",
                {{"index", uint64_t{i}},
                 {"id", int64_t{tokens[i]}},
                 {"vocab_size", int64_t{tokenizer.vocab_size()}}});
  }
  return tokenizer::decode_bytes(tokenizer, tokens, special);
}

}  // namespace
}  // namespace orcd::capi

using namespace orcd::capi;

orcd_status orcd_model_options_init(orcd_model_options* options, uint32_t struct_size) noexcept {
  return call([&] {
    need(options, "options");
    usable_size(struct_size, sizeof(orcd_model_options), "options");
    options->struct_size = struct_size;
    write_result(kDefaultOptions, options);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_model_plan(orcd_context* context, const orcd_model_options* options,
                            orcd_plan* out_plan) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Context>(context);
    const orcd_model_options given = read_options(options, kDefaultOptions, "options");
    need_result(out_plan, "out_plan");
    const orcd::engine::LoadOptions load = load_options(given);
    const orcd::engine::Model model = orcd::engine::open_model(load.model_path, load.tokenizer_path);
    const auto device = orcd::device::open_device(load.device);
    write_result(plan_result(orcd::engine::make_plan_report(*model.program, *device, load.limits)), out_plan);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_model_load(orcd_context* context, const orcd_model_options* options,
                            orcd_model** out_model) noexcept {
  return call([&] {
    need(out_model, "out_model");
    *out_model = nullptr;
    const auto pinned = registry().pin<Context>(context);
    const orcd_model_options given = read_options(options, kDefaultOptions, "options");
    orcd::engine::LoadOptions load = load_options(given);
    load.stop = [&] { return pinned->closed(); };
    auto model = std::make_unique<Model>(orcd::engine::load(load), engine_options(given),
                                         orcd::engine::model_name(load.model_path));
    if (pinned->closed())
      throw orcd::Error(orcd::ErrorCode::kCancelled, "the context was destroyed meanwhile");
    *out_model = handle_of<orcd_model>(registry().add(Kind::kModel, std::move(model), id_of(context)));
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_model_unload(orcd_model* model) noexcept {
  return call([&] {
    registry().free(Kind::kModel, model);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_model_get_info(orcd_model* model, orcd_model_info* out_info) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Model>(model);
    need_result(out_info, "out_info");
    write_result(info_result(*pinned), out_info);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_model_get_memory(orcd_model* model, orcd_model_memory* out_memory) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Model>(model);
    need_result(out_memory, "out_memory");
    const orcd::memory::Ledger& ledger = pinned->engine().ledger();
    orcd_model_memory result{};
    result.total_bytes = ledger.total_bytes();
    result.planned_bytes = pinned->engine().plan().total_bytes();
    fill_categories(&result, [&](orcd::memory::Category c) { return ledger.bytes(c); });
    result.pinned_host_bytes = ledger.host_bytes();
    write_result(result, out_memory);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_model_get_health(orcd_model* model, orcd_model_health* out_health) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Model>(model);
    need_result(out_health, "out_health");
    write_result(health_result(*pinned), out_health);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_model_check_residency(orcd_model* model, orcd_residency* out_residency) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Model>(model);
    need_result(out_residency, "out_residency");
    write_result(residency_result(*pinned), out_residency);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_tokenize(orcd_model* model, const char* text, size_t text_bytes, uint32_t flags,
                          int32_t* tokens, size_t capacity, size_t* out_n_tokens) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Model>(model);
    const std::string_view given = text_in(text, text_bytes, "text");
    need_flags(flags, ORCD_TOKENIZE_BOS | ORCD_TOKENIZE_SPECIAL);
    need_buffer(tokens, capacity, "tokens");
    need(out_n_tokens, "out_n_tokens");
    tokens_out(pinned->tokenizer().encode(given, {.add_bos = (flags & ORCD_TOKENIZE_BOS) != 0,
                                                  .parse_special = (flags & ORCD_TOKENIZE_SPECIAL) != 0}),
               tokens, capacity, out_n_tokens);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_detokenize(orcd_model* model, const int32_t* tokens, size_t n_tokens, uint32_t flags,
                            char* text, size_t capacity, size_t* out_text_bytes) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Model>(model);
    const std::span<const int32_t> given = tokens_in(tokens, n_tokens, "tokens");
    need_flags(flags, ORCD_DETOKENIZE_SPECIAL);
    need_buffer(text, capacity, "text");
    need(out_text_bytes, "out_text_bytes");
    text_out(detokenized(pinned->tokenizer(), given, flags != 0), text, capacity, out_text_bytes);
    return ORCD_STATUS_OK;
  });
}
