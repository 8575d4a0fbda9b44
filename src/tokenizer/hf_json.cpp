// tokenizer.json of Hugging Face's `tokenizers`: BPE with its normalizers, pre-tokenizers, added tokens and
// decoders.
#include <algorithm>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "base/error.h"
#include "base/log.h"
#include "tokenizer/byte_bpe.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/compare.h"
#include "tokenizer/hf_bpe.h"
#include "tokenizer/hf_decoder.h"
#include "tokenizer/hf_document.h"
#include "tokenizer/hf_normalizer.h"
#include "tokenizer/hf_pre_tokenizer.h"
#include "tokenizer/pre_families.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer {
namespace {

using namespace hf;

// The family that normalises and cuts in the same way.
std::string family_name(const ByteBpeRules& rules) {
  for (const PreFamily& family : pre_families()) {
    if (std::ranges::equal(family.used_patterns(), rules.patterns) &&
        std::ranges::equal(family.used_byte_patterns(), rules.byte_patterns) &&
        family.normalize_nfc == rules.normalize_nfc) {
      return std::string(family.name);
    }
  }
  return "custom";
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<TokenType> types;
  std::vector<bool> is_known;
  std::unordered_map<int32_t, AddedTokenRules> rules;

  void add(int64_t id, const std::string& text, TokenType type, const std::string& path) {
    constexpr int64_t kMaxTokens = 1 << 24;
    if (id < 0 || id >= kMaxTokens) refuse(path, "the token id " + std::to_string(id) + " is out of range");
    const auto at = static_cast<size_t>(id);
    if (at >= texts.size()) {
      texts.resize(at + 1);
      types.resize(at + 1, TokenType::kUnused);
      is_known.resize(at + 1);
    }
    if (is_known[at] && texts[at] != text) {
      refuse(path,
             "the id " + std::to_string(id) + " stands for \"" + texts[at] + "\" and for \"" + text + "\"");
    }
    texts[at] = text;
    types[at] = type;
    is_known[at] = true;
  }
};

int64_t read_token_id(const Json& value, const std::string& path) {
  if (!value.is_number_integer()) refuse(path, "must be an integer");
  return value.get<int64_t>();
}

void read_added_token(const Json& token, const std::string& path, const Normalizer& normalizer,
                      Tokens& tokens) {
  if (!token.is_object()) refuse(path, "must be an object");
  const std::string content = text(token, "content", path);
  const int64_t id = read_token_id(member(token, "id"), path + ".id");
  const bool special = flag(token, "special", path, false);
  tokens.add(id, content, special ? TokenType::kControl : TokenType::kUserDefined, path + ".id");
  AddedTokenRules& rules = tokens.rules[static_cast<int32_t>(id)];
  rules.surroundings = {.single_word = flag(token, "single_word", path, false),
                        .takes_left = flag(token, "lstrip", path, false),
                        .takes_right = flag(token, "rstrip", path, false)};
  // Such a token is looked for in normalised text, itself normalised.
  if (flag(token, "normalized", path, !special)) rules.normalized = normalizer.apply(content);
}

Tokens read_tokens(const Json& root, const Normalizer& normalizer) {
  Tokens tokens;
  const Json& vocab = member(member(root, "model"), "vocab");
  if (!vocab.is_object() || vocab.empty()) refuse("model.vocab", "must be an object with tokens");
  for (const auto& [text, id] : vocab.items()) {
    tokens.add(read_token_id(id, "model.vocab"), text, TokenType::kNormal, "model.vocab");
  }
  const Json& added = member(root, "added_tokens");
  if (!added.is_null() && !added.is_array()) refuse("added_tokens", "must be an array");
  for (size_t i = 0; i < added.size(); ++i)
    read_added_token(added[i], "added_tokens[" + std::to_string(i) + "]", normalizer, tokens);
  return tokens;  // ids without a token keep an empty text, which nothing spells
}

MergeTable read_merges(const Json& merges, const Vocabulary& vocabulary) {
  const std::string path = "model.merges";
  if (!merges.is_array() || merges.size() > std::numeric_limits<uint32_t>::max())
    refuse(path, "must be an array");
  MergeTable table(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Json& merge = merges[rank];
    // The first line of a merges.txt, which some converters take along.
    if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) continue;
    std::string left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const size_t blank = text.find(' ');
      if (blank != std::string::npos) {
        left = text.substr(0, blank);
        right = text.substr(blank + 1);
      }
    }
    const std::string place = path + "[" + std::to_string(rank) + "]";
    if (left.empty() || right.empty()) refuse(place, "a merge must be two tokens");
    if (!add_merge(vocabulary, table, static_cast<uint32_t>(rank), left, right)) {
      refuse(place, "a merge names a token that the vocabulary does not hold");
    }
  }
  return table;
}

// The token that the post-processor puts before a text; nothing if it adds none there.
std::optional<std::string> read_first_token(const Json& value) {
  std::optional<std::string> first;
  for (const Part& part : parts_of(value, "processors", "post_processor")) {
    if (part.type == "ByteLevel") continue;
    if (part.type != "TemplateProcessing") {
      refuse(part.path, "the post-processor " + part.type +
                            " is not supported (supported: TemplateProcessing, "
                            "ByteLevel, Sequence)");
    }
    const Json& single = member(*part.json, "single");
    if (!single.is_array()) refuse(part.path + ".single", "must be an array");
    for (size_t i = 0; i < single.size(); ++i) {
      const Json& token = member(single[i], "SpecialToken");
      if (token.is_null()) continue;
      const std::string path = part.path + ".single[" + std::to_string(i) + "]";
      if (i != 0 || first) refuse(path, "only one special token is supported, before the text");
      first = text(token, "id", path + ".SpecialToken");
    }
  }
  return first;
}

struct Model {
  BpeRules rules;
  std::string unknown_token;
};

Model read_model(const Json& model) {
  const std::string path = "model";
  if (!model.is_object()) refuse(path, "must be an object");
  const std::string type = text(model, "type", path, "BPE");
  if (type != "BPE") refuse("model.type", "the model " + type + " is not supported (supported: BPE)");
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!text(model, name, path, "").empty()) refuse(path + "." + name, "is not supported");
  }
  const Json& dropout = member(model, "dropout");
  if (!dropout.is_null() && dropout != 0.0) refuse("model.dropout", "is not supported");
  return {{.ignore_merges = flag(model, "ignore_merges", path, false),
           .byte_fallback = flag(model, "byte_fallback", path, false),
           .fuse_unknown = flag(model, "fuse_unk", path, false)},
          text(model, "unk_token", path, "")};
}

void require_same_tokens(const Vocabulary& vocabulary, const Tokenizer& model) {
  const int32_t n = std::min(vocabulary.size(), model.vocab_size());
  for (int32_t id = 0; id < n; ++id) {
    if (vocabulary.types[id] == TokenType::kUnused || vocabulary.texts[id] == model.token_text(id)) continue;
    throw Error(ErrorCode::kModelLoadFailed, "tokenizer.json and the model's file spell a token differently",
                {{"id", int64_t{id}},
                 {"tokenizer_json", std::string(vocabulary.texts[id])},
                 {"model", std::string(model.token_text(id))}},
                "give the tokenizer.json that belongs to this model");
  }
}

void set_ends(Vocabulary& vocabulary, const std::optional<std::string>& first_token, const Tokenizer* model) {
  std::vector<int32_t> named;
  if (model != nullptr) {
    const auto known = [&](int32_t id) { return id < vocabulary.size() ? id : -1; };
    vocabulary.bos_id = known(model->bos_id());
    vocabulary.eos_id = known(model->eos_id());
    vocabulary.adds_bos = model->adds_bos();
    for (const int32_t id : model->end_ids()) named.push_back(known(id));
  }
  if (first_token) {
    vocabulary.bos_id = vocabulary.ids.find(*first_token);
    if (vocabulary.bos_id < 0) refuse("post_processor", "names the unknown token \"" + *first_token + "\"");
    vocabulary.adds_bos = true;
  }
  vocabulary.end_ids = find_end_ids(vocabulary, std::move(named));
}

// What both tokenizers know is spelled alike, but they may cut text differently: --tokenizer is given for
// that, too.
void tell_difference(const Tokenizer& tokenizer, const Tokenizer& model) {
  const auto difference = first_difference(tokenizer, model);
  if (!difference && tokenizer.vocab_size() == model.vocab_size()) return;
  ErrorValues values = {{"tokens", int64_t{tokenizer.vocab_size()}},
                        {"model_tokens", int64_t{model.vocab_size()}}};
  if (difference) {
    values.emplace_back("text", difference->text);
    values.emplace_back("position", uint64_t{difference->position});
    values.emplace_back("id", int64_t{difference->first});
    values.emplace_back("model_id", int64_t{difference->second});
  }
  log_event(LogLevel::kWarn, "tokenizer_differs", values);
}

// Then no byte is unknown.
bool spells_every_byte(const Vocabulary& vocabulary) {
  constexpr auto kAlphabet = byte_level_alphabet();
  return std::ranges::all_of(kAlphabet, [&](uint16_t character) {
    std::string text;
    append_utf8(character, text);
    return vocabulary.ids.find(text) >= 0;
  });
}

// Byte-level BPE goes to the implementation made for it; the rest to the general one.
std::shared_ptr<const Tokenizer> make(Vocabulary vocabulary, Normalizer normalizer, TextCutter cutter,
                                      const Model& model, const Json& root) {
  MergeTable merges = read_merges(member(member(root, "model"), "merges"), vocabulary);
  const auto expressions = cutter.expressions();
  const bool decodes_bytes =
      member(member(root, "decoder"), "type") == "ByteLevel" || member(root, "decoder").is_null();
  if (expressions && decodes_bytes && (normalizer.empty() || normalizer.is_nfc()) &&
      !model.rules.byte_fallback && (vocabulary.unknown_id < 0 || spells_every_byte(vocabulary))) {
    ByteBpeRules rules{.kind = "hf-json",
                       .pre = {},
                       .patterns = expressions->patterns,
                       .byte_patterns = expressions->byte_patterns,
                       .normalize_nfc = normalizer.is_nfc(),
                       .ignore_merges = model.rules.ignore_merges};
    rules.pre = family_name(rules);
    return make_byte_bpe(std::move(vocabulary), std::move(rules), std::move(merges));
  }
  hf::decode_pieces(member(root, "decoder"), vocabulary);
  return make_bpe(std::move(vocabulary), std::move(normalizer), std::move(cutter), model.rules,
                  std::move(merges));
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::from_hf_json(std::string_view json, const Tokenizer* model) {
  const Json root = parse(json);
  if (!root.is_object()) refuse("", "must be an object");
  const Model bpe = read_model(member(root, "model"));
  Normalizer normalizer(member(root, "normalizer"));
  TextCutter cutter(member(root, "pre_tokenizer"));

  const auto tokens = std::make_shared<Tokens>(read_tokens(root, normalizer));
  Vocabulary vocabulary;
  vocabulary.owner = tokens;
  vocabulary.texts.assign(tokens->texts.begin(), tokens->texts.end());
  vocabulary.types = tokens->types;
  index_tokens(vocabulary, tokens->rules);
  if (!bpe.unknown_token.empty()) {
    vocabulary.unknown_id = vocabulary.ids.find(bpe.unknown_token);
    if (vocabulary.unknown_id < 0) refuse("model.unk_token", "is not in the vocabulary");
  }
  if (model != nullptr) require_same_tokens(vocabulary, *model);
  set_ends(vocabulary, read_first_token(member(root, "post_processor")), model);
  auto tokenizer = make(std::move(vocabulary), std::move(normalizer), std::move(cutter), bpe, root);
  if (model != nullptr) tell_difference(*tokenizer, *model);
  return tokenizer;
}

}  // namespace orcd::tokenizer
