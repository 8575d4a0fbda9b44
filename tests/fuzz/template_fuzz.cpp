// libFuzzer target: any bytes either make a template or one MODEL_LOAD_FAILED; rendering it over a
// conversation ends within its limits, with a text or one INVALID_REQUEST.
#include <cstdlib>

#include "base/error.h"
#include "jinja/json.h"
#include "jinja/template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace orcd;
  static const jinja::Value variables = jinja::parse_json(
      R"({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Héllo\n"},
          {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "function": {"name": "f",
          "arguments": {"a": [1, 2.5]}}}]}], "tools": [], "bos_token": "<s>", "add_generation_prompt": true})");
  jinja::RenderLimits limits;
  limits.max_steps = 100'000;
  limits.max_output_bytes = 1 << 16;
  bool is_parsed = false;
  try {
    const jinja::Template chat({reinterpret_cast<const char*>(data), size});
    is_parsed = true;
    const std::string text =
        chat.render(*variables.as_dict(), std::chrono::system_clock::time_point(), limits);
    if (text.size() > limits.max_output_bytes) std::abort();
  } catch (const Error& error) {
    if (error.code() != (is_parsed ? ErrorCode::kInvalidRequest : ErrorCode::kModelLoadFailed)) std::abort();
  }
  return 0;
}
