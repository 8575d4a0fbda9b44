// One generation of the command line: the prompt as the options give it, and the answer, read to its end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/options.h"
#include "cli/session.h"
#include "engine/request.h"

namespace orcd::cli {

struct Answer {
  std::string text, reasoning, commentary;
  std::vector<int32_t> ids;
  engine::EndEvent end;
};

// --prompt or --file, framed by the model's chat template with --chat.
std::vector<int32_t> prompt_ids(const Options& options, const Model& model);

// Loads the model and runs the request. `stream` prints the answer as it comes. A signal ends the generation
// within a step, and what was printed stays a whole piece of text. Throws what the generation failed with.
Answer generate(const Options& options, Model model, engine::Request request, bool stream);

}  // namespace orcd::cli
