#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/log_setup.h"
#include "cli/output.h"
#include "server/receipt.h"

namespace orcd::cli {
namespace {

using Json = nlohmann::ordered_json;

// What the receipt says beside what came out here.
struct Comparison {
  const server::WrittenReceipt& written;
  const Answer& answer;

  const engine::Receipt& here() const { return answer.end.receipt; }
  bool same_model() const { return written.receipt.model_digest == here().model_digest; }
  bool same_logits() const {
    return written.receipt.logits_digest == here().logits_digest &&
           written.receipt.logits_rows == here().logits_rows;
  }
  // The replay goes on to the last row, so that it has the end as a token where the answer ended.
  size_t n_equal_tokens() const {
    const auto& ids = *written.answer_ids;
    const size_t n = std::min(ids.size(), answer.ids.size());
    return static_cast<size_t>(
        std::mismatch(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(n), answer.ids.begin()).first -
        ids.begin());
  }
  bool same_tokens() const {
    if (!written.answer_ids) return true;
    const size_t n = written.answer_ids->size();
    return n_equal_tokens() == n && n <= here().logits_rows && n + 1 >= here().logits_rows;
  }
  bool holds() const { return same_logits() && same_tokens(); }
};

Json json_of(const Comparison& c) {
  const engine::Receipt &written = c.written.receipt, &here = c.here();
  return {{"verified", c.holds()},
          {"logits_digest",
           {{"receipt", written.logits_digest}, {"here", here.logits_digest}, {"equal", c.same_logits()}}},
          {"logits_rows", {{"receipt", written.logits_rows}, {"here", here.logits_rows}}},
          {"token_ids_equal", c.written.answer_ids ? Json(c.same_tokens()) : Json(nullptr)},
          {"model_digest",
           {{"receipt", written.model_digest}, {"here", here.model_digest}, {"equal", c.same_model()}}},
          {"numerics_version", here.numerics_version}};
}

void print_table(const Comparison& c) {
  const engine::Receipt &written = c.written.receipt, &here = c.here();
  const auto line = [](const char* what, const std::string& receipt, const std::string& now, bool equal,
                       const char* otherwise) {
    std::printf("%-10s %-33s %-33s %s\n", what, receipt.c_str(), now.c_str(), equal ? "equal" : otherwise);
  };
  std::printf("%-10s %-33s %s\n", "", "receipt", "here");
  line("logits", written.logits_digest, here.logits_digest, written.logits_digest == here.logits_digest,
       "DIFFER");
  line("rows", std::to_string(written.logits_rows), std::to_string(here.logits_rows),
       written.logits_rows == here.logits_rows, "DIFFER");
  if (const auto& ids = c.written.answer_ids)
    line("tokens", std::to_string(ids->size()), std::to_string(c.n_equal_tokens()), c.same_tokens(),
         "DIFFER");
  line("model", written.model_digest, here.model_digest, c.same_model(),
       "other layout of the weights, or another file");
  std::printf("%s\n", c.holds() ? "verified: the same request gave the same bits" : "NOT verified");
}

std::vector<int32_t> ids_of(const Options& options, const Model& model,
                            const server::WrittenReceipt& written) {
  const bool is_given = options.prompt || options.file;
  if (!is_given && !written.prompt_ids) {
    throw Error(ErrorCode::kInvalidRequest, "the receipt does not hold its prompt", {},
                "give the prompt with --prompt or --file, and --chat if it was framed");
  }
  std::vector<int32_t> ids = is_given ? prompt_ids(options, model) : *written.prompt_ids;
  if (ids.size() != written.prompt_tokens) {
    throw Error(ErrorCode::kInvalidRequest, "this is not the prompt of the receipt",
                {{"prompt_tokens", uint64_t{ids.size()}}, {"receipt", uint64_t{written.prompt_tokens}}},
                "give the text that was asked with, and --chat if it was framed");
  }
  return ids;
}

}  // namespace

int verify(const Options& options) {
  install_log(options.log_format, {"", model_name(options.model), options.device}, LogLevel::kWarn);
  const std::string text = read_text(std::nullopt, options.receipt);
  Model model = open_model(options.model, options.tokenizer_file);
  const server::WrittenReceipt written = server::parse_receipt(text, *model.tokenizer);
  if (const uint32_t here = engine::Receipt{}.numerics_version; written.receipt.numerics_version != here) {
    throw Error(ErrorCode::kInvalidRequest, "the receipt is of another numerics version",
                {{"receipt", uint64_t{written.receipt.numerics_version}}, {"here", uint64_t{here}}},
                "verify it with a worker of that version");
  }
  engine::Request request;
  request.id = "verify";
  request.prompt_tokens = ids_of(options, model, written);
  request.sampling = written.receipt.sampling;
  // Whatever ended the answer, so many rows were drawn from; and its request may have gone on after an end.
  request.max_tokens = written.receipt.logits_rows;
  request.ignore_end = true;
  const Answer answer = generate(options, std::move(model), std::move(request), /*stream=*/false);
  const Comparison comparison{written, answer};
  if (options.json) {
    print_now(json_of(comparison).dump(2) + "\n");
  } else {
    print_table(comparison);
    flush_output();
  }
  if (comparison.holds()) return 0;
  throw Error(ErrorCode::kInvalidRequest, "the receipt does not hold here",
              {{"logits_digest", written.receipt.logits_digest}, {"here", answer.end.receipt.logits_digest}},
              "it was made with another model, prompt or sampling");
}

}  // namespace orcd::cli
