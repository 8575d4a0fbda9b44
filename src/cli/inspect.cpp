#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "gguf/validate.h"

namespace orcd::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kShownElements = 8;   // of an array, in the table
constexpr size_t kShownCharacters = 80;  // of a string, in the table

const char* type_name(gguf::ValueType type) {
  static constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<uint32_t>(type)];
}

Json element_json(const gguf::Array& array, uint64_t i) {
  switch (array.element_type) {
    case gguf::ValueType::kString:
      return std::string(array.strings[i]);
    case gguf::ValueType::kBool:
      return array.as_bool(i);
    case gguf::ValueType::kF32:
    case gguf::ValueType::kF64:
      return array.as_double(i);
    case gguf::ValueType::kArray:
      return nullptr;
    default:
      return array.as_int(i);
  }
}

// Arrays in full for JSON; `most` elements for the table.
Json value_json(const gguf::Value& value, uint64_t most) {
  return std::visit(
      [&](const auto& v) -> Json {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, gguf::Array>) {
          Json list = Json::array();
          for (uint64_t i = 0; i < std::min(v.size, most); ++i) list.push_back(element_json(v, i));
          return list;
        } else if constexpr (std::is_same_v<T, std::string_view>) {
          return std::string(v);
        } else {
          return v;
        }
      },
      value);
}

std::string dump(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string cell(const gguf::MetadataEntry& entry) {
  std::string text = dump(value_json(entry.value, kShownElements));
  if (const auto* array = std::get_if<gguf::Array>(&entry.value); array && array->size > kShownElements)
    text = text.substr(0, text.size() - 1) + ", ...] " + std::to_string(array->size) + " of " +
           type_name(array->element_type);
  if (text.size() <= kShownCharacters || std::holds_alternative<gguf::Array>(entry.value)) return text;
  size_t cut = kShownCharacters;
  while (cut > 0 && (text[cut] & 0xC0) == 0x80) --cut;
  return text.substr(0, cut) + "... " + std::to_string(text.size()) + " bytes";
}

Json dims_json(const gguf::TensorInfo& tensor) {
  Json dims = Json::array();
  for (uint32_t d = 0; d < tensor.n_dims; ++d) dims.push_back(tensor.dims[d]);
  return dims;
}

uint64_t n_parameters(const gguf::File& file) {
  uint64_t n = 0;
  for (const gguf::TensorInfo& tensor : file.tensors()) n += tensor.n_elements();
  return n;
}

Json summary(const gguf::File& file) {
  Json json = {{"file", file.path()},
               {"gguf_version", file.version()},
               {"bytes", file.n_bytes()},
               {"n_metadata", file.metadata().size()},
               {"n_tensors", file.tensors().size()},
               {"parameters", n_parameters(file)}};
  const std::string architecture(file.get_string("general.architecture").value_or(""));
  json["architecture"] = architecture;
  json["name"] = std::string(file.get_string("general.name").value_or(""));
  json["quant_kind"] = quant_kind(file);
  for (const char* key : {"context_length", "block_count", "embedding_length", "feed_forward_length"}) {
    const gguf::MetadataEntry* entry = file.find(architecture + "." + key);
    if (entry) json[key] = value_json(entry->value, UINT64_MAX);
  }
  json["tokenizer"] = std::string(file.get_string("tokenizer.ggml.model").value_or(""));
  if (const gguf::Array* tokens = file.get_array("tokenizer.ggml.tokens")) json["vocab_size"] = tokens->size;
  return json;
}

Json report(const gguf::File& file, const Options& o) {
  Json json = summary(file);
  const bool everything = !o.show_program && !o.show_tensors && !o.show_metadata;
  if (o.show_metadata || everything) {
    Json metadata;
    for (const auto& entry : file.metadata())
      metadata[std::string(entry.key)] = value_json(entry.value, UINT64_MAX);
    json["metadata"] = std::move(metadata);
  }
  if (o.show_tensors || everything) {
    Json tensors = Json::array();
    for (const auto& tensor : file.tensors())
      tensors.push_back({{"name", std::string(tensor.name)},
                         {"type", tensor_type_name(tensor.type)},
                         {"dims", dims_json(tensor)},
                         {"bytes", tensor.n_bytes},
                         {"offset", tensor.offset},
                         {"part", tensor.part}});
    json["tensors"] = std::move(tensors);
  }
  return json;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// Of an untrusted file: what would move a terminal's cursor is shown as "?".
std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (moves_cursor(c)) c = '?';
  return out;
}

void print_table(const gguf::File& file, const Options& o) {
  const Json facts = summary(file);
  for (const auto& [name, value] : facts.items())
    std::printf("%-20s %s\n", name.c_str(),
                value.is_string() ? printable(value.get<std::string>()).c_str() : dump(value).c_str());
  if (o.show_metadata) {
    std::printf("\n");
    for (const auto& entry : file.metadata())
      std::printf("%-48s %-7s %s\n", printable(entry.key).c_str(), type_name(entry.type),
                  cell(entry).c_str());
  }
  if (o.show_tensors) {
    std::printf("\n");
    for (const auto& tensor : file.tensors())
      std::printf("%-40s %-8s %-24s %14llu\n", printable(tensor.name).c_str(),
                  tensor_type_name(tensor.type).c_str(), dump(dims_json(tensor)).c_str(),
                  static_cast<unsigned long long>(tensor.n_bytes));
  }
}

}  // namespace

int inspect(const Options& options) {
  const auto file = gguf::File::open(options.model);
  std::string program;
  if (options.show_program) {
    gguf::validate(*file);
    program = model::to_text(model::lower(model::read_spec(file)));
  }
  if (options.json) {
    Json json = report(*file, options);
    if (options.show_program) json["program"] = lines_of(program);
    std::printf("%s\n", dump(json, 2).c_str());
    return 0;
  }
  print_table(*file, options);
  if (options.show_program) std::printf("\n%s", program.c_str());
  return 0;
}

}  // namespace orcd::cli
