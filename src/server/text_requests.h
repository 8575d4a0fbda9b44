// The bodies of /tokenize, /detokenize and /apply-template and their answers.
#pragma once

#include <string>
#include <string_view>

#include "engine/chat.h"
#include "tokenizer/tokenizer.h"

namespace orcd::server {

// Each takes a body and gives the answer's JSON. Throws InvalidRequest.
// {content, add_special (false), parse_special (true), with_pieces (false)} -> {tokens: [id or {id, piece}]}
std::string tokenize_json(std::string_view body, const tokenizer::Tokenizer& tokenizer);
// {tokens} -> {content}; bytes that are not UTF-8 show as U+FFFD
std::string detokenize_json(std::string_view body, const tokenizer::Tokenizer& tokenizer);
// {messages, tools, add_generation_prompt (true), chat_template_kwargs} -> {prompt}
std::string apply_template_json(std::string_view body, const engine::Chat& chat);

}  // namespace orcd::server
