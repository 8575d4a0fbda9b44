// Plans, loads, memory, health, residency, text: through the C ABI.
#include <fstream>

#include "unit/capi/rig.h"

namespace orcd::test {
namespace {

using Models = CapiTest;

uint64_t sum_of(const auto& s) {
  return s.weights_bytes + s.kv_bytes + s.activations_bytes + s.sampling_bytes + s.staging_bytes +
         s.graphs_bytes;
}

TEST_F(Models, ThePlanIsWhatLoadingTakesToTheByte) {
  auto plan = sized<orcd_plan>();
  const orcd_model_options options = model_options();
  ASSERT_OK(orcd_model_plan(context_, &options, &plan));
  auto memory = sized<orcd_model_memory>();
  ASSERT_OK(orcd_model_get_memory(model_, &memory));
  EXPECT_EQ(plan.fits, 1u);
  EXPECT_GT(plan.weights_bytes, 50'000u);
  EXPECT_GT(plan.kv_bytes, 0u);
  EXPECT_EQ(plan.total_bytes, sum_of(plan));
  EXPECT_EQ(memory.total_bytes, plan.total_bytes);
  EXPECT_EQ(memory.planned_bytes, plan.total_bytes);
  EXPECT_EQ(sum_of(memory), plan.total_bytes);
  EXPECT_EQ(memory.kv_bytes, plan.kv_bytes);
  EXPECT_EQ(plan.context_tokens, kTinyContext);
  EXPECT_EQ(plan.max_context_tokens, kTinyContext);
  EXPECT_EQ(plan.n_slots, 4u);
}

TEST_F(Models, ABudgetOfThePlanIsEnoughAndOneByteLessIsNot) {
  auto plan = sized<orcd_plan>();
  orcd_model_options options = model_options();
  options.context_tokens = 512;
  ASSERT_OK(orcd_model_plan(context_, &options, &plan));
  options.budget_bytes = plan.total_bytes;
  orcd_model* model = load(options);
  auto memory = sized<orcd_model_memory>();
  ASSERT_OK(orcd_model_get_memory(model, &memory));
  EXPECT_EQ(memory.total_bytes, options.budget_bytes);
  options.budget_bytes -= 1;
  model = reinterpret_cast<orcd_model*>(1);
  EXPECT_REFUSED(orcd_model_load(context_, &options, &model), ORCD_STATUS_INSUFFICIENT_VRAM);
  EXPECT_EQ(model, nullptr);
  EXPECT_NE(std::string(last_error().message).find("required=" + std::to_string(plan.total_bytes)),
            std::string::npos);
  ASSERT_OK(orcd_model_plan(context_, &options, &plan));
  EXPECT_EQ(plan.fits, 0u);
  EXPECT_EQ(plan.available_bytes, options.budget_bytes);
  EXPECT_EQ(plan.max_context_tokens, 448u);
}

TEST_F(Models, WhatCannotBeLoadedIsNamed) {
  orcd_model* model = nullptr;
  const auto refused = [&](const orcd_model_options& options, orcd_status status, const std::string& part) {
    EXPECT_REFUSED(orcd_model_load(context_, &options, &model), status);
    EXPECT_NE(std::string(last_error(context_).message).find(part), std::string::npos)
        << last_error().message;
    auto plan = sized<orcd_plan>();
    EXPECT_REFUSED(orcd_model_plan(context_, &options, &plan), status);
  };
  orcd_model_options options = model_options();
  options.path = "/no/such/file.gguf";
  refused(options, ORCD_STATUS_MODEL_LOAD_FAILED, "/no/such/file.gguf");
  options.path = nullptr;
  refused(options, ORCD_STATUS_INVALID_ARGUMENT, "options.path must be given");
  options = model_options();
  options.device = nullptr;
  refused(options, ORCD_STATUS_INVALID_ARGUMENT, "options.device must be given");
  options.device = "";
  refused(options, ORCD_STATUS_INVALID_ARGUMENT, "options.device must be given");
  options.device = "tpu:0";
  refused(options, ORCD_STATUS_INVALID_REQUEST, "tpu:0");
  options.device = "cuda:9999";
  refused(options, ORCD_STATUS_CUDA_ERROR, "cuda:9999");
  options = model_options();
  options.context_tokens = kTinyContext + 1;
  refused(options, ORCD_STATUS_INVALID_REQUEST, "ctx=32769");
  options = model_options();
  options.n_threads = 100'000;
  refused(options, ORCD_STATUS_INVALID_REQUEST, "threads=100000");
  options = model_options();
  options.kv_cache_bytes = 1;
  refused(options, ORCD_STATUS_INVALID_REQUEST, "kv_cache_bytes=1");
  for (const uint32_t n_slots : {4097u, 0xFFFFFFFFu}) {
    options = model_options();
    options.n_slots = n_slots;
    refused(options, ORCD_STATUS_INVALID_REQUEST, "slots=" + std::to_string(n_slots));
  }
  options = model_options();
  options.batch_tokens = 65537;
  refused(options, ORCD_STATUS_INVALID_REQUEST, "batch_tokens=65537");
  options = model_options();
  options.device = "tpu\xFF\xC3";
  refused(options, ORCD_STATUS_INVALID_REQUEST, "device=tpu?\?)");
  options = model_options();
  options.kv_cache_bytes = UINT64_MAX;
  EXPECT_REFUSED(orcd_model_load(context_, &options, &model), ORCD_STATUS_INSUFFICIENT_VRAM);
  EXPECT_EQ(std::string(last_error().hint).rfind("lower --kv-cache-size-mb", 0), 0u) << last_error().hint;
  const std::string broken = tiny_path() + ".broken";
  std::ofstream(broken) << "GGUF nonsense";
  options = model_options();
  options.path = broken.c_str();
  refused(options, ORCD_STATUS_MODEL_LOAD_FAILED, broken);
}

TEST_F(Models, AFailedLoadLeavesNothingBehind) {
  auto before = sized<orcd_process_memory>(), after = before;
  ASSERT_OK(orcd_process_get_memory(context_, &before));
  const orcd_model_options options = model_options("fault:load:1:always:cpu");
  orcd_model* model = nullptr;
  EXPECT_REFUSED(orcd_model_load(context_, &options, &model), ORCD_STATUS_CUDA_ERROR);
  ASSERT_OK(orcd_process_get_memory(context_, &after));
  EXPECT_EQ(after.device_bytes, before.device_bytes);
  EXPECT_EQ(after.n_models, 1u);
}

TEST_F(Models, TellWhatTheyAre) {
  auto info = sized<orcd_model_info>();
  ASSERT_OK(orcd_model_get_info(model_, &info));
  EXPECT_STREQ(info.name, "tiny");
  EXPECT_STREQ(info.architecture, "llama");
  EXPECT_STREQ(info.quant_kind, "Q4_1");
  EXPECT_STREQ(info.tokenizer_kind, "gguf-spm");
  EXPECT_STREQ(info.device, "cpu");
  EXPECT_EQ(info.vocab_size, 300u);
  EXPECT_EQ(info.trained_context_tokens, kTinyContext);
  EXPECT_EQ(info.context_tokens, kTinyContext);
  EXPECT_EQ(info.bos_token, 1);
  EXPECT_EQ(info.eos_token, 2);
  EXPECT_EQ(std::string(info.digest).size(), 32u);
}

TEST_F(Models, DevicesAreListedAndTellTheirMemoryAndHealth) {
  uint32_t n = 0;
  ASSERT_OK(orcd_device_count(context_, &n));
  ASSERT_GE(n, 1u);
  auto info = sized<orcd_device_info>();
  ASSERT_OK(orcd_device_get_info(context_, 0, &info));
  EXPECT_STREQ(info.name, "cpu");
  EXPECT_EQ(info.usable, 1u);
  EXPECT_GE(info.n_threads, 1u);
  EXPECT_STRNE(info.isa, "");
  EXPECT_GT(info.total_bytes, info.free_bytes);
  auto memory = sized<orcd_device_memory>();
  auto of_model = sized<orcd_model_memory>();
  ASSERT_OK(orcd_device_get_memory(context_, 0, &memory));
  ASSERT_OK(orcd_model_get_memory(model_, &of_model));
  EXPECT_EQ(memory.n_models, 1u);
  EXPECT_EQ(memory.models_bytes, of_model.total_bytes);
  EXPECT_EQ(memory.total_bytes, info.total_bytes);
  EXPECT_GT(memory.free_bytes, 0u);
  auto health = sized<orcd_device_health>();
  ASSERT_OK(orcd_device_get_health(context_, 0, &health));
  EXPECT_EQ(health.healthy, 1u);
  EXPECT_EQ(health.n_models, 1u);
  EXPECT_EQ(health.n_failed, 0u);
  EXPECT_STREQ(health.reason, "");
  auto process = sized<orcd_process_memory>();
  ASSERT_OK(orcd_process_get_memory(context_, &process));
  EXPECT_GT(process.resident_bytes, 1u << 20);
  EXPECT_GE(process.peak_resident_bytes, process.resident_bytes);
  EXPECT_GT(process.virtual_bytes, process.resident_bytes);
  EXPECT_EQ(process.device_bytes, of_model.total_bytes);
}

TEST_F(Models, ResidencyHoldsAndGivesTheModelsDigest) {
  auto residency = sized<orcd_residency>();
  auto info = sized<orcd_model_info>();
  ASSERT_OK(orcd_model_check_residency(model_, &residency));
  ASSERT_OK(orcd_model_get_info(model_, &info));
  EXPECT_EQ(residency.resident, 1u);
  EXPECT_STREQ(residency.pointer_type, "host");
  EXPECT_STREQ(residency.digest, info.digest);
  EXPECT_STREQ(residency.expected_digest, info.digest);
  EXPECT_STREQ(residency.first_mismatch, "");
  EXPECT_GT(residency.checked_bytes, 50'000u);
}

// The engine asks once at its start.
TEST_F(Models, AFlippedBitIsFoundAndTheModelTakesNoMoreWork) {
  orcd_model* model = load(model_options("fault:residency:2:flipped:cpu"));
  auto residency = sized<orcd_residency>();
  ASSERT_OK(orcd_model_check_residency(model, &residency));
  EXPECT_EQ(residency.resident, 0u);
  EXPECT_STRNE(residency.digest, residency.expected_digest);
  EXPECT_STRNE(residency.first_mismatch, "");
  orcd_generation* generation = nullptr;
  const orcd_generation_options options = generation_options();
  EXPECT_REFUSED(orcd_generation_start(model, "a", 1, &options, &generation), ORCD_STATUS_INTERNAL);
  auto health = sized<orcd_model_health>();
  ASSERT_OK(orcd_model_get_health(model, &health));
  EXPECT_EQ(health.healthy, 0u);
  EXPECT_NE(std::string(health.reason).find(residency.first_mismatch), std::string::npos);
  EXPECT_EQ(read_all(start(options)).tokens.size(), 16u);  // the other model is not concerned
}

TEST_F(Models, ALostDeviceEndsItsGenerationsAndIsTold) {
  orcd_model* model = load(model_options("fault:collect:4:lost:cpu"));
  orcd_generation* generation = start(model, generation_options());
  const Answer answer = read_all(generation);
  EXPECT_EQ(answer.tokens.size(), 3u);
  EXPECT_REFUSED(answer.last, ORCD_STATUS_CUDA_ERROR);
  EXPECT_EQ(last_error(context_).retriable, 1u);
  auto result = sized<orcd_generation_result>();
  EXPECT_REFUSED(orcd_generation_get_result(generation, &result), ORCD_STATUS_CUDA_ERROR);
  const orcd_generation_options options = generation_options();
  EXPECT_REFUSED(orcd_generation_start(model, "a", 1, &options, &generation), ORCD_STATUS_CUDA_ERROR);
  auto health = sized<orcd_model_health>();
  ASSERT_OK(orcd_model_get_health(model, &health));
  EXPECT_EQ(health.healthy, 0u);
  EXPECT_EQ(health.n_failed, 1u);
  EXPECT_STRNE(health.reason, "");
  EXPECT_STATUS(orcd_model_unload(model), ORCD_STATUS_OK);
}

TEST_F(Models, TextGoesToTokensAndBack) {
  const std::string text = "he said h\xC3\xA9\n";
  int32_t ids[64];
  size_t n = 0;
  ASSERT_OK(orcd_tokenize(model_, text.data(), text.size(), ORCD_TOKENIZE_BOS, ids, 64, &n));
  ASSERT_GT(n, 4u);
  EXPECT_EQ(ids[0], 1);
  char back[64];
  size_t n_bytes = 0;
  ASSERT_OK(orcd_detokenize(model_, ids, n, 0, back, sizeof back, &n_bytes));
  EXPECT_EQ(std::string(back, n_bytes), text);
  EXPECT_EQ(back[n_bytes], '\0');
  ASSERT_OK(orcd_detokenize(model_, ids, 1, ORCD_DETOKENIZE_SPECIAL, back, sizeof back, &n_bytes));
  EXPECT_STREQ(back, "<s>");
  ASSERT_OK(orcd_tokenize(model_, "</s>", 4, ORCD_TOKENIZE_SPECIAL, ids, 64, &n));
  EXPECT_EQ(n, 1u);
  EXPECT_EQ(ids[0], 2);
  ASSERT_OK(orcd_tokenize(model_, "", 0, 0, nullptr, 0, &n));
  EXPECT_EQ(n, 0u);
}

}  // namespace
}  // namespace orcd::test
