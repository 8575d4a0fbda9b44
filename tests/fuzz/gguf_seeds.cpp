// Writes the files that the gguf target starts from: gguf_seeds tests/fuzz/corpus/gguf
#include <cstdio>
#include <filesystem>

#include "support/gguf_writer.h"

int main(int argc, char** argv) {
  using namespace orcd;
  using namespace orcd::test;
  if (argc != 2) {
    std::fprintf(stderr, "usage: gguf_seeds DIRECTORY\n");
    return 2;
  }
  const std::string directory = argv[1];
  std::filesystem::create_directories(directory);
  small_model().write(directory + "/llama");
  small_model().version(2).alignment(8).write(directory + "/v2-aligned-8");
  GgufWriter bpe;
  bpe.add("general.architecture", "gpt2").add("tokenizer.ggml.model", "gpt2");
  bpe.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"});
  bpe.add("tokenizer.ggml.merges", std::vector<std::string>{"a b"}).write(directory + "/bpe");
  GgufWriter types;
  types.add("general.architecture", "x")
      .add("a", int8_t{-1})
      .add("b", 1.5)
      .add("c", std::vector<bool>{true, false});
  types.add("x.attention.head_count", std::vector<int32_t>{1, 2}).add("d", std::vector<float>{1, 2});
  types.add_raw("n", 9, {9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7});
  types.tensor("q", TensorType::kQ4_K, {256, 2}).write(directory + "/types");
  return 0;
}
