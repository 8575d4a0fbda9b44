#include "model/adapters/registry.h"

namespace orcd::model {
namespace {

constexpr Adapter kAdapters[] = {
    {"llama", read_llama},
    {"gemma3", read_gemma3},
    {"gpt-oss", read_gpt_oss},
    {"qwen3moe", read_qwen3moe},
};

}  // namespace

std::span<const Adapter> adapters() { return kAdapters; }

}  // namespace orcd::model
