// The families this build knows: one row for each value of general.architecture.
#pragma once

#include <span>
#include <string_view>

#include "model/adapters/reader.h"

namespace orcd::model {

struct Adapter {
  std::string_view architecture;
  ModelSpec (*read)(const Reader& reader);
};

std::span<const Adapter> adapters();

// One function for each family, defined in its own file.
ModelSpec read_llama(const Reader& reader);
ModelSpec read_gemma3(const Reader& reader);
ModelSpec read_gpt_oss(const Reader& reader);
ModelSpec read_qwen3moe(const Reader& reader);
ModelSpec read_qwen2(const Reader& reader);
ModelSpec read_qwen3(const Reader& reader);
ModelSpec read_phi3(const Reader& reader);
ModelSpec read_gemma(const Reader& reader);
ModelSpec read_gemma2(const Reader& reader);
ModelSpec read_granite(const Reader& reader);
ModelSpec read_smollm3(const Reader& reader);
ModelSpec read_gpt2(const Reader& reader);
ModelSpec read_starcoder2(const Reader& reader);

}  // namespace orcd::model
