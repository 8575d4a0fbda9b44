#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/session.h"
#include "gguf/validate.h"
#include "model/adapters/registry.h"

namespace orcd::cli {
namespace {

// Everything that needs no device: structure, sense, vocabulary, and the tensors where the family is known.
std::string verdict(const std::string& path) {
  const auto file = gguf::File::open(path);
  gguf::validate(*file);
  std::string text = "ok " + path + ": GGUF version " + std::to_string(file->version()) + ", " +
                     std::to_string(file->metadata().size()) + " keys, " +
                     std::to_string(file->tensors().size()) + " tensors";
  if (file->find("tokenizer.ggml.model")) {
    const auto tokenizer = tokenizer::Tokenizer::from_gguf(file);
    text +=
        ", " + std::to_string(tokenizer->vocab_size()) + " tokens (" + std::string(tokenizer->kind()) + ")";
  }
  const std::string_view architecture = file->get_string("general.architecture").value_or("");
  const bool known = std::ranges::any_of(
      model::adapters(), [&](const model::Adapter& a) { return a.architecture == architecture; });
  if (!file->tensors().empty() && known) model::lower(model::read_spec(file));
  if (!known && !file->tensors().empty())
    text += "; architecture " + std::string(architecture) + " cannot be run by this build";
  return text;
}

}  // namespace

int check(const Options& options) {
  std::string line;
  int code = 0;
  nlohmann::ordered_json json = {{"file", options.model}, {"ok", true}};
  try {
    line = verdict(options.model);
  } catch (const Error& error) {
    line = error.line();
    code = 1;
    json["ok"] = false;
    json["code"] = error_code_name(error.code());
    json["message"] = error.message();
    for (const auto& [name, value] : error.values())
      if (!json.contains(name)) std::visit([&field = json[name]](const auto& v) { field = v; }, value);
  }
  if (options.json) line = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::ranges::replace_if(
      line, [](char c) { return c == '\n' || c == '\r'; }, ' ');
  std::printf("%s\n", line.c_str());
  return code;
}

}  // namespace orcd::cli
