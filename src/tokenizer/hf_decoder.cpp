#include "tokenizer/hf_decoder.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "tokenizer/byte_bpe.h"

namespace orcd::tokenizer::hf {
namespace {

constexpr size_t kMaxPieceBytes = size_t{1} << 16;

struct Decoding {
  std::vector<std::pair<std::string, std::string>> replacements;
  bool byte_fallback = false;
  bool is_byte_level = false;
  bool drops_first_blank = false;
};

void read_strip(const Part& part, Decoding& decoding) {
  const Json& start = member(*part.json, "start");
  const Json& stop = member(*part.json, "stop");
  if (text(*part.json, "content", part.path) != " " || start != 1 || stop != 0)
    refuse(part.path, "Strip is supported with content \" \", start 1 and stop 0");
  decoding.drops_first_blank = true;
}

void read_replace(const Part& part, Decoding& decoding) {
  const Json& pattern = member(*part.json, "pattern");
  if (!pattern.is_object() || !member(pattern, "String").is_string() ||
      member(pattern, "String").get_ref<const std::string&>().empty())
    refuse(part.path + ".pattern", "must be {\"String\": ..} in a decoder");
  decoding.replacements.emplace_back(member(pattern, "String").get<std::string>(),
                                     text(*part.json, "content", part.path));
}

void read_metaspace(const Part& part, Decoding& decoding) {
  const bool old_scheme = flag(*part.json, "add_prefix_space", part.path, true);
  const std::string scheme = text(*part.json, "prepend_scheme", part.path, old_scheme ? "always" : "never");
  decoding.replacements.emplace_back(text(*part.json, "replacement", part.path, "\xE2\x96\x81"), " ");
  decoding.drops_first_blank = scheme != "never";
}

Decoding read(const Json& value) {
  Decoding decoding;
  for (const Part& part : parts_of(value, "decoders", "decoder")) {
    if (part.type == "ByteLevel") {
      decoding.is_byte_level = true;
    } else if (part.type == "ByteFallback") {
      decoding.byte_fallback = true;
    } else if (part.type == "Replace") {
      read_replace(part, decoding);
    } else if (part.type == "Strip") {
      read_strip(part, decoding);
    } else if (part.type == "Metaspace") {
      read_metaspace(part, decoding);
    } else if (part.type != "Fuse") {
      refuse(part.path,
             "the decoder " + part.type +
                 " is not supported (supported: ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, "
                 "Sequence)");
    }
  }
  if (decoding.is_byte_level && (decoding.byte_fallback || !decoding.replacements.empty()))
    refuse("decoder", "ByteLevel together with other decoders is not supported");
  return decoding;
}

std::string replaced(std::string text, const std::pair<std::string, std::string>& replacement) {
  const auto& [from, to] = replacement;
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

}  // namespace

void decode_pieces(const Json& decoder, Vocabulary& vocabulary) {
  const Decoding decoding = read(decoder);
  vocabulary.adds_space_prefix = decoding.drops_first_blank;
  if (decoding.is_byte_level) return decode_byte_level_pieces(vocabulary);
  vocabulary.own_pieces.reserve(vocabulary.texts.size());
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (vocabulary.is_control(id)) continue;
    std::string piece(vocabulary.texts[id]);
    for (const auto& replacement : decoding.replacements) {
      piece = replaced(std::move(piece), replacement);
      if (piece.size() > kMaxPieceBytes) refuse("decoder", "it makes a token too long");
    }
    if (const int byte = byte_of_token(piece); decoding.byte_fallback && byte >= 0)
      piece.assign(1, static_cast<char>(byte));
    if (piece != vocabulary.texts[id])
      vocabulary.pieces[id] = vocabulary.own_pieces.emplace_back(std::move(piece));
  }
}

}  // namespace orcd::tokenizer::hf
