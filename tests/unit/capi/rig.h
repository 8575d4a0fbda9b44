// What the tests of the C ABI share: a tiny model, structs that know their size, an answer read to its end.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

#include "orcd/orcd.h"
#include "support/tiny_model_file.h"

namespace orcd::test {

// A result struct, ready for a call.
template <typename T>
T sized() {
  T value{};
  value.struct_size = sizeof(T);
  return value;
}

inline const std::string& tiny_path() {
  static const TinyModelFile file;
  return file.path();
}

inline orcd_model_options model_options(const char* device = "cpu") {
  orcd_model_options options = sized<orcd_model_options>();
  options.path = tiny_path().c_str();
  options.device = device;
  options.n_threads = 1;
  return options;
}

// Tokens of a generation that is still running when the test has done what it does meanwhile.
inline constexpr uint32_t kEndless = 30'000;

// Greedy, and on through every token: as long as it says.
inline orcd_generation_options generation_options(uint32_t max_tokens = 16) {
  orcd_generation_options options;
  EXPECT_EQ(orcd_generation_options_init(&options, sizeof options), ORCD_STATUS_OK);
  options.max_tokens = max_tokens;
  options.temperature = 0;
  options.flags = ORCD_GENERATE_IGNORE_END;
  return options;
}

inline std::string name_of(orcd_status status) {
  const char* name = nullptr;
  orcd_status_name(status, &name);
  return name ? name : "";
}

inline orcd_error last_error(const orcd_context* context = nullptr) {
  orcd_error error = sized<orcd_error>();
  EXPECT_EQ(orcd_last_error(context, &error), ORCD_STATUS_OK);
  return error;
}

// Every match of an expression in the header, for tests that must know all of it.
inline std::vector<std::smatch> in_header(const char* expression) {
  static const std::string text = [] {
    std::ifstream file(ORCD_SOURCE_DIR "/include/orcd/orcd.h");
    return std::string(std::istreambuf_iterator<char>(file), {});
  }();
  const std::regex regex(expression);
  return {std::sregex_iterator(text.begin(), text.end(), regex), std::sregex_iterator()};
}

// A status, with the message when a test fails on it.
#define EXPECT_STATUS(call, expected)                                                    \
  do {                                                                                   \
    const orcd_status expect_status_got = (call);                                        \
    EXPECT_EQ(::orcd::test::name_of(expect_status_got), ::orcd::test::name_of(expected)) \
        << #call << ": " << ::orcd::test::last_error().message;                          \
  } while (false)
#define ASSERT_OK(call) \
  ASSERT_EQ((call), ORCD_STATUS_OK) << #call << ": " << ::orcd::test::last_error().message

// A failed call: its status, and a message and a hint that say something.
#define EXPECT_REFUSED(call, expected)                                  \
  do {                                                                  \
    EXPECT_STATUS(call, expected);                                      \
    const orcd_error expect_refused_error = ::orcd::test::last_error(); \
    EXPECT_EQ(expect_refused_error.status, expected);                   \
    EXPECT_STRNE(expect_refused_error.message, "") << #call;            \
    EXPECT_STRNE(expect_refused_error.hint, "") << #call;               \
  } while (false)

struct Answer {
  std::vector<int32_t> tokens;
  std::string text;
  orcd_status last = ORCD_STATUS_OK;
};

inline Answer read_all(orcd_generation* generation) {
  Answer answer;
  orcd_token token = sized<orcd_token>();
  char text[512];
  size_t n_bytes = 0;
  while ((answer.last = orcd_generation_next_token(generation, ORCD_WAIT_FOREVER, &token, text, sizeof text,
                                                   &n_bytes)) == ORCD_STATUS_OK) {
    if (token.id != ORCD_NO_TOKEN) answer.tokens.push_back(token.id);
    answer.text.append(text, n_bytes);
  }
  return answer;
}

// A context with the tiny model on a device.
class CapiTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(orcd_context_create(&context_));
    const orcd_model_options options = model_options();
    ASSERT_OK(orcd_model_load(context_, &options, &model_));
  }
  void TearDown() override {
    if (context_) {
      EXPECT_STATUS(orcd_context_destroy(context_), ORCD_STATUS_OK);
    }
  }
  orcd_model* load(const orcd_model_options& options) {
    orcd_model* model = nullptr;
    EXPECT_STATUS(orcd_model_load(context_, &options, &model), ORCD_STATUS_OK);
    return model;
  }
  orcd_generation* start(orcd_model* model, const orcd_generation_options& options,
                         const std::string& prompt = "the hen") {
    orcd_generation* generation = nullptr;
    EXPECT_STATUS(orcd_generation_start(model, prompt.data(), prompt.size(), &options, &generation),
                  ORCD_STATUS_OK);
    return generation;
  }
  orcd_generation* start(const orcd_generation_options& options, const std::string& prompt = "the hen") {
    return start(model_, options, prompt);
  }

  orcd_context* context_ = nullptr;
  orcd_model* model_ = nullptr;
};

}  // namespace orcd::test
