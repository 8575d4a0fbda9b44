// The two answers to a completion: chunks as server-sent events, or one JSON object at the end.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "server/completion_run.h"
#include "server/http.h"

namespace orcd::server {

// data: CHUNK, ..., data: [DONE]. An error is one event data: {"error":...} in place of what would follow.
std::unique_ptr<StreamSource> make_completion_stream(CompletionHead head, CompletionRun::Setup setup);
// Errors give the reply their status.
std::unique_ptr<PendingReply> make_completion_reply(CompletionHead head, CompletionRun::Setup setup);

}  // namespace orcd::server
