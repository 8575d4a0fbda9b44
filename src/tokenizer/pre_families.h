// The pre-tokenizer families that `tokenizer.ggml.pre` can name. A further family is a further row.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

namespace orcd::tokenizer {

struct PreFamily {
  std::string_view name;
  std::array<std::string_view, 8> aliases;             // other names for the same behaviour, "" unused
  std::array<std::string_view, 6> patterns;            // applied one after the other, "" unused
  std::array<std::string_view, 2> byte_patterns = {};  // after them, in the byte-level alphabet, "" unused
  bool normalize_nfc =
      false;  // the family's reference tokenizer normalises; text in another form comes back as NFC
  bool ignore_merges = false;  // a piece that is a token becomes that token at once, whatever the merges say
  bool add_bos = false;        // where the file has no tokenizer.ggml.add_bos_token

  std::span<const std::string_view> used_patterns() const;
  std::span<const std::string_view> used_byte_patterns() const;
};

std::span<const PreFamily> pre_families();
const PreFamily* find_pre_family(std::string_view name);  // by name or alias; nullptr if unknown
std::string pre_family_names();                           // "default, gpt-2, ...", for messages

}  // namespace orcd::tokenizer
