// A request as the engine takes it, and the events it answers with.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "engine/token_logprobs.h"
#include "numerics/digest.h"
#include "sampling/params.h"

namespace orcd::engine {

// Already validated (engine/request_limits.h) and tokenised. Immutable once submitted.
struct Request {
  std::string id;                      // job_id; unique among active requests
  std::vector<int32_t> prompt_tokens;  // at least one
  uint32_t max_tokens = 2048;
  sampling::SamplingParams sampling;
  std::vector<std::string> stop;  // strings; matched across tokens and inside UTF-8, not part of the output
  // Token events tell the log-probability of their token, and of so many of the likeliest ones (at most
  // kMaxTopLogprobs).
  std::optional<uint32_t> top_logprobs;
  bool ignore_end = false;            // go on after end-of-generation ids (bench)
  bool special_text = false;          // control tokens appear in the text
  std::vector<int32_t> shown_tokens;  // control tokens that appear in it all the same: marks of a format
  // A vocabulary of the harmony format (engine/harmony.h): each token's text is that of its message alone,
  // told apart by kind, and stop strings are looked for in the answer. Without it, and with other
  // vocabularies, all is answer.
  bool split_channels = false;
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

enum class StopReason { kEnd, kMaxTokens, kStopString, kContext };
const char* stop_reason_name(StopReason reason);  // "eos", "max_tokens", "stop", "context"

struct Receipt {
  std::string model_digest;   // hex of the weights' digest
  std::string logits_digest;  // hex of the chained digest of the sampled rows
  uint32_t logits_rows = 0;   // how many those are: the tokens, and the end if it was drawn
  uint32_t numerics_version = 1;
  sampling::SamplingParams sampling;  // with the seed that was drawn with
};

uint64_t new_seed();  // 53 random bits: exact also where JSON numbers are binary64
std::string hex_digest(const numerics::Digest& digest);  // 32 digits, as receipts write it

// What a text is to the user who asked.
enum class TextKind : uint8_t { kAnswer, kReasoning, kCommentary };

struct StartedEvent {
  std::chrono::system_clock::time_point at;
  uint64_t seed;
};
// `text` is whole UTF-8 and may be empty (a token inside a character, or text held back for a stop string).
struct TokenEvent {
  std::string text;
  int32_t id;
  uint32_t index;
  TextKind kind = TextKind::kAnswer;
  std::string recipient = {};               // of commentary: the tool that is called, "functions.f"
  std::vector<TokenLogprob> logprobs = {};  // token_logprobs(): empty unless asked for
  // Text of this token or of those before it waits for the next one, or for the tail of EndEvent. Not told
  // where channels are split.
  bool holds_back = false;
};
struct EndEvent {
  StopReason reason;
  std::string matched_stop;
  std::string tail;  // text released at the end, after the last TokenEvent; usually empty
  TextKind tail_kind = TextKind::kAnswer;
  uint32_t prompt_tokens, tokens_out;
  uint32_t cached_tokens = 0;  // of the prompt, those that the prefix cache had when it was first taken up
  double queue_ms, prefill_ms, decode_ms, first_token_ms;
  Receipt receipt;
};
struct ErrorEvent {
  Error error;
};
using Event = std::variant<StartedEvent, TokenEvent, EndEvent, ErrorEvent>;

}  // namespace orcd::engine
