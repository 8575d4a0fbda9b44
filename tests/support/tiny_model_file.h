// A whole model in a file of some 100 KB, with a vocabulary, for tests that load by path.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "support/synthetic_model.h"

namespace orcd::test {

inline constexpr uint32_t kTinyContext = 32768;  // long enough for an answer that takes seconds

// SentencePiece: 0 <unk>, 1 <s>, 2 </s>, then the 256 bytes, the letters, the space and "he".
inline void add_tiny_vocabulary(GgufWriter* w, uint32_t n_vocab) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    tokens.emplace_back(text);
    types.push_back(6);
  }
  for (char letter = 'a'; letter <= 'z'; ++letter) tokens.emplace_back(1, letter);
  tokens.insert(tokens.end(), {"\u2581", "he"});
  for (uint32_t i = 0; tokens.size() < n_vocab; ++i) tokens.push_back("word" + std::to_string(i));
  types.resize(tokens.size(), 1);
  std::vector<float> scores;
  for (size_t i = 0; i < tokens.size(); ++i) scores.push_back(-static_cast<float>(i));
  w->add("tokenizer.ggml.model", "llama").add("tokenizer.ggml.pre", "default");
  w->add("tokenizer.ggml.tokens", tokens).add("tokenizer.ggml.scores", scores);
  w->add("tokenizer.ggml.token_type", types).add("tokenizer.ggml.add_bos_token", true);
  w->add("tokenizer.ggml.bos_token_id", uint32_t{1}).add("tokenizer.ggml.eos_token_id", uint32_t{2});
  w->add("tokenizer.ggml.unknown_token_id", uint32_t{0});
}

// Deleted with the object.
class TinyModelFile {
 public:
  explicit TinyModelFile(const std::string& name = "tiny") {
    SyntheticModel shape{
        .n_layers = 2, .dim = 64, .ffn_dim = 128, .n_heads = 2, .n_kv_heads = 1, .head_dim = 32};
    shape.context = kTinyContext;
    GgufWriter writer = synthetic_writer(shape);
    add_tiny_vocabulary(&writer, shape.n_vocab);
    std::string pattern = (std::filesystem::temp_directory_path() / "orcd-XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw std::runtime_error("no temporary folder");
    folder_ = pattern;
    path_ = (folder_ / (name + ".gguf")).string();
    writer.write(path_);
  }
  ~TinyModelFile() {
    if (getpid() == pid_) std::filesystem::remove_all(folder_);
  }
  TinyModelFile(const TinyModelFile&) = delete;
  TinyModelFile& operator=(const TinyModelFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  const pid_t pid_ = getpid();  // a child of fork() leaves the file alone
  std::filesystem::path folder_;
  std::string path_;
};

}  // namespace orcd::test
