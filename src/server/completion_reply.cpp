#include "server/completion_reply.h"

#include <utility>

#include "server/error_reply.h"
#include "server/reply_text.h"

namespace orcd::server {
namespace {

using engine::TurnPart;
using Kind = TurnPart::Kind;

std::string new_call_id() { return "call_" + make_request_id(""); }

class CompletionStream : public StreamSource, private CompletionSink {
 public:
  CompletionStream(CompletionHead head, CompletionRun::Setup setup)
      : head_(std::move(head)), choices_(setup.generations.size()), run_(std::move(setup)) {}

  bool next(std::string* out, size_t max_bytes) override {
    out_.swap(*out);
    const size_t begin = out_.size();
    const bool more = run_.read(this, [&] { return out_.size() - begin < max_bytes; });
    out_.swap(*out);
    return more;
  }
  void on_ready(std::function<void()> notify) override { run_.on_ready(std::move(notify)); }

 private:
  void started(size_t choice) override {
    if (head_.is_chat) add(role_chunk(head_, choice));
  }
  void part(size_t choice, const TurnPart& part) override {
    size_t& n_calls = choices_[choice].n_calls;
    const bool begins = part.kind == Kind::kCall;
    if (begins) ++n_calls;
    add(part_chunk(head_, choice, part, n_calls - 1, begins ? new_call_id() : "", waiting_tokens(choice)));
  }
  void ended(size_t choice, const char* finish_reason, const engine::EndEvent& end) override {
    add(end_chunk(head_, choice, finish_reason, end, waiting_tokens(choice)));
  }
  void completed(const CompletionUsage& usage) override {
    if (head_.include_usage) add(usage_chunk(head_, usage));
    add("[DONE]");
  }
  void failed(const Error& error) override { add(openai_error_json(error)); }
  void token(size_t choice, TokenText token) override {
    choices_[choice].tokens.tokens.push_back(std::move(token));
  }

  // The tokens told since the last chunk: those of text that was held back come with what releases it.
  ChunkTokens waiting_tokens(size_t choice) {
    ChunkTokens& waiting = choices_[choice].tokens;
    ChunkTokens out = std::exchange(waiting, {});
    waiting.offset = out.offset;
    for (const TokenText& token : out.tokens) waiting.offset += count_characters(token.bytes);
    return out;
  }

  void add(std::string_view data) { out_.append("data: ").append(data).append("\n\n"); }

  CompletionHead head_;
  std::string out_;
  struct Choice {
    size_t n_calls = 0;
    ChunkTokens tokens;
  };
  std::vector<Choice> choices_;
  CompletionRun run_;
};

class CompletionReply : public PendingReply, private CompletionSink {
 public:
  CompletionReply(CompletionHead head, CompletionRun::Setup setup)
      : head_(std::move(head)), messages_(setup.generations.size()), run_(std::move(setup)) {}

  std::optional<Reply> take() override {
    run_.read(this, [] { return true; });
    return std::exchange(reply_, std::nullopt);
  }
  void on_ready(std::function<void()> notify) override { run_.on_ready(std::move(notify)); }

 private:
  void started(size_t) override {}
  void token(size_t choice, TokenText token) override {
    messages_[choice].tokens.push_back(std::move(token));
  }
  void part(size_t choice, const TurnPart& part) override {
    CompletionMessage& message = messages_[choice];
    switch (part.kind) {
      case Kind::kContent:
        message.content += part.text;
        break;
      case Kind::kReasoning:
        message.reasoning += part.text;
        break;
      case Kind::kCall:
        message.calls.push_back({new_call_id(), part.text, ""});
        break;
      case Kind::kArguments:
        message.calls.back().arguments += part.text;
        break;
    }
  }
  void ended(size_t choice, const char* finish_reason, const engine::EndEvent& end) override {
    messages_[choice].finish_reason = finish_reason;
    messages_[choice].end = end;
  }
  void completed(const CompletionUsage& usage) override {
    reply_.emplace();
    reply_->body = completion_json(head_, messages_, usage);
  }
  void failed(const Error& error) override { reply_ = openai_error_reply(error); }

  CompletionHead head_;
  std::vector<CompletionMessage> messages_;
  std::optional<Reply> reply_;
  CompletionRun run_;
};

}  // namespace

std::unique_ptr<StreamSource> make_completion_stream(CompletionHead head, CompletionRun::Setup setup) {
  return std::make_unique<CompletionStream>(std::move(head), std::move(setup));
}

std::unique_ptr<PendingReply> make_completion_reply(CompletionHead head, CompletionRun::Setup setup) {
  return std::make_unique<CompletionReply>(std::move(head), std::move(setup));
}

}  // namespace orcd::server
