// orcd.hpp: orcd.h for C++17. Handles that free themselves, errors as exceptions, text as std::string.
//
// Everything may be used from any thread. A Generation keeps its Model alive, a Model its Context, so that
// they can be destroyed in any order. Moved-from objects may only be destroyed or assigned to.
#ifndef ORCD_ORCD_HPP
#define ORCD_ORCD_HPP

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orcd/orcd.h"

namespace orcd::abi {

// A call that failed: its status, what() = message, hint, and whether trying again can help.
class Error : public std::runtime_error {
 public:
  Error(orcd_status status, const std::string& message, std::string hint, bool retriable)
      : std::runtime_error(message), status_(status), hint_(std::move(hint)), retriable_(retriable) {}
  orcd_status status() const noexcept { return status_; }
  const std::string& hint() const noexcept { return hint_; }
  bool retriable() const noexcept { return retriable_; }

 private:
  orcd_status status_;
  std::string hint_;
  bool retriable_;
};

// A struct that says its size.
template <typename T>
T sized() {
  T value{};
  value.struct_size = sizeof(T);
  return value;
}

// Throws the error of the call that gave `status`, unless it is OK. Right after the call, on the same thread.
inline void check(orcd_status status) {
  if (status == ORCD_STATUS_OK) return;
  auto error = sized<orcd_error>();
  orcd_last_error(nullptr, &error);
  throw Error(status, error.message ? error.message : "", error.hint ? error.hint : "", error.retriable != 0);
}

inline std::string status_name(orcd_status status) {
  const char* name = "ORCD_STATUS_UNKNOWN";
  orcd_status_name(status, &name);
  return name;
}

namespace detail {

struct Destroy {
  void operator()(orcd_context* context) const noexcept { orcd_context_destroy(context); }
  void operator()(orcd_model* model) const noexcept { orcd_model_unload(model); }
  void operator()(orcd_generation* generation) const noexcept { orcd_generation_free(generation); }
};

// Calls fill(buffer, capacity, &n) again with more room until it fits; n elements, of which `extra` more are
// needed.
template <typename Buffer, typename Fill>
Buffer grown(size_t capacity, size_t extra, Fill fill) {
  Buffer buffer(capacity, {});
  size_t n = 0;
  orcd_status status = fill(buffer.data(), buffer.size(), &n);
  while (status == ORCD_STATUS_BUFFER_TOO_SMALL) {
    buffer.resize(n + extra);
    status = fill(buffer.data(), buffer.size(), &n);
  }
  check(status);
  buffer.resize(n);
  return buffer;
}

}  // namespace detail

// Options with their defaults. Texts and arrays that they point to must live until the call they are given to
// returns.
inline orcd_model_options model_options() {
  orcd_model_options options;
  check(orcd_model_options_init(&options, sizeof options));
  return options;
}
inline orcd_generation_options generation_options() {
  orcd_generation_options options;
  check(orcd_generation_options_init(&options, sizeof options));
  return options;
}

struct Token {
  int32_t id;  // ORCD_NO_TOKEN: text without a token
  uint32_t index;
  std::string text;
};

class Generation {
 public:
  // The next token; empty when the generation is complete. Waits. Throws Error if it failed or was cancelled.
  std::optional<Token> next() {
    bool ended = false;
    auto token = sized<orcd_token>();
    auto text = detail::grown<std::string>(64, 1, [&](char* buffer, size_t capacity, size_t* n) {
      const orcd_status status =
          orcd_generation_next_token(handle_.get(), ORCD_WAIT_FOREVER, &token, buffer, capacity, n);
      ended = status == ORCD_STATUS_END;
      return ended ? ORCD_STATUS_OK : status;
    });
    if (ended) return std::nullopt;
    return Token{token.id, token.index, std::move(text)};
  }
  // From any thread; also while another one waits in next().
  void cancel() { check(orcd_generation_cancel(handle_.get())); }
  // Once next() has given nothing.
  orcd_generation_result result() const {
    auto result = sized<orcd_generation_result>();
    check(orcd_generation_get_result(handle_.get(), &result));
    return result;
  }
  orcd_generation* handle() const noexcept { return handle_.get(); }

 private:
  friend class Model;
  Generation(std::shared_ptr<orcd_model> model, orcd_generation* handle)
      : model_(std::move(model)), handle_(handle) {}
  std::shared_ptr<orcd_model> model_;  // outlives the handle: members go in reverse order
  std::unique_ptr<orcd_generation, detail::Destroy> handle_;
};

class Model {
 public:
  Generation start(std::string_view prompt, const orcd_generation_options& options) {
    orcd_generation* handle = nullptr;
    check(orcd_generation_start(handle_.get(), prompt.data(), prompt.size(), &options, &handle));
    return Generation(handle_, handle);
  }
  Generation start(const std::vector<int32_t>& prompt, const orcd_generation_options& options) {
    orcd_generation* handle = nullptr;
    check(orcd_generation_start_tokens(handle_.get(), prompt.data(), prompt.size(), &options, &handle));
    return Generation(handle_, handle);
  }
  std::vector<int32_t> tokenize(std::string_view text, uint32_t flags = 0) const {
    return detail::grown<std::vector<int32_t>>(
        text.size() + 8, 0, [&](int32_t* ids, size_t capacity, size_t* n) {
          return orcd_tokenize(handle_.get(), text.data(), text.size(), flags, ids, capacity, n);
        });
  }
  std::string detokenize(const std::vector<int32_t>& tokens, uint32_t flags = 0) const {
    static const int32_t none = 0;
    const int32_t* ids = tokens.empty() ? &none : tokens.data();
    return detail::grown<std::string>(8 * tokens.size() + 8, 1, [&](char* text, size_t capacity, size_t* n) {
      return orcd_detokenize(handle_.get(), ids, tokens.size(), flags, text, capacity, n);
    });
  }
  orcd_model_info info() const { return get<orcd_model_info>(orcd_model_get_info); }
  orcd_model_memory memory() const { return get<orcd_model_memory>(orcd_model_get_memory); }
  orcd_model_health health() const { return get<orcd_model_health>(orcd_model_get_health); }
  orcd_residency check_residency() const { return get<orcd_residency>(orcd_model_check_residency); }
  orcd_model* handle() const noexcept { return handle_.get(); }

 private:
  friend class Context;
  // The deleter holds the context, so that it goes after the model.
  Model(const std::shared_ptr<orcd_context>& context, orcd_model* handle)
      : handle_(handle, [context](orcd_model* model) { orcd_model_unload(model); }) {}
  template <typename T, typename Function>
  T get(Function function) const {
    auto result = sized<T>();
    check(function(handle_.get(), &result));
    return result;
  }
  std::shared_ptr<orcd_model> handle_;
};

class Context {
 public:
  Context() {
    orcd_context* handle = nullptr;
    check(orcd_context_create(&handle));
    handle_.reset(handle, detail::Destroy{});
  }
  std::vector<orcd_device_info> devices() const {
    uint32_t count = 0;
    check(orcd_device_count(handle_.get(), &count));
    std::vector<orcd_device_info> devices(count, sized<orcd_device_info>());
    for (uint32_t i = 0; i < count; ++i) check(orcd_device_get_info(handle_.get(), i, &devices[i]));
    return devices;
  }
  orcd_plan plan(const orcd_model_options& options) const {
    auto plan = sized<orcd_plan>();
    check(orcd_model_plan(handle_.get(), &options, &plan));
    return plan;
  }
  Model load(const orcd_model_options& options) {
    orcd_model* model = nullptr;
    check(orcd_model_load(handle_.get(), &options, &model));
    return Model(handle_, model);
  }
  orcd_process_memory process_memory() const {
    auto memory = sized<orcd_process_memory>();
    check(orcd_process_get_memory(handle_.get(), &memory));
    return memory;
  }
  orcd_context* handle() const noexcept { return handle_.get(); }

 private:
  std::shared_ptr<orcd_context> handle_;
};

}  // namespace orcd::abi

#endif
