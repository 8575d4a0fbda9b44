#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <span>

#include "tokenizer/unicode.h"

namespace orcd::tokenizer {
namespace {

// Tokens by which the families end a turn, beside those that the metadata names.
constexpr std::array<std::string_view, 18> kEndTexts = {"<|eot_id|>",
                                                        "<|im_end|>",
                                                        "<|end|>",
                                                        "<|return|>",
                                                        "<|call|>",
                                                        "<end_of_turn>",
                                                        "<end_of_utterance>",
                                                        "<turn|>",
                                                        "<|endoftext|>",
                                                        "<|end_of_text|>",
                                                        "<|eom_id|>",
                                                        "<|eot|>",
                                                        "<|eom|>",
                                                        "<EOT>",
                                                        "_<EOT>",
                                                        "<|END_OF_TURN_TOKEN|>",
                                                        "<｜end▁of▁sentence｜>",
                                                        "<|end_of_turn|>"};

// And those by which they begin one.
constexpr std::array<std::string_view, 6> kStartTexts = {"<start_of_turn>",   "<|turn>",
                                                         "<|im_start|>",      "<|start_header_id|>",
                                                         "<|end_header_id|>", "<|start_of_role|>"};

// Files of Gemma 3 from its makers, and of others, type these tokens as ordinary text: then no template could
// write them, and no answer would end.
void make_turns_control(Vocabulary& vocabulary) {
  const auto is_one_of = [](const auto& texts, std::string_view text) {
    return std::ranges::find(texts, text) != texts.end();
  };
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view text = vocabulary.texts[id];
    if (!text.ends_with('>') || !vocabulary.is_plain(id)) continue;
    if (is_one_of(kStartTexts, text) || is_one_of(kEndTexts, text))
      vocabulary.types[id] = TokenType::kControl;
  }
}

std::vector<TokenType> read_types(const gguf::File& file, uint64_t n_tokens) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  std::vector<TokenType> types(n_tokens, TokenType::kNormal);
  const gguf::Array* array = file.get_array(kKey);
  if (array == nullptr) return types;
  const bool integers = array->element_type <= gguf::ValueType::kI32 ||
                        array->element_type == gguf::ValueType::kU64 ||
                        array->element_type == gguf::ValueType::kI64;
  if (!integers || array->size != n_tokens) {
    throw gguf::load_error(file, kKey, file.find(kKey)->value_offset,
                           "token types must be " + std::to_string(n_tokens) +
                               " integers, one for each token; the file has " + std::to_string(array->size) +
                               (integers ? "" : " values of another type"));
  }
  for (uint64_t id = 0; id < n_tokens; ++id) {
    const int64_t type = array->as_int(id);
    if (type < 0 || type > 6) {
      throw array_error(file, kKey, id, "token type " + std::to_string(type) + " is not one of 0 to 6");
    }
    types[id] = type == 0 ? TokenType::kNormal : static_cast<TokenType>(type);
  }
  return types;
}

}  // namespace

int byte_of_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  uint8_t byte = 0;
  const auto [end, error] = std::from_chars(text.data() + 3, text.data() + 5, byte, 16);
  return error == std::errc() && end == text.data() + 5 ? byte : -1;
}

std::vector<int32_t> find_end_ids(const Vocabulary& vocabulary, std::vector<int32_t> ids) {
  ids.push_back(vocabulary.eos_id);
  std::erase_if(ids, [](int32_t id) { return id < 0; });
  for (const std::string_view text : kEndTexts) {
    const int32_t id = vocabulary.ids.find(text);
    if (id >= 0 && !vocabulary.is_plain(id)) ids.push_back(id);
  }
  // In the harmony format <|end|> ends a message, and the turn goes on until <|return|> or <|call|>.
  const int32_t end = vocabulary.ids.find("<|end|>");
  if (end >= 0 && end != vocabulary.eos_id && vocabulary.ids.find("<|return|>") >= 0 &&
      vocabulary.ids.find("<|call|>") >= 0) {
    std::erase(ids, end);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void index_tokens(Vocabulary& vocabulary, const std::unordered_map<int32_t, AddedTokenRules>& all_rules) {
  vocabulary.pieces = vocabulary.texts;
  vocabulary.ids = TokenMap(vocabulary.texts);
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const TokenType type = vocabulary.types[id];
    if (type != TokenType::kUserDefined && !vocabulary.is_control(id)) continue;
    const auto found = all_rules.find(id);
    const AddedTokenRules rules = found == all_rules.end() ? AddedTokenRules() : found->second;
    const bool is_late = rules.normalized.has_value();
    const std::string_view text = is_late ? std::string_view(*rules.normalized) : vocabulary.texts[id];
    if (type == TokenType::kUserDefined)
      (is_late ? vocabulary.late : vocabulary.user_defined).add(text, id, rules.surroundings);
    (is_late ? vocabulary.all_late : vocabulary.all_special).add(text, id, rules.surroundings);
  }
}

Error array_error(const gguf::File& file, std::string_view key, uint64_t index, std::string message) {
  const gguf::Array& array = file.need_array(key);
  uint64_t offset = file.find(key)->value_offset;
  if (array.element_type == gguf::ValueType::kString) {
    offset = file.offset_of(array.strings[index].data()) - 8;  // of its length field
  } else if (array.size != 0) {
    offset = file.offset_of(array.bytes.data()) + index * (array.bytes.size() / array.size);
  }
  return gguf::load_error(file, std::string(key) + "[" + std::to_string(index) + "]", offset,
                          std::move(message));
}

int32_t read_id(const gguf::File& file, std::string_view key, uint64_t n_tokens, int32_t missing) {
  const gguf::MetadataEntry* entry = file.find(key);
  if (entry == nullptr) return missing >= 0 && static_cast<uint64_t>(missing) < n_tokens ? missing : -1;
  // Some exporters write -1 for "none".
  if (const int64_t* value = std::get_if<int64_t>(&entry->value); value != nullptr && *value == -1) return -1;
  if (entry->type == gguf::ValueType::kU32 && file.get_uint(key) == std::numeric_limits<uint32_t>::max())
    return -1;
  const uint64_t id = file.need_uint(key);
  if (id >= n_tokens) {
    throw gguf::load_error(file, key, entry->value_offset,
                           "token id " + std::to_string(id) + " is outside the vocabulary of " +
                               std::to_string(n_tokens) + " tokens");
  }
  return static_cast<int32_t>(id);
}

Vocabulary read_vocabulary(const std::shared_ptr<const gguf::File>& file,
                           const VocabularyDefaults& defaults) {
  constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
  const gguf::Array& tokens = file->need_array(kTokens);
  if (tokens.element_type != gguf::ValueType::kString || tokens.size == 0 ||
      tokens.size > static_cast<uint64_t>(std::numeric_limits<int32_t>::max())) {
    throw gguf::load_error(*file, kTokens, file->find(kTokens)->value_offset,
                           "the vocabulary must be an array of 1 to 2147483647 strings");
  }
  Vocabulary vocabulary;
  vocabulary.owner = file;
  vocabulary.texts.assign(tokens.strings.begin(), tokens.strings.end());
  vocabulary.types = read_types(*file, tokens.size);
  make_turns_control(vocabulary);
  index_tokens(vocabulary);
  vocabulary.bos_id = read_id(*file, "tokenizer.ggml.bos_token_id", tokens.size, defaults.bos_id);
  vocabulary.eos_id = read_id(*file, "tokenizer.ggml.eos_token_id", tokens.size, defaults.eos_id);
  vocabulary.unknown_id = read_id(*file, "tokenizer.ggml.unknown_token_id", tokens.size, defaults.unknown_id);
  vocabulary.adds_bos = file->get_bool("tokenizer.ggml.add_bos_token").value_or(defaults.adds_bos);
  vocabulary.adds_space_prefix = defaults.adds_space_prefix;
  vocabulary.end_ids =
      find_end_ids(vocabulary, {read_id(*file, "tokenizer.ggml.eot_token_id", tokens.size, -1),
                                read_id(*file, "tokenizer.ggml.eom_token_id", tokens.size, -1)});
  return vocabulary;
}

namespace {

bool is_guarded(const SpecialMatcher::Match& match, std::string_view text, std::span<const size_t> guards) {
  const bool is_one_character = decode_utf8(text.substr(match.offset)).n_bytes == match.n_bytes;
  const auto guard = std::ranges::lower_bound(guards, match.offset + (is_one_character ? 0 : 1));
  return guard != guards.end() && *guard < match.offset + match.n_bytes;
}

}  // namespace

SpecialMatcher::Match VocabularyTokenizer::next_match(std::string_view text, size_t from,
                                                      const EncodeOptions& options) const {
  if (!options.parse_special) return vocabulary_.user_defined.find(text, from);
  SpecialMatcher::Match match = vocabulary_.all_special.find(text, from);
  if (options.guards.empty()) return match;
  SpecialMatcher::Match always;  // the next user-defined token: guards do not concern it
  while (match.n_bytes != 0 && vocabulary_.is_control(match.id) && is_guarded(match, text, options.guards)) {
    if (always.n_bytes == 0 || always.offset < match.offset)
      always = vocabulary_.user_defined.find(text, match.offset);
    if (always.n_bytes != 0 && always.offset == match.offset) return always;
    match = vocabulary_.all_special.find(text, match.offset + 1);
  }
  return match;
}

// Guards are offsets into the text before it is normalised: a stretch that holds one spells no late control
// token at all.
const SpecialMatcher& VocabularyTokenizer::late_of(size_t begin, size_t end,
                                                   const EncodeOptions& options) const {
  const auto guard = std::ranges::lower_bound(options.guards, begin);
  const bool is_guarded = guard != options.guards.end() && *guard < end;
  return options.parse_special && !is_guarded ? vocabulary_.all_late : vocabulary_.late;
}

std::vector<int32_t> VocabularyTokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  constexpr size_t kMaxBytes = size_t{1} << 30;  // positions are 32-bit, and a space may take three bytes
  if (text.size() > kMaxBytes) {
    throw Error(ErrorCode::kInvalidRequest, "text is too long to tokenize",
                {{"n_bytes", uint64_t{text.size()}}, {"limit", uint64_t{kMaxBytes}}}, "send it in parts");
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 2);
  if (options.add_bos && adds_bos() && bos_id() >= 0) ids.push_back(bos_id());
  size_t at = 0;
  while (at < text.size()) {
    const SpecialMatcher::Match match = next_match(text, at, options);
    const size_t plain_end = match.n_bytes == 0 ? text.size() : match.offset;
    if (plain_end > at) {
      encode_plain(text.substr(at, plain_end - at), at == 0, late_of(at, plain_end, options), ids);
    }
    if (match.n_bytes != 0) ids.push_back(match.id);
    at = plain_end + match.n_bytes;
  }
  return ids;
}

std::string_view VocabularyTokenizer::token_bytes(int32_t id, bool special) const {
  if (!vocabulary_.has(id) || (!special && vocabulary_.is_control(id))) return {};
  return vocabulary_.pieces[id];
}

std::string_view VocabularyTokenizer::token_text(int32_t id) const {
  return vocabulary_.has(id) ? vocabulary_.texts[id] : std::string_view();
}

}  // namespace orcd::tokenizer
