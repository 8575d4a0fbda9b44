// tokenizer.json of Hugging Face's `tokenizers`: byte-level BPE with its normalizers, pre-tokenizers and
// added tokens.
#include <algorithm>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "tokenizer/byte_bpe.h"
#include "tokenizer/character_sets.h"
#include "tokenizer/pre_families.h"
#include "tokenizer/tokenizer.h"

namespace orcd::tokenizer {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const std::string& field, const std::string& message) {
  throw Error(ErrorCode::kModelLoadFailed, "tokenizer.json: " + message, {{"field", field}},
              "leave --tokenizer out to use the vocabulary of the model's own file");
}

const Json& member(const Json& object, const char* name) {
  static const Json kNull;
  const auto found = object.find(name);
  return found == object.end() ? kNull : *found;
}

// A missing or null field is `missing`; another type is refused.
bool flag(const Json& object, const char* name, const std::string& path, bool missing) {
  const Json& value = member(object, name);
  if (value.is_null()) return missing;
  if (!value.is_boolean()) refuse(path + "." + name, "must be true or false");
  return value.get<bool>();
}

std::string type_of(const Json& part, const std::string& path) {
  const Json& type = member(part, "type");
  if (!type.is_string()) refuse(path + ".type", "must be a string");
  return type.get<std::string>();
}

constexpr int kMaxSequenceDepth = 16;

// The parts of a Sequence, or the one part, or none for null.
std::vector<const Json*> parts_of(const Json& value, const char* list, const std::string& path,
                                  int depth = 0) {
  if (depth > kMaxSequenceDepth) refuse(list, "sequences nest too deeply");
  if (value.is_null()) return {};
  if (!value.is_object()) refuse(path, "must be an object or null");
  if (type_of(value, path) != "Sequence") return {&value};
  const Json& items = member(value, list);
  if (!items.is_array()) refuse(path + "." + list, "must be an array");
  std::vector<const Json*> parts;
  for (const Json& item : items) {
    for (const Json* part : parts_of(item, list, path + "." + list, depth + 1)) parts.push_back(part);
  }
  return parts;
}

bool read_normalizer(const Json& value) {
  bool is_nfc = false;
  for (const Json* part : parts_of(value, "normalizers", "normalizer")) {
    const std::string type = type_of(*part, "normalizer");
    if (type != "NFC") refuse("normalizer", "the normalizer " + type + " is not supported (supported: NFC)");
    is_nfc = true;
  }
  return is_nfc;
}

// Text that an expression matches as it is.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string split_pattern(const Json& part, const std::string& path) {
  const Json& behavior = member(part, "behavior");
  if (behavior != "Isolated" || flag(part, "invert", path, false)) {
    refuse(path + ".behavior", "Split is supported with behavior Isolated, not inverted");
  }
  const Json& pattern = member(part, "pattern");
  if (pattern.is_object() && member(pattern, "Regex").is_string())
    return member(pattern, "Regex").get<std::string>();
  if (pattern.is_object() && member(pattern, "String").is_string()) {
    return escaped(member(pattern, "String").get<std::string>());
  }
  refuse(path + ".pattern", "must be {\"Regex\": ..} or {\"String\": ..}");
}

std::string family_pattern(std::string_view name, size_t index) {
  return std::string(find_pre_family(name)->used_patterns()[index]);
}

// The expressions of the pre-tokenizer, which must end in the byte-level alphabet.
std::vector<std::string> read_pre_tokenizer(const Json& value) {
  const std::string path = "pre_tokenizer";
  std::vector<std::string> patterns;
  bool is_byte_level = false;
  for (const Json* part : parts_of(value, "pretokenizers", path)) {
    const std::string type = type_of(*part, path);
    if (is_byte_level) refuse(path, type + " behind ByteLevel is not supported");
    if (type == "Split") {
      patterns.push_back(split_pattern(*part, path));
    } else if (type == "Digits") {
      const bool single = flag(*part, "individual_digits", path, false);
      patterns.emplace_back(single ? kDigit : kDigitRun);
    } else if (type == "ByteLevel") {
      if (flag(*part, "add_prefix_space", path, true))
        refuse(path + ".add_prefix_space", "true is not supported");
      if (flag(*part, "use_regex", path, true)) patterns.push_back(family_pattern("gpt-2", 0));
      is_byte_level = true;
    } else {
      refuse(path, "the pre-tokenizer " + type + " is not supported (supported: Split, Digits, ByteLevel)");
    }
  }
  if (!is_byte_level) refuse(path, "only byte-level vocabularies are supported: ByteLevel must come last");
  return patterns;
}

std::string family_name(const ByteBpeRules& rules) {
  for (const PreFamily& family : pre_families()) {
    const auto patterns = family.used_patterns();
    if (std::equal(patterns.begin(), patterns.end(), rules.patterns.begin(), rules.patterns.end()) &&
        family.used_byte_patterns().empty() && family.normalize_nfc == rules.normalize_nfc &&
        family.ignore_merges == rules.ignore_merges) {
      return std::string(family.name);
    }
  }
  return "custom";
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<TokenType> types;
  std::vector<bool> is_known;

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

Tokens read_tokens(const Json& root, bool normalizes) {
  Tokens tokens;
  const Json& vocab = member(member(root, "model"), "vocab");
  if (!vocab.is_object() || vocab.empty()) refuse("model.vocab", "must be an object with tokens");
  for (const auto& [text, id] : vocab.items()) {
    tokens.add(read_token_id(id, "model.vocab"), text, TokenType::kNormal, "model.vocab");
  }
  const Json& added = member(root, "added_tokens");
  if (!added.is_null() && !added.is_array()) refuse("added_tokens", "must be an array");
  for (size_t i = 0; i < added.size(); ++i) {
    const std::string path = "added_tokens[" + std::to_string(i) + "]";
    const Json& token = added[i];
    if (!token.is_object() || !member(token, "content").is_string())
      refuse(path + ".content", "must be a string");
    for (const char* name : {"single_word", "lstrip", "rstrip"}) {
      if (flag(token, name, path, false)) refuse(path + "." + name, "true is not supported");
    }
    const bool special = flag(token, "special", path, false);
    if (normalizes && flag(token, "normalized", path, !special)) {
      refuse(path + ".normalized", "true is not supported together with a normalizer");
    }
    tokens.add(read_token_id(member(token, "id"), path + ".id"), member(token, "content").get<std::string>(),
               special ? TokenType::kControl : TokenType::kUserDefined, path + ".id");
  }
  return tokens;  // ids without a token keep an empty text, which nothing spells
}

MergeTable read_merges(const Json& merges, const Vocabulary& vocabulary) {
  const std::string path = "model.merges";
  if (!merges.is_array() || merges.size() > std::numeric_limits<uint32_t>::max())
    refuse(path, "must be an array");
  MergeTable table(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Json& merge = merges[rank];
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
  for (const Json* part : parts_of(value, "processors", "post_processor")) {
    if (type_of(*part, "post_processor") != "TemplateProcessing") continue;
    const Json& single = member(*part, "single");
    if (!single.is_array() || single.empty()) continue;
    const Json& token = member(single[0], "SpecialToken");
    if (token.is_object() && member(token, "id").is_string()) return member(token, "id").get<std::string>();
  }
  return std::nullopt;
}

void read_model(const Json& model, ByteBpeRules& rules) {
  const std::string path = "model";
  if (!model.is_object()) refuse(path, "must be an object");
  const std::string type = member(model, "type").is_string() ? type_of(model, path) : "BPE";
  if (type != "BPE") refuse("model.type", "the model " + type + " is not supported (supported: BPE)");
  for (const char* name : {"fuse_unk", "byte_fallback"}) {
    if (flag(model, name, path, false)) refuse(path + "." + name, "true is not supported");
  }
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json& affix = member(model, name);
    const bool empty = affix.is_string() && affix.get_ref<const std::string&>().empty();
    if (!affix.is_null() && !empty) refuse(path + "." + name, "is not supported");
  }
  const Json& dropout = member(model, "dropout");
  if (!dropout.is_null() && dropout != 0.0) refuse("model.dropout", "is not supported");
  rules.ignore_merges = flag(model, "ignore_merges", path, false);
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

Json parse(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw Error(ErrorCode::kModelLoadFailed, "tokenizer.json is not JSON: " + std::string(error.what()),
                {{"byte", uint64_t{error.byte}}});
  } catch (const Json::exception& error) {  // a number outside the range of binary64
    throw Error(ErrorCode::kModelLoadFailed, "tokenizer.json cannot be read: " + std::string(error.what()));
  }
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::from_hf_json(std::string_view json, const Tokenizer* model) {
  const Json root = parse(json);
  if (!root.is_object()) refuse("", "must be an object");
  ByteBpeRules rules;
  rules.kind = "hf-json";
  read_model(member(root, "model"), rules);
  rules.normalize_nfc = read_normalizer(member(root, "normalizer"));
  rules.patterns = read_pre_tokenizer(member(root, "pre_tokenizer"));
  rules.pre = family_name(rules);

  const auto tokens = std::make_shared<Tokens>(read_tokens(root, rules.normalize_nfc));
  Vocabulary vocabulary;
  vocabulary.owner = tokens;
  vocabulary.texts.assign(tokens->texts.begin(), tokens->texts.end());
  vocabulary.types = tokens->types;
  index_tokens(vocabulary);
  if (model != nullptr) require_same_tokens(vocabulary, *model);
  set_ends(vocabulary, read_first_token(member(root, "post_processor")), model);
  MergeTable merges = read_merges(member(member(root, "model"), "merges"), vocabulary);
  return make_byte_bpe(std::move(vocabulary), std::move(rules), std::move(merges));
}

}  // namespace orcd::tokenizer
