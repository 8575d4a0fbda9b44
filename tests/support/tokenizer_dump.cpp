// Ids of many strings, for tools/tokenizer_oracle.py: one vocabulary, framed strings in, framed ids out.
//   tokenizer_dump VOCABULARY [--special] [--bos]
// stdin: u32 n, then n bytes, repeated. stdout, for each: u32 count, count x i32 ids, u32 n, n bytes decoded
// from them.
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tokenizer/tokenizer.h"

namespace {

bool read_frame(std::string& text) {
  uint32_t n = 0;
  if (std::fread(&n, sizeof n, 1, stdin) != 1) return false;
  text.resize(n);
  return std::fread(text.data(), 1, n, stdin) == n;
}

void write_frame(const void* data, uint32_t count, size_t element_bytes) {
  std::fwrite(&count, sizeof count, 1, stdout);
  std::fwrite(data, element_bytes, count, stdout);
}

}  // namespace

int main(int argc, char** argv) try {
  orcd::tokenizer::EncodeOptions options{.add_bos = false, .parse_special = false};
  for (int i = 2; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--special") options.parse_special = true;
    if (std::string_view(argv[i]) == "--bos") options.add_bos = true;
  }
  if (argc < 2) {
    std::fprintf(stderr, "usage: tokenizer_dump VOCABULARY [--special] [--bos]\n");
    return 2;
  }
  const auto tokenizer = orcd::tokenizer::Tokenizer::open(argv[1]);
  std::string text;
  while (read_frame(text)) {
    const std::vector<int32_t> ids = tokenizer->encode(text, options);
    const std::string decoded = decode_bytes(*tokenizer, ids, /*special=*/true);
    write_frame(ids.data(), static_cast<uint32_t>(ids.size()), sizeof(int32_t));
    write_frame(decoded.data(), static_cast<uint32_t>(decoded.size()), 1);
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
} catch (const orcd::Error& error) {
  std::fprintf(stderr, "%s\n", error.line().c_str());
  return 1;
}
