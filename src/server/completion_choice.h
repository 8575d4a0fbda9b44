// One choice of a completion: the events of its generation as the parts that an OpenAI client gets.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "engine/request.h"
#include "engine/turn_splitter.h"
#include "server/openai_fields.h"

namespace orcd::server {

class CompletionChoice {
 public:
  explicit CompletionChoice(const CompletionRequest& request);

  void add(const engine::TokenEvent& event, std::vector<engine::TurnPart>* parts);
  // The last parts.
  void end(const engine::EndEvent& event, std::vector<engine::TurnPart>* parts);

  // After end().
  const std::optional<engine::EndEvent>& ended() const { return end_; }
  const char* finish_reason() const;                                    // "stop", "length", "tool_calls"
  std::array<uint8_t, 32> output_digest() { return digest_.finish(); }  // once

  uint64_t n_tokens() const { return n_tokens_; }
  uint64_t n_reasoning_tokens() const { return n_reasoning_tokens_; }
  uint64_t output_bytes() const { return output_bytes_; }

 private:
  using Parts = std::vector<engine::TurnPart>;
  void add_text(const std::string& text, engine::TextKind kind, const std::string& recipient, Parts* parts);
  void add_call(const std::string& recipient, Parts* parts);
  void keep_calls(size_t from, Parts* parts);

  bool is_chat_, is_harmony_, offers_tools_, parallel_tool_calls_;
  engine::TurnSplitter splitter_;
  std::string recipient_;  // harmony: of the call being told
  std::optional<engine::EndEvent> end_;
  Sha256 digest_;
  uint64_t n_tokens_ = 0, n_reasoning_tokens_ = 0, output_bytes_ = 0, n_calls_ = 0;
};

}  // namespace orcd::server
