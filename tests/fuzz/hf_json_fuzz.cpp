// libFuzzer target: any text either is a tokenizer.json that encodes and decodes without a throw, or one
// MODEL_LOAD_FAILED.
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace orcd;
  using tokenizer::Tokenizer;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  std::shared_ptr<const Tokenizer> tokenizer;
  try {
    tokenizer = Tokenizer::from_hf_json(json);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kModelLoadFailed) std::abort();
    return 0;
  }
  const std::string_view texts[] = {"abc ab<end><think>a 12\n\n  b's \u00e9\u4e2d", json.substr(0, 512)};
  for (const std::string_view text : texts) {
    for (const int32_t id : tokenizer->encode(text, {.add_bos = true, .parse_special = true})) {
      if (id < 0 || id >= tokenizer->vocab_size()) std::abort();
      tokenizer->token_bytes(id, true);
    }
  }
  // A file that is held against itself agrees.
  Tokenizer::from_hf_json(json, tokenizer.get());
  return 0;
}
