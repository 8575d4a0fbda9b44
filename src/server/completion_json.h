// The JSON of completions, whole and in chunks, as OpenAI's API has it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "engine/turn_splitter.h"

namespace orcd::server {

struct CompletionHead {
  std::string id, model, fingerprint;
  int64_t created = 0;  // seconds since 1970
  bool is_chat = false;
  bool include_usage = false;  // chunks carry usage: null until the last
  bool logprobs = false;
};

struct CompletionUsage {
  uint64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0, reasoning_tokens = 0;
};

// A token as clients see it: its bytes, and those of the likeliest ones.
struct TokenText {
  std::string bytes;
  float logprob = 0;
  std::vector<TokenText> top = {};
};

struct ToolCall {
  std::string id, name, arguments;
};

// A choice as the whole answer has it.
struct CompletionMessage {
  std::string content, reasoning;
  std::vector<ToolCall> calls;
  std::vector<TokenText> tokens;  // where log-probabilities are asked for
  const char* finish_reason = nullptr;
  engine::EndEvent end;
};

std::string completion_json(const CompletionHead& head, const std::vector<CompletionMessage>& choices,
                            const CompletionUsage& usage);

// The log-probabilities that a chunk carries. offset: characters of the tokens of the choice that came
// before.
struct ChunkTokens {
  std::vector<TokenText> tokens;
  size_t offset = 0;
};

// Chunks, each one line. The first of a choice of a chat; a part of its text; its end.
std::string role_chunk(const CompletionHead& head, size_t choice);
// call: how many calls the choice has begun; call_id: of a part that begins one.
std::string part_chunk(const CompletionHead& head, size_t choice, const engine::TurnPart& part, size_t call,
                       std::string_view call_id, const ChunkTokens& tokens);
std::string end_chunk(const CompletionHead& head, size_t choice, const char* finish_reason,
                      const engine::EndEvent& end, const ChunkTokens& tokens);
std::string usage_chunk(const CompletionHead& head, const CompletionUsage& usage);

}  // namespace orcd::server
