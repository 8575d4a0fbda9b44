// Chat templates: the part of Jinja that model files carry, rendered as transformers' sandboxed jinja2 does.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/value.h"

namespace orcd::jinja {

// What one rendering may take. A step is a node of the syntax tree, an item of a loop, or 64 bytes of text.
struct RenderLimits {
  uint64_t max_steps = 20'000'000;
  uint32_t max_depth = 150;  // macros, loops and expressions inside each other
  uint64_t max_output_bytes = 16u << 20;
};

// Immutable, so safe to share between threads.
class Template {
 public:
  // Throws Error(kModelLoadFailed) with `line` and `column` of what cannot be read.
  explicit Template(std::string_view source);
  ~Template();
  Template(Template&&) noexcept;

  // `now` is what strftime_now tells, in local time. Throws Error(kInvalidRequest) with `line` and `column`:
  // the template refused (raise_exception), met values that it cannot use, or reached a limit.
  std::string render(const Dict& variables,
                     std::chrono::system_clock::time_point now = std::chrono::system_clock::now(),
                     const RenderLimits& limits = {}) const;

 private:
  struct Tree;
  std::unique_ptr<const Tree> tree_;
};

}  // namespace orcd::jinja
