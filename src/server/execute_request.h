// The body of POST /execute: validated all at once, tokenised, ready for the engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/request.h"
#include "tokenizer/tokenizer.h"

namespace orcd::server {

inline constexpr size_t kMaxPromptCharacters = 32768;  // Unicode code points
inline constexpr size_t kMaxJobIdBytes = 1024;

size_t count_characters(std::string_view utf8);  // Unicode code points

struct ExecuteLimits {
  uint32_t max_tokens_in = 0;  // prompt tokens; 0 = what the context takes
  uint32_t max_tokens_out = 2048;
  std::optional<uint64_t> seed = {};  // of requests that name none; else each gets a new one

  uint64_t seed_of_unseeded() const { return seed ? *seed : engine::new_seed(); }
};

struct ExecuteRequest {
  engine::Request request;
  size_t prompt_characters = 0;
  size_t prompt_bytes = 0;
  std::string prompt_sha256;  // for the log, which never shows the prompt
};

// Special tokens written in the prompt (chat markers) become their ids and BOS is prepended if the vocabulary
// says so: the orchestrator sends prompts ready-made. A BOS already written is not doubled. Throws
// InvalidRequest.
ExecuteRequest parse_execute(std::string_view body, const tokenizer::Tokenizer& tokenizer,
                             const ExecuteLimits& limits);

// {job_id} of POST /cancel. Throws InvalidRequest.
std::string parse_cancel(std::string_view body);

}  // namespace orcd::server
