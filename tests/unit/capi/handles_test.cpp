// NULL, freed, foreign and damaged handles; who frees whom; one error for each failed call.
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <set>

#include "unit/capi/rig.h"

namespace orcd::test {
namespace {

using Handles = CapiTest;

struct Call {
  const char* name;
  std::function<orcd_status(void* handle)> run;
};

// Every function that takes a handle, with everything else as it should be.
std::vector<Call> calls_of_contexts() {
  static orcd_model_options options = model_options();
  const auto context = [](void* handle) { return static_cast<orcd_context*>(handle); };
  return {
      {"device_count",
       [=](void* h) {
         uint32_t n;
         return orcd_device_count(context(h), &n);
       }},
      {"device_get_info",
       [=](void* h) {
         auto out = sized<orcd_device_info>();
         return orcd_device_get_info(context(h), 0, &out);
       }},
      {"device_get_memory",
       [=](void* h) {
         auto out = sized<orcd_device_memory>();
         return orcd_device_get_memory(context(h), 0, &out);
       }},
      {"device_get_health",
       [=](void* h) {
         auto out = sized<orcd_device_health>();
         return orcd_device_get_health(context(h), 0, &out);
       }},
      {"process_get_memory",
       [=](void* h) {
         auto out = sized<orcd_process_memory>();
         return orcd_process_get_memory(context(h), &out);
       }},
      {"model_plan",
       [=](void* h) {
         auto out = sized<orcd_plan>();
         return orcd_model_plan(context(h), &options, &out);
       }},
      {"model_load",
       [=](void* h) {
         orcd_model* out = nullptr;
         return orcd_model_load(context(h), &options, &out);
       }},
      {"context_destroy", [=](void* h) { return orcd_context_destroy(context(h)); }},
  };
}

std::vector<Call> calls_of_models() {
  static const int32_t id = 5;
  static const orcd_generation_options options = generation_options();
  const auto model = [](void* handle) { return static_cast<orcd_model*>(handle); };
  return {
      {"model_get_info",
       [=](void* h) {
         auto out = sized<orcd_model_info>();
         return orcd_model_get_info(model(h), &out);
       }},
      {"model_get_memory",
       [=](void* h) {
         auto out = sized<orcd_model_memory>();
         return orcd_model_get_memory(model(h), &out);
       }},
      {"model_get_health",
       [=](void* h) {
         auto out = sized<orcd_model_health>();
         return orcd_model_get_health(model(h), &out);
       }},
      {"model_check_residency",
       [=](void* h) {
         auto out = sized<orcd_residency>();
         return orcd_model_check_residency(model(h), &out);
       }},
      {"tokenize",
       [=](void* h) {
         int32_t ids[8];
         size_t n;
         return orcd_tokenize(model(h), "a", 1, 0, ids, 8, &n);
       }},
      {"detokenize",
       [=](void* h) {
         char text[8];
         size_t n;
         return orcd_detokenize(model(h), &id, 1, 0, text, 8, &n);
       }},
      {"generation_start",
       [=](void* h) {
         orcd_generation* out = nullptr;
         return orcd_generation_start(model(h), "a", 1, &options, &out);
       }},
      {"generation_start_tokens",
       [=](void* h) {
         orcd_generation* out = nullptr;
         return orcd_generation_start_tokens(model(h), &id, 1, &options, &out);
       }},
      {"model_unload", [=](void* h) { return orcd_model_unload(model(h)); }},
  };
}

std::vector<Call> calls_of_generations() {
  const auto generation = [](void* handle) { return static_cast<orcd_generation*>(handle); };
  return {
      {"generation_next_token",
       [=](void* h) {
         auto token = sized<orcd_token>();
         char text[64];
         size_t n;
         return orcd_generation_next_token(generation(h), ORCD_WAIT_FOREVER, &token, text, 64, &n);
       }},
      {"generation_cancel", [=](void* h) { return orcd_generation_cancel(generation(h)); }},
      {"generation_get_result",
       [=](void* h) {
         auto out = sized<orcd_generation_result>();
         return orcd_generation_get_result(generation(h), &out);
       }},
      {"generation_free", [=](void* h) { return orcd_generation_free(generation(h)); }},
  };
}

void expect_all_refuse(const std::vector<Call>& calls, void* handle, const std::string& why) {
  for (const Call& call : calls) {
    SCOPED_TRACE(call.name);
    EXPECT_REFUSED(call.run(handle), handle ? ORCD_STATUS_INVALID_HANDLE : ORCD_STATUS_INVALID_ARGUMENT);
    EXPECT_NE(std::string(last_error().message).find(why), std::string::npos) << last_error().message;
  }
}

TEST_F(Handles, TheTablesAndTheFunctionsWithoutAHandleAreTheHeader) {
  std::multiset<std::string> known = {"context_create", "last_error",         "status_name",
                                      "get_version",    "model_options_init", "generation_options_init"};
  for (const auto& calls : {calls_of_contexts(), calls_of_models(), calls_of_generations()})
    for (const Call& call : calls) known.insert(call.name);
  std::multiset<std::string> declared;
  for (const std::smatch& match : in_header("ORCD_API orcd_status orcd_(\\w+)\\(")) declared.insert(match[1]);
  EXPECT_EQ(known, declared);
}

TEST_F(Handles, NullIsRefusedByEveryFunction) {
  expect_all_refuse(calls_of_contexts(), nullptr, "context must not be NULL");
  expect_all_refuse(calls_of_models(), nullptr, "model must not be NULL");
  expect_all_refuse(calls_of_generations(), nullptr, "generation must not be NULL");
}

TEST_F(Handles, OneThatWasFreedIsRefusedByEveryFunction) {
  orcd_generation* generation = start(generation_options());
  EXPECT_STATUS(orcd_generation_free(generation), ORCD_STATUS_OK);
  expect_all_refuse(calls_of_generations(), generation, "it was freed before");
  EXPECT_STATUS(orcd_model_unload(model_), ORCD_STATUS_OK);
  expect_all_refuse(calls_of_models(), model_, "it was freed before");
  EXPECT_STATUS(orcd_context_destroy(context_), ORCD_STATUS_OK);
  expect_all_refuse(calls_of_contexts(), context_, "it was freed before");
  context_ = nullptr;
}

TEST_F(Handles, OneOfAnotherKindIsRefusedByEveryFunction) {
  orcd_generation* generation = start(generation_options());
  expect_all_refuse(calls_of_contexts(), model_, "it is that of a model");
  expect_all_refuse(calls_of_contexts(), generation, "it is that of a generation");
  expect_all_refuse(calls_of_models(), context_, "it is that of a context");
  expect_all_refuse(calls_of_models(), generation, "it is that of a generation");
  expect_all_refuse(calls_of_generations(), context_, "it is that of a context");
  expect_all_refuse(calls_of_generations(), model_, "it is that of a model");
  EXPECT_EQ(read_all(generation).tokens.size(), 16u);  // nothing was freed on the way
}

TEST_F(Handles, NumbersAddressesAndNeighboursNameNothing) {
  int local = 0;
  const auto at = reinterpret_cast<uintptr_t>(context_);
  std::vector<uintptr_t> values = {reinterpret_cast<uintptr_t>(&local), ~uintptr_t{0}, uintptr_t{1} << 63};
  for (uintptr_t n = 1; n < 200; ++n) values.insert(values.end(), {n, at + n, at - n});
  for (const uintptr_t value : values) {
    SCOPED_TRACE(value);
    auto* handle = reinterpret_cast<void*>(value);
    EXPECT_REFUSED(orcd_context_destroy(static_cast<orcd_context*>(handle)), ORCD_STATUS_INVALID_HANDLE);
    EXPECT_REFUSED(orcd_model_unload(static_cast<orcd_model*>(handle)), ORCD_STATUS_INVALID_HANDLE);
    EXPECT_REFUSED(orcd_generation_free(static_cast<orcd_generation*>(handle)), ORCD_STATUS_INVALID_HANDLE);
  }
  EXPECT_EQ(read_all(start(generation_options())).tokens.size(), 16u);
}

TEST_F(Handles, AreNeverGivenOutTwice) {
  std::set<orcd_context*> seen;
  for (int i = 0; i < 2000; ++i) {
    orcd_context* context = nullptr;
    ASSERT_OK(orcd_context_create(&context));
    EXPECT_TRUE(seen.insert(context).second);
    ASSERT_OK(orcd_context_destroy(context));
  }
}

TEST_F(Handles, UnloadingAModelEndsItsGenerationsAndFreesThem) {
  orcd_generation* generation = start(generation_options(kEndless));
  orcd_model* other = load(model_options());
  orcd_generation* of_other = start(other, generation_options());
  EXPECT_STATUS(orcd_model_unload(model_), ORCD_STATUS_OK);
  expect_all_refuse(calls_of_generations(), generation, "it was freed before");
  EXPECT_EQ(read_all(of_other).tokens.size(), 16u);
}

TEST_F(Handles, DestroyingAContextFreesEverythingInIt) {
  orcd_generation* generation = start(generation_options(kEndless));
  auto memory = sized<orcd_process_memory>();
  ASSERT_OK(orcd_process_get_memory(context_, &memory));
  EXPECT_EQ(memory.n_models, 1u);
  EXPECT_GT(memory.device_bytes, 0u);
  ASSERT_OK(orcd_context_destroy(context_));
  expect_all_refuse(calls_of_generations(), generation, "it was freed before");
  expect_all_refuse(calls_of_models(), model_, "it was freed before");
  ASSERT_OK(orcd_context_create(&context_));
  ASSERT_OK(orcd_process_get_memory(context_, &memory));
  EXPECT_EQ(memory.n_models, 0u);
  EXPECT_EQ(memory.device_bytes, 0u);
  EXPECT_EQ(memory.pinned_host_bytes, 0u);
}

// The sanitizers' own locks, unlike malloc's, do not survive a fork beside other threads.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_F(Handles, InAChildOfForkAreRefusedAndTheChildCanExit) {
  const pid_t child = fork();
  if (child == 0) {
    orcd_context* made = nullptr;
    const bool refused = orcd_context_create(&made) == ORCD_STATUS_WRONG_STATE &&
                         orcd_model_unload(model_) == ORCD_STATUS_WRONG_STATE &&
                         orcd_context_destroy(context_) == ORCD_STATUS_WRONG_STATE;
    exit(refused ? 0 : 1);  // with all that a process does at its end
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_all(start(generation_options())).tokens.size(), 16u);
}
#endif

}  // namespace
}  // namespace orcd::test
