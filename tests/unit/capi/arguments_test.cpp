// Pointers, sizes, flags and buffers of each call; struct_size; the last error.
#include <cstring>
#include <thread>

#include "unit/capi/rig.h"

namespace orcd::test {
namespace {

using Arguments = CapiTest;

TEST_F(Arguments, NullResultsAreRefused) {
  const orcd_model_options options = model_options();
  const orcd_generation_options wanted = generation_options();
  auto plan = sized<orcd_plan>();
  auto token = sized<orcd_token>();
  const int32_t id = 5;
  orcd_model* model = nullptr;
  orcd_generation* generation = start(wanted);
  char text[64];
  size_t n = 0;
  const orcd_status bad = ORCD_STATUS_INVALID_ARGUMENT;
  EXPECT_REFUSED(orcd_context_create(nullptr), bad);
  EXPECT_REFUSED(orcd_status_name(ORCD_STATUS_OK, nullptr), bad);
  EXPECT_REFUSED(orcd_last_error(context_, nullptr), bad);
  EXPECT_REFUSED(orcd_last_error(nullptr, nullptr), bad);
  EXPECT_REFUSED(orcd_get_version(nullptr), bad);
  EXPECT_REFUSED(orcd_device_count(context_, nullptr), bad);
  EXPECT_REFUSED(orcd_device_get_info(context_, 0, nullptr), bad);
  EXPECT_REFUSED(orcd_device_get_memory(context_, 0, nullptr), bad);
  EXPECT_REFUSED(orcd_device_get_health(context_, 0, nullptr), bad);
  EXPECT_REFUSED(orcd_process_get_memory(context_, nullptr), bad);
  EXPECT_REFUSED(orcd_model_options_init(nullptr, sizeof options), bad);
  EXPECT_REFUSED(orcd_generation_options_init(nullptr, sizeof wanted), bad);
  EXPECT_REFUSED(orcd_model_plan(context_, nullptr, &plan), bad);
  EXPECT_REFUSED(orcd_model_plan(context_, &options, nullptr), bad);
  EXPECT_REFUSED(orcd_model_load(context_, nullptr, &model), bad);
  EXPECT_REFUSED(orcd_model_load(context_, &options, nullptr), bad);
  EXPECT_REFUSED(orcd_model_get_info(model_, nullptr), bad);
  EXPECT_REFUSED(orcd_model_get_memory(model_, nullptr), bad);
  EXPECT_REFUSED(orcd_model_get_health(model_, nullptr), bad);
  EXPECT_REFUSED(orcd_model_check_residency(model_, nullptr), bad);
  EXPECT_REFUSED(orcd_tokenize(model_, nullptr, 0, 0, nullptr, 0, &n), bad);
  EXPECT_REFUSED(orcd_tokenize(model_, "a", 1, 0, nullptr, 4, &n), bad);
  EXPECT_REFUSED(orcd_tokenize(model_, "a", 1, 0, nullptr, 0, nullptr), bad);
  EXPECT_REFUSED(orcd_detokenize(model_, nullptr, 0, 0, text, 64, &n), bad);
  EXPECT_REFUSED(orcd_detokenize(model_, &id, 1, 0, nullptr, 64, &n), bad);
  EXPECT_REFUSED(orcd_detokenize(model_, &id, 1, 0, text, 64, nullptr), bad);
  EXPECT_REFUSED(orcd_generation_start(model_, nullptr, 0, &wanted, &generation), bad);
  EXPECT_EQ(generation, nullptr);  // a handle that was not made is NULL
  EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, nullptr, &generation), bad);
  EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, &wanted, nullptr), bad);
  EXPECT_REFUSED(orcd_generation_start_tokens(model_, nullptr, 1, &wanted, &generation), bad);
  EXPECT_REFUSED(orcd_generation_start_tokens(model_, &id, 1, nullptr, &generation), bad);
  EXPECT_REFUSED(orcd_generation_start_tokens(model_, &id, 1, &wanted, nullptr), bad);
  generation = start(wanted);
  EXPECT_REFUSED(orcd_generation_next_token(generation, 0, nullptr, text, 64, &n), bad);
  EXPECT_REFUSED(orcd_generation_next_token(generation, 0, &token, nullptr, 64, &n), bad);
  EXPECT_REFUSED(orcd_generation_next_token(generation, 0, &token, text, 64, nullptr), bad);
  EXPECT_REFUSED(orcd_generation_get_result(generation, nullptr), bad);
  EXPECT_EQ(read_all(generation).tokens.size(), 16u);
}

TEST_F(Arguments, LengthsFlagsAndIndicesOutOfRangeAreRefused) {
  const orcd_generation_options wanted = generation_options();
  auto info = sized<orcd_device_info>();
  orcd_generation* generation = nullptr;
  const int32_t ids[2] = {5, 300};
  char text[64];
  size_t n = 0;
  EXPECT_REFUSED(orcd_tokenize(model_, "a", SIZE_MAX, 0, nullptr, 0, &n), ORCD_STATUS_INVALID_ARGUMENT);
  EXPECT_REFUSED(orcd_detokenize(model_, ids, SIZE_MAX, 0, text, 64, &n), ORCD_STATUS_INVALID_ARGUMENT);
  EXPECT_REFUSED(orcd_generation_start(model_, "a", SIZE_MAX, &wanted, &generation),
                 ORCD_STATUS_INVALID_ARGUMENT);
  EXPECT_REFUSED(orcd_tokenize(model_, "a", 1, 4, nullptr, 0, &n), ORCD_STATUS_INVALID_ARGUMENT);
  EXPECT_REFUSED(orcd_detokenize(model_, ids, 1, 2, text, 64, &n), ORCD_STATUS_INVALID_ARGUMENT);
  EXPECT_REFUSED(orcd_device_get_info(context_, 1000, &info), ORCD_STATUS_INVALID_ARGUMENT);
  EXPECT_REFUSED(orcd_detokenize(model_, ids, 2, 0, text, 64, &n), ORCD_STATUS_INVALID_REQUEST);
  orcd_generation_options odd = wanted;
  odd.flags = 1u << 31;
  EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, &odd, &generation), ORCD_STATUS_INVALID_ARGUMENT);
  odd = wanted;
  odd.reserved = 1;
  EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, &odd, &generation), ORCD_STATUS_INVALID_ARGUMENT);
  odd = wanted;
  odd.n_stop = 1;
  EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, &odd, &generation), ORCD_STATUS_INVALID_ARGUMENT);
  const char* const stops[1] = {nullptr};
  odd.stop = stops;
  EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, &odd, &generation), ORCD_STATUS_INVALID_ARGUMENT);
  odd.n_stop = 1u << 30;  // refused before it is followed
  EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, &odd, &generation), ORCD_STATUS_INVALID_REQUEST);
}

TEST_F(Arguments, BuffersThatAreTooSmallTellWhatIsNeededAndStayUntouched) {
  int32_t ids[8] = {-7, -7, -7, -7, -7, -7, -7, -7};
  size_t n = 0;
  EXPECT_REFUSED(orcd_tokenize(model_, "abc", 3, 0, nullptr, 0, &n), ORCD_STATUS_BUFFER_TOO_SMALL);
  ASSERT_GE(n, 3u);
  const size_t needed = n;
  EXPECT_REFUSED(orcd_tokenize(model_, "abc", 3, 0, ids, needed - 1, &n), ORCD_STATUS_BUFFER_TOO_SMALL);
  EXPECT_EQ(n, needed);
  EXPECT_EQ(ids[0], -7);
  EXPECT_STATUS(orcd_tokenize(model_, "abc", 3, 0, ids, needed, &n), ORCD_STATUS_OK);
  EXPECT_EQ(n, needed);
  EXPECT_EQ(ids[needed], -7);
  char text[8] = {'#', '#', '#', '#', '#', '#', '#', '#'};
  EXPECT_REFUSED(orcd_detokenize(model_, ids, needed, 0, text, 3, &n), ORCD_STATUS_BUFFER_TOO_SMALL);
  EXPECT_EQ(n, 3u);
  EXPECT_EQ(text[0], '#');
  EXPECT_STATUS(orcd_detokenize(model_, ids, needed, 0, text, 4, &n), ORCD_STATUS_OK);
  EXPECT_STREQ(text, "abc");
  EXPECT_EQ(text[4], '#');
}

TEST_F(Arguments, ANewCallerOfAnOldLibraryMayNotAskForWhatItDoesNotKnow) {
  struct Newer {
    orcd_model_options known;
    uint64_t later[2];
  } newer = {model_options(), {0, 0}};
  newer.known.struct_size = sizeof newer;
  auto plan = sized<orcd_plan>();
  EXPECT_STATUS(orcd_model_plan(context_, &newer.known, &plan), ORCD_STATUS_OK);
  newer.later[1] = 1;
  EXPECT_REFUSED(orcd_model_plan(context_, &newer.known, &plan), ORCD_STATUS_INVALID_ARGUMENT);
}

TEST_F(Arguments, AnOldCallerOfANewLibraryGetsDefaultsAndNoByteTooMuch) {
  orcd_generation_options options = generation_options();
  options.top_k = 100'000;  // beyond the size that is said: not read
  options.flags = ~0u;
  for (const uint32_t size : {24u, 20u, 16u, 28u}) {
    options.struct_size = size;
    orcd_generation* generation = nullptr;
    SCOPED_TRACE(size);
    EXPECT_STATUS(orcd_generation_start(model_, "a", 1, &options, &generation), ORCD_STATUS_OK);
    EXPECT_STATUS(orcd_generation_free(generation), ORCD_STATUS_OK);
  }
  options.struct_size = 32;
  orcd_generation* generation = nullptr;
  EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, &options, &generation), ORCD_STATUS_INVALID_REQUEST);

  orcd_model_memory memory;
  std::memset(&memory, 0xAB, sizeof memory);
  memory.struct_size = 24;
  EXPECT_STATUS(orcd_model_get_memory(model_, &memory), ORCD_STATUS_OK);
  EXPECT_EQ(memory.struct_size, 24u);
  EXPECT_EQ(memory.total_bytes, memory.planned_bytes);
  EXPECT_EQ(memory.weights_bytes, 0xABABABABABABABAB);
}

TEST_F(Arguments, AResultLongerThanTheLibraryKnowsIsZeroedThere) {
  struct Newer {
    orcd_model_memory known;
    uint64_t later[2];
  } newer;
  std::memset(&newer, 0xAB, sizeof newer);
  newer.known.struct_size = sizeof newer;
  EXPECT_STATUS(orcd_model_get_memory(model_, &newer.known), ORCD_STATUS_OK);
  EXPECT_GT(newer.known.total_bytes, 0u);
  EXPECT_EQ(newer.known.pinned_host_bytes, 0u);
  EXPECT_EQ(newer.later[0] | newer.later[1], 0u);
  EXPECT_EQ(newer.known.struct_size, sizeof newer);
}

TEST_F(Arguments, SizesThatNoStructHasAreRefused) {
  for (const uint32_t size : {0u, 1u, 6u, 4097u, 0xFFFFFFFFu, ORCD_MAX_STRUCT_SIZE + 4}) {
    SCOPED_TRACE(size);
    orcd_model_options options = model_options();
    orcd_generation_options wanted = generation_options();
    orcd_model* model = nullptr;
    orcd_generation* generation = nullptr;
    auto memory = sized<orcd_model_memory>();
    auto error = sized<orcd_error>();
    EXPECT_REFUSED(orcd_model_options_init(&options, size), ORCD_STATUS_INVALID_ARGUMENT);
    EXPECT_REFUSED(orcd_generation_options_init(&wanted, size), ORCD_STATUS_INVALID_ARGUMENT);
    options.struct_size = wanted.struct_size = memory.struct_size = error.struct_size = size;
    EXPECT_REFUSED(orcd_model_load(context_, &options, &model), ORCD_STATUS_INVALID_ARGUMENT);
    EXPECT_REFUSED(orcd_generation_start(model_, "a", 1, &wanted, &generation), ORCD_STATUS_INVALID_ARGUMENT);
    EXPECT_REFUSED(orcd_model_get_memory(model_, &memory), ORCD_STATUS_INVALID_ARGUMENT);
    EXPECT_REFUSED(orcd_last_error(nullptr, &error), ORCD_STATUS_INVALID_ARGUMENT);
    EXPECT_EQ(memory.total_bytes, 0u);
  }
}

TEST(Structs, NoFieldCrossesAUnitOfEightBytes) {
  EXPECT_EQ(sizeof(orcd_model_options), 64u);
  EXPECT_EQ(sizeof(orcd_generation_options), 64u);
  EXPECT_EQ(sizeof(orcd_token), 16u);
  EXPECT_EQ(sizeof(orcd_error), 32u);
  for (const size_t size : {sizeof(orcd_version), sizeof(orcd_device_info), sizeof(orcd_device_memory),
                            sizeof(orcd_device_health), sizeof(orcd_process_memory), sizeof(orcd_plan),
                            sizeof(orcd_model_info), sizeof(orcd_model_memory), sizeof(orcd_model_health),
                            sizeof(orcd_residency), sizeof(orcd_generation_result)})
    EXPECT_EQ(size % 8, 0u);
}

TEST(Errors, EveryStatusHasAName) {
  const std::vector<std::smatch> statuses = in_header("(ORCD_STATUS_\\w+) = (\\d+)");
  EXPECT_EQ(statuses.size(), 22u);
  for (const std::smatch& match : statuses) {
    const char* name = nullptr;
    EXPECT_STATUS(orcd_status_name(std::stoi(match[2]), &name), ORCD_STATUS_OK);
    EXPECT_EQ(name, match[1].str());
  }
  for (const orcd_status status : {-1, 15, 99, 107, 1 << 30}) {
    const char* name = nullptr;
    EXPECT_REFUSED(orcd_status_name(status, &name), ORCD_STATUS_INVALID_ARGUMENT);
    EXPECT_STREQ(name, "ORCD_STATUS_UNKNOWN");
  }
}

TEST(Errors, TheVersionIsTheHeaders) {
  auto version = sized<orcd_version>();
  EXPECT_STATUS(orcd_get_version(&version), ORCD_STATUS_OK);
  EXPECT_EQ(version.major, static_cast<uint32_t>(ORCD_VERSION_MAJOR));
  EXPECT_EQ(version.minor, static_cast<uint32_t>(ORCD_VERSION_MINOR));
  EXPECT_EQ(version.text, std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
                              std::to_string(version.patch));
  EXPECT_EQ(version.numerics_version, 1u);
}

TEST(Errors, BelongToTheThreadThatFailed) {
  EXPECT_REFUSED(orcd_context_create(nullptr), ORCD_STATUS_INVALID_ARGUMENT);
  const std::string here = last_error().message;
  std::thread([&] {
    EXPECT_EQ(last_error().status, ORCD_STATUS_OK);
    EXPECT_STREQ(last_error().message, "");
    EXPECT_STREQ(last_error().hint, "");
    EXPECT_REFUSED(orcd_get_version(nullptr), ORCD_STATUS_INVALID_ARGUMENT);
    EXPECT_NE(last_error().message, here);
  }).join();
  EXPECT_EQ(last_error().message, here);
}

TEST(Errors, OfOneContextAreNotThoseOfAnother) {
  orcd_context *first = nullptr, *second = nullptr;
  ASSERT_OK(orcd_context_create(&first));
  ASSERT_OK(orcd_context_create(&second));
  auto info = sized<orcd_device_info>();
  EXPECT_REFUSED(orcd_device_get_info(first, 1000, &info), ORCD_STATUS_INVALID_ARGUMENT);
  EXPECT_EQ(last_error(first).status, ORCD_STATUS_INVALID_ARGUMENT);
  EXPECT_EQ(last_error(second).status, ORCD_STATUS_OK);
  EXPECT_EQ(last_error(nullptr).status, ORCD_STATUS_INVALID_ARGUMENT);
  uint32_t n = 0;
  EXPECT_STATUS(orcd_device_count(first, &n), ORCD_STATUS_OK);  // what succeeds leaves it
  EXPECT_EQ(last_error(first).status, ORCD_STATUS_INVALID_ARGUMENT);
  EXPECT_STATUS(orcd_context_destroy(first), ORCD_STATUS_OK);
  EXPECT_REFUSED(orcd_context_destroy(first), ORCD_STATUS_INVALID_HANDLE);
  EXPECT_EQ(last_error(first).status, ORCD_STATUS_INVALID_HANDLE);  // of a context that is gone
  EXPECT_STATUS(orcd_context_destroy(second), ORCD_STATUS_OK);
}

}  // namespace
}  // namespace orcd::test
