#include "model/adapters/registry.h"

namespace orcd::model {
namespace {

constexpr Adapter kAdapters[] = {
    {"llama", read_llama},       {"gemma3", read_gemma3}, {"gpt-oss", read_gpt_oss},
    {"qwen3moe", read_qwen3moe}, {"qwen2", read_qwen2},   {"qwen3", read_qwen3},
    {"phi3", read_phi3},         {"gemma2", read_gemma2}, {"granite", read_granite},
    {"smollm3", read_smollm3},   {"gpt2", read_gpt2},     {"starcoder2", read_starcoder2},
    {"gemma", read_gemma},
};

}  // namespace

std::span<const Adapter> adapters() { return kAdapters; }

}  // namespace orcd::model
