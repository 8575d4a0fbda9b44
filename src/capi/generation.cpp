// Generations: a request, its tokens one by one, how it went.
#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "capi/cut_text.h"
#include "capi/entry.h"
#include "capi/objects.h"
#include "capi/structs.h"
#include "capi/text_out.h"
#include "engine/prompt.h"
#include "engine/request_limits.h"

namespace orcd::capi {
namespace {

using Clock = std::chrono::steady_clock;

constexpr orcd_generation_options kDefaultOptions = {.struct_size = sizeof(orcd_generation_options),
                                                     .max_tokens = 2048,
                                                     .temperature = 1,
                                                     .top_p = 1,
                                                     .min_p = 0,
                                                     .repetition_penalty = 1,
                                                     .top_k = 0,
                                                     .has_seed = 0,
                                                     .seed = 0,
                                                     .stop = nullptr,
                                                     .n_stop = 0,
                                                     .timeout_ms = 0,
                                                     .flags = 0,
                                                     .reserved = 0};

std::vector<std::string> stop_texts(const orcd_generation_options& given) {
  if (given.n_stop == 0) return {};
  need(given.stop, "options.stop");
  if (std::string problem = engine::stop_count_problem(given.n_stop); !problem.empty())
    throw Error(ErrorCode::kInvalidRequest, "stop " + problem);
  std::vector<std::string> texts;
  for (uint32_t i = 0; i < given.n_stop; ++i) {
    need(given.stop[i], "each of options.stop");
    texts.emplace_back(given.stop[i]);
  }
  return texts;
}

engine::Request request_of(const orcd_generation_options& given) {
  static std::atomic<uint64_t> n_requests = 0;
  if ((given.flags & ~uint32_t{ORCD_GENERATE_IGNORE_END | ORCD_GENERATE_SPECIAL_TEXT}) != 0 ||
      given.reserved != 0)
    throw CallError(ORCD_STATUS_INVALID_ARGUMENT, "unknown flags, or a reserved field that is not 0",
                    {{"flags", uint64_t{given.flags}}, {"reserved", uint64_t{given.reserved}}},
                    "use the constants of the header");
  engine::Request request;
  request.id = "generation-" + std::to_string(++n_requests);
  request.max_tokens = given.max_tokens;
  request.sampling = {.temperature = given.temperature,
                      .top_p = given.top_p,
                      .top_k = given.top_k,
                      .min_p = given.min_p,
                      .repetition_penalty = given.repetition_penalty,
                      .seed = given.has_seed ? given.seed : engine::new_seed()};
  request.stop = stop_texts(given);
  request.ignore_end = (given.flags & ORCD_GENERATE_IGNORE_END) != 0;
  request.special_text = (given.flags & ORCD_GENERATE_SPECIAL_TEXT) != 0;
  if (given.timeout_ms) request.deadline = Clock::now() + std::chrono::milliseconds(given.timeout_ms);
  return request;
}

void check_request(const engine::Request& request, const tokenizer::Tokenizer& tokenizer) {
  std::string problems;
  for (const engine::FieldProblem& wrong : engine::request_problems(tokenizer, request))
    problems += (problems.empty() ? "" : "; ") + wrong.field + " " + wrong.problem;
  if (!problems.empty())
    throw Error(ErrorCode::kInvalidRequest, problems, {}, "see the ranges of orcd_generation_options");
}

// prompt: tokenizer -> ids.
template <typename Prompt>
orcd_status start(orcd_model* model, const orcd_generation_options* options, orcd_generation** out_generation,
                  Prompt prompt) {
  need(out_generation, "out_generation");
  *out_generation = nullptr;
  const auto pinned = registry().pin<Model>(model);
  engine::Request request = request_of(read_options(options, kDefaultOptions, "options"));
  request.prompt_tokens = prompt(pinned->tokenizer());
  check_request(request, pinned->tokenizer());
  pinned->need_resident();
  auto generation = std::make_unique<Generation>(pinned->engine().submit(std::move(request)));
  *out_generation =
      handle_of<orcd_generation>(registry().add(Kind::kGeneration, std::move(generation), id_of(model)));
  return ORCD_STATUS_OK;
}

Clock::time_point deadline_after(uint32_t timeout_ms) {
  return timeout_ms == ORCD_WAIT_FOREVER ? Clock::time_point::max()
                                         : Clock::now() + std::chrono::milliseconds(timeout_ms);
}

// REQUIRES read_to_the_end(). Throws the error that the generation ended with.
const engine::EndEvent& end_of(const Generation& generation) {
  if (generation.error()) throw Error(*generation.error());
  return *generation.end();
}

orcd_status next_token(Generation& generation, uint32_t timeout_ms, orcd_token* out_token, char* text,
                       size_t capacity, size_t* out_text_bytes) {
  if (generation.read_to_the_end()) return end_of(generation), ORCD_STATUS_END;
  const Clock::time_point deadline = deadline_after(timeout_ms);
  const auto turn = generation.turn_until(deadline);
  if (!turn) return ORCD_STATUS_NOT_READY;
  const Piece* piece = turn->peek(deadline);
  if (!piece) return generation.end() ? ORCD_STATUS_END : ORCD_STATUS_NOT_READY;
  text_out(piece->text, text, capacity, out_text_bytes);
  orcd_token result{};
  result.id = piece->id;
  result.index = piece->index;
  write_result(result, out_token);
  turn->drop();
  return ORCD_STATUS_OK;
}

uint32_t stop_reason(engine::StopReason reason) {
  switch (reason) {
    case engine::StopReason::kEnd:
      return ORCD_STOP_EOS;
    case engine::StopReason::kMaxTokens:
      return ORCD_STOP_MAX_TOKENS;
    case engine::StopReason::kStopString:
      return ORCD_STOP_TEXT;
    case engine::StopReason::kContext:
      return ORCD_STOP_CONTEXT;
  }
  throw Error(ErrorCode::kInternal, "an unknown stop reason");
}

orcd_generation_result result_of(const engine::EndEvent& end) {
  orcd_generation_result result{};
  result.stop_reason = stop_reason(end.reason);
  result.n_prompt_tokens = end.prompt_tokens;
  result.n_tokens = end.tokens_out;
  result.seed = end.receipt.sampling.seed;
  result.queue_ms = end.queue_ms;
  result.prefill_ms = end.prefill_ms;
  result.first_token_ms = end.first_token_ms;
  result.decode_ms = end.decode_ms;
  result.numerics_version = end.receipt.numerics_version;
  copy_cut(end.receipt.model_digest, result.model_digest);
  copy_cut(end.receipt.logits_digest, result.logits_digest);
  copy_cut(end.matched_stop, result.stop_text);
  return result;
}

}  // namespace
}  // namespace orcd::capi

using namespace orcd::capi;

orcd_status orcd_generation_options_init(orcd_generation_options* options, uint32_t struct_size) noexcept {
  return call([&] {
    need(options, "options");
    usable_size(struct_size, sizeof(orcd_generation_options), "options");
    options->struct_size = struct_size;
    write_result(kDefaultOptions, options);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_generation_start(orcd_model* model, const char* prompt, size_t prompt_bytes,
                                  const orcd_generation_options* options,
                                  orcd_generation** out_generation) noexcept {
  return call([&] {
    return start(model, options, out_generation, [&](const orcd::tokenizer::Tokenizer& tokenizer) {
      return orcd::engine::encode_prompt(tokenizer, text_in(prompt, prompt_bytes, "prompt"));
    });
  });
}

orcd_status orcd_generation_start_tokens(orcd_model* model, const int32_t* prompt_tokens,
                                         size_t n_prompt_tokens, const orcd_generation_options* options,
                                         orcd_generation** out_generation) noexcept {
  return call([&] {
    return start(model, options, out_generation, [&](const orcd::tokenizer::Tokenizer&) {
      const std::span<const int32_t> ids = tokens_in(prompt_tokens, n_prompt_tokens, "prompt_tokens");
      return std::vector<int32_t>(ids.begin(), ids.end());
    });
  });
}

orcd_status orcd_generation_next_token(orcd_generation* generation, uint32_t timeout_ms,
                                       orcd_token* out_token, char* text, size_t capacity,
                                       size_t* out_text_bytes) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Generation>(generation);
    need_result(out_token, "out_token");
    need_buffer(text, capacity, "text");
    need(out_text_bytes, "out_text_bytes");
    return next_token(*pinned, timeout_ms, out_token, text, capacity, out_text_bytes);
  });
}

orcd_status orcd_generation_cancel(orcd_generation* generation) noexcept {
  return call([&] {
    registry().pin<Generation>(generation)->cancel();
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_generation_get_result(orcd_generation* generation,
                                       orcd_generation_result* out_result) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Generation>(generation);
    need_result(out_result, "out_result");
    if (!pinned->read_to_the_end())
      throw CallError(ORCD_STATUS_WRONG_STATE, "the generation is not read to its end", {},
                      "call orcd_generation_next_token until it says ORCD_STATUS_END");
    write_result(result_of(end_of(*pinned)), out_result);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_generation_free(orcd_generation* generation) noexcept {
  return call([&] {
    registry().free(Kind::kGeneration, generation);
    return ORCD_STATUS_OK;
  });
}
