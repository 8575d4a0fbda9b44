#include "gguf/part.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "base/units.h"
#include "gguf/reader.h"
#include "gguf/values.h"

namespace orcd::gguf {
namespace {

// Enough for the metadata of most models, so that they are read once.
constexpr uint64_t kFirstReadBytes = 2 * kMiB;
// Smallest encodings: key (length and one byte), type, value; name, n_dims, one dimension, type, offset.
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
constexpr uint32_t kMagic = 0x46554747;  // "GGUF"

// What people really give by mistake, by its first bytes.
std::string magic_hint(uint32_t magic) {
  switch (magic) {
    case 0x67676d6c:
    case 0x67676d66:
    case 0x67676a74:
      return "this is a GGML file from before GGUF: convert the model again";
    case 0x04034b50:
      return "this is a zip archive (a PyTorch checkpoint?): convert the model to GGUF";
    case 0x73726576:
      return "this is a Git LFS pointer, not the model: run git lfs pull";
    case 0x4f44213c:
    case 0x6f64213c:
    case 0x6d74683c:
      return "this is a web page: download the file itself";
    case 0x587a37fd:
      return "this is an xz archive: unpack it first";
    case 0x47475546:
      return "the magic is byte-swapped: big-endian files are not supported, convert the model again";
  }
  return "this is not a GGUF file";
}

struct Counts {
  uint64_t n_tensors;
  uint64_t n_entries;
};

Counts read_header(Reader& reader, Part& part) {
  const auto magic = reader.scalar<uint32_t>({"magic"});
  if (magic != kMagic) reader.refuse_at(0, {"magic"}, "the file does not start with GGUF", magic_hint(magic));
  part.version = reader.scalar<uint32_t>({"version"});
  const uint32_t swapped = __builtin_bswap32(part.version);
  if (part.version > 0xFFFF && swapped >= 1 && swapped <= 0xFFFF) {
    reader.refuse_at(4, {"version"}, "the file is big-endian (version " + std::to_string(swapped) + ")",
                     "only little-endian files are supported: convert the model again for this machine");
  }
  if (part.version == 1) {
    reader.refuse_at(4, {"version"}, "GGUF version 1 is not supported (2 and 3 are)",
                     "convert the model again");
  }
  if (part.version != 2 && part.version != 3) {
    reader.refuse_at(4, {"version"},
                     "GGUF version " + std::to_string(part.version) + " is not supported (2 and 3 are)");
  }
  const auto n_tensors = reader.scalar<uint64_t>({"tensor_count"});
  const auto n_entries = reader.scalar<uint64_t>({"metadata_kv_count"});
  if (n_tensors > reader.remaining() / kMinTensorBytes) {
    reader.refuse_at(8, {"tensor_count"},
                     "claims " + std::to_string(n_tensors) + " tensors, more than the file can hold");
  }
  if (n_entries > reader.remaining() / kMinEntryBytes) {
    reader.refuse_at(16, {"metadata_kv_count"},
                     "claims " + std::to_string(n_entries) + " entries, more than the file can hold");
  }
  return {n_tensors, n_entries};
}

void read_entry(Reader& reader, Part& part, uint64_t index) {
  MetadataEntry entry{};
  entry.offset = reader.offset();
  entry.key = reader.string({"metadata", index, "key"}, kMaxKeyBytes);
  if (entry.key.empty()) reader.refuse_at(entry.offset, {"metadata", index, "key"}, "is empty");
  const auto earlier = part.keys.insert(entry.key, static_cast<uint32_t>(index));
  if (earlier) {
    reader.refuse_at(
        entry.offset, {entry.key},
        "the key appears twice (first at offset " + std::to_string(part.metadata[*earlier].offset) + ")");
  }
  entry.type = read_value_type(reader, {entry.key});
  entry.value_offset = reader.offset();
  entry.value = read_value(reader, entry.type, {entry.key});
  part.metadata.push_back(std::move(entry));
}

uint64_t read_alignment(const Reader& reader, const Part& part) {
  const MetadataEntry* entry = part.find("general.alignment");
  if (entry == nullptr) return kDefaultAlignment;
  const auto* value = std::get_if<uint64_t>(&entry->value);
  if (value == nullptr) {
    reader.refuse_at(entry->value_offset, {entry->key},
                     "is of type " + std::string(value_type_name(entry->type)) + ", not an unsigned integer");
  }
  if (!std::has_single_bit(*value) || *value % 8 != 0) {
    reader.refuse_at(entry->value_offset, {entry->key},
                     "is " + std::to_string(*value) + ", not a power of two and a multiple of 8");
  }
  return *value;
}

// Elements and bytes of the tensor; refuses what no tensor can have.
void check_shape(const Reader& reader, TensorInfo& tensor) {
  uint64_t n_elements = 1;
  for (uint32_t dim = 0; dim < tensor.n_dims; ++dim) {
    const Field field{tensor.name, Field::kNoIndex, "dims"};
    if (tensor.dims[dim] == 0) {
      reader.refuse_at(dim_field_offset(tensor, dim), field, "dimension " + std::to_string(dim) + " is zero");
    }
    const auto product = checked_mul(n_elements, tensor.dims[dim]);
    if (!product || *product > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      reader.refuse_at(dim_field_offset(tensor, dim), field,
                       "dimension " + std::to_string(dim) + " is " + std::to_string(tensor.dims[dim]) +
                           ": the number of elements does not fit in 63 bits");
    }
    n_elements = *product;
  }
  const FormatInfo* format = find_format(tensor.type);
  if (format == nullptr) {
    reader.refuse_at(type_field_offset(tensor), {tensor.name, Field::kNoIndex, "type"},
                     "tensor type " + std::to_string(static_cast<uint32_t>(tensor.type)) + " does not exist");
  }
  if (tensor.dims[0] % format->block_elements != 0) {
    reader.refuse_at(dim_field_offset(tensor, 0), {tensor.name, Field::kNoIndex, "dims"},
                     "rows of " + std::to_string(tensor.dims[0]) + " elements are not whole " +
                         std::string(format->name) + " blocks of " + std::to_string(format->block_elements));
  }
  const auto n_bytes = checked_mul(n_elements / format->block_elements, format->block_bytes);
  if (!n_bytes) {
    reader.refuse_at(dim_field_offset(tensor, 0), {tensor.name, Field::kNoIndex, "dims"},
                     "the number of bytes does not fit in 64 bits");
  }
  tensor.n_bytes = *n_bytes;
}

void read_tensor(Reader& reader, Part& part, uint64_t index, uint32_t part_index) {
  TensorInfo tensor{};
  tensor.info_offset = reader.offset();
  tensor.part = part_index;
  tensor.name = reader.string({"tensor", index, "name"}, kMaxTensorNameBytes);
  if (tensor.name.empty()) reader.refuse_at(tensor.info_offset, {"tensor", index, "name"}, "is empty");
  const auto earlier = part.tensor_names.insert(tensor.name, static_cast<uint32_t>(index));
  if (earlier) {
    reader.refuse_at(tensor.info_offset, {tensor.name},
                     "the tensor name appears twice (first at offset " +
                         std::to_string(part.tensors[*earlier].info_offset) + ")");
  }
  const uint64_t n_dims_offset = reader.offset();
  const Field n_dims_field{tensor.name, Field::kNoIndex, "n_dims"};
  tensor.n_dims = reader.scalar<uint32_t>(n_dims_field);
  if (tensor.n_dims == 0 || tensor.n_dims > kMaxDims) {
    reader.refuse_at(n_dims_offset, n_dims_field, "is " + std::to_string(tensor.n_dims) + ", not 1 to 4");
  }
  std::fill(tensor.dims, tensor.dims + kMaxDims, uint64_t{1});
  for (uint32_t dim = 0; dim < tensor.n_dims; ++dim) {
    tensor.dims[dim] = reader.scalar<uint64_t>({tensor.name, Field::kNoIndex, "dims"});
  }
  tensor.type = static_cast<TensorType>(reader.scalar<uint32_t>({tensor.name, Field::kNoIndex, "type"}));
  tensor.offset = reader.scalar<uint64_t>({tensor.name, Field::kNoIndex, "offset"});
  check_shape(reader, tensor);
  part.tensors.push_back(tensor);
}

// Turns offsets into absolute ones and holds them to the file: aligned, inside, apart from each other.
void place_tensors(const Reader& reader, Part& part, uint64_t alignment) {
  if (part.tensors.empty()) return;
  const uint64_t file_bytes = part.source->n_bytes();
  const uint64_t data_start = align_up(reader.offset(), alignment);
  for (TensorInfo& tensor : part.tensors) {
    const Field field{tensor.name, Field::kNoIndex, "offset"};
    if (tensor.offset % alignment != 0) {
      reader.refuse_at(
          data_field_offset(tensor), field,
          std::to_string(tensor.offset) + " is not a multiple of the alignment " + std::to_string(alignment));
    }
    const auto start = checked_add(data_start, tensor.offset);
    const auto end = start ? checked_add(*start, tensor.n_bytes) : std::nullopt;
    if (!end || *end > file_bytes) {
      reader.refuse_at(data_field_offset(tensor), field,
                       "data of " + std::to_string(tensor.n_bytes) + " bytes at " +
                           std::to_string(tensor.offset) + " after offset " + std::to_string(data_start) +
                           " ends outside the file of " + std::to_string(file_bytes) + " bytes",
                       "the file is truncated or damaged: download it again");
    }
    tensor.offset = *start;
  }
  std::vector<uint32_t> order(part.tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(part.tensors[a].offset, a) < std::pair(part.tensors[b].offset, b);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorInfo& before = part.tensors[order[i - 1]];
    const TensorInfo& after = part.tensors[order[i]];
    if (before.offset + before.n_bytes > after.offset) {
      reader.refuse_at(data_field_offset(after), {after.name, Field::kNoIndex, "offset"},
                       "its data overlaps that of another tensor",
                       "the other tensor is " + Field{before.name}.text());
    }
  }
}

void parse_prefix(Part& part, uint32_t part_index) {
  Reader reader(part.bytes, part.source->n_bytes(), part.source->name());
  const Counts counts = read_header(reader, part);
  // Metadata first: its size says nothing about the number of tensors, and the file's size bounds both.
  for (uint64_t i = 0; i < counts.n_entries; ++i) read_entry(reader, part, i);
  const uint64_t alignment = read_alignment(reader, part);
  for (uint64_t i = 0; i < counts.n_tensors; ++i) read_tensor(reader, part, i, part_index);
  place_tensors(reader, part, alignment);
}

void fill(Part& part, uint64_t n_bytes) {
  if (!part.source->in_memory().empty()) {
    part.bytes = part.source->in_memory();
    return;
  }
  const uint64_t have = part.owned.size();
  part.owned.resize(n_bytes);
  const std::span<uint8_t> rest = std::span(part.owned).subspan(have);
  if (part.source->read(have, rest) != rest.size()) {
    refuse(part.source->name(), "file", have, "the file was truncated while it was read");
  }
  part.bytes = part.owned;
}

}  // namespace

uint64_t dim_field_offset(const TensorInfo& tensor, uint32_t dim) {
  return tensor.info_offset + 8 + tensor.name.size() + 4 + 8 * uint64_t{dim};
}
uint64_t type_field_offset(const TensorInfo& tensor) { return dim_field_offset(tensor, tensor.n_dims); }
uint64_t data_field_offset(const TensorInfo& tensor) { return type_field_offset(tensor) + 4; }

std::unique_ptr<Part> parse_part(std::unique_ptr<Source> source, uint32_t part_index) {
  auto part = std::make_unique<Part>();
  part->source = std::move(source);
  const uint64_t file_bytes = part->source->n_bytes();
  uint64_t n_bytes = std::min(file_bytes, kFirstReadBytes);
  // A header longer than what was read is parsed again from the start: a fixed factor in all, since reads
  // grow fourfold.
  while (true) {
    fill(*part, n_bytes);
    part->metadata.clear();
    part->keys = StringIndex();
    part->tensors.clear();
    part->tensor_names = StringIndex();
    try {
      parse_prefix(*part, part_index);
      return part;
    } catch (const NeedMoreBytes& need) {
      n_bytes = std::min(file_bytes, std::max(need.n_bytes, 4 * n_bytes));
    }
  }
}

}  // namespace orcd::gguf
