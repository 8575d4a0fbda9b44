#include "server/text_requests.h"

#include <nlohmann/json.hpp>

#include "server/chat_messages.h"
#include "server/json_fields.h"
#include "server/json_input.h"
#include "server/json_text.h"

namespace orcd::server {
namespace {

using Json = nlohmann::ordered_json;

bool is_utf8(const std::string& text) {
  try {
    return !Json(text).dump().empty();
  } catch (const Json::type_error&) {
    return false;
  }
}

// The text of a token, or its bytes where they are part of a character.
Json piece_json(const std::string& bytes) {
  if (is_utf8(bytes)) return bytes;
  Json list = Json::array();
  for (const char c : bytes) list.push_back(static_cast<uint8_t>(c));
  return list;
}

}  // namespace

std::string tokenize_json(std::string_view body, const tokenizer::Tokenizer& tokenizer) {
  const nlohmann::json document = parse_json(body);
  Fields fields(document);
  const std::string* content = fields.text("content");
  const tokenizer::EncodeOptions options{.add_bos = fields.flag("add_special", false),
                                         .parse_special = fields.flag("parse_special", true)};
  const bool with_pieces = fields.flag("with_pieces", false);
  fields.finish();
  Json tokens = Json::array();
  for (const int32_t id : tokenizer.encode(*content, options)) {
    if (with_pieces) {
      tokens.push_back({{"id", id}, {"piece", piece_json(std::string(tokenizer.token_bytes(id, true)))}});
    } else {
      tokens.push_back(id);
    }
  }
  return dump(Json{{"tokens", std::move(tokens)}});
}

std::string detokenize_json(std::string_view body, const tokenizer::Tokenizer& tokenizer) {
  const nlohmann::json document = parse_json(body);
  Fields fields(document);
  const nlohmann::json* tokens = fields.take("tokens");
  std::vector<int32_t> ids;
  if (!tokens || !tokens->is_array()) {
    fields.problem("tokens", "must be an array of token ids");
  } else {
    for (size_t i = 0; i < tokens->size(); ++i) {
      const nlohmann::json& id = (*tokens)[i];
      const bool known =
          id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(tokenizer.vocab_size());
      if (known) {
        ids.push_back(id.get<int32_t>());
      } else {
        fields.problem("tokens[" + std::to_string(i) + "]",
                       "must be an id from 0 to " + std::to_string(tokenizer.vocab_size() - 1));
      }
    }
  }
  fields.finish();
  return dump(Json{{"content", decode_bytes(tokenizer, ids, /*special=*/true)}});
}

std::string apply_template_json(std::string_view body, const engine::Chat& chat) {
  const nlohmann::json document = parse_json(body);
  Fields fields(document, /*null_is_absent=*/true);
  jinja::Dict variables = take_chat_variables(fields, body);
  fields.finish();
  return dump(Json{{"prompt", chat_prompt(chat, std::move(variables)).text}});
}

}  // namespace orcd::server
