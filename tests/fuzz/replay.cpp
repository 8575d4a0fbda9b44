// Runs a fuzz target without libFuzzer: over its corpus, then over changed copies of it. Seeded, so that
// every run is the same; part of ctest under each compiler and sanitizer.  replay_NAME CORPUS [RUNS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937;

constexpr int kDefaultRuns = 2000;
constexpr uint8_t kTelling[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '}', '%', '\r', '\n', ':', ' ', '9'};

std::vector<Bytes> read_corpus(const char* directory) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) paths.push_back(entry.path());
  std::ranges::sort(paths);
  std::vector<Bytes> corpus;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

size_t below(Random& random, size_t limit) { return limit ? random() % limit : 0; }

Bytes changed(Bytes bytes, const std::vector<Bytes>& corpus, Random& random) {
  for (size_t n = 1 + below(random, 4); n > 0; --n) {
    const size_t at = below(random, bytes.size());
    const auto here = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    switch (random() % 5) {
      case 0:  // another byte
        if (!bytes.empty()) *here = kTelling[random() % sizeof kTelling];
        break;
      case 1:  // another bit
        if (!bytes.empty()) *here ^= static_cast<uint8_t>(1u << random() % 8);
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(
            here, here + static_cast<std::ptrdiff_t>(below(random, std::min<size_t>(bytes.size() - at, 16))));
        break;
      default: {  // the tail of another
        const Bytes& other = corpus[below(random, corpus.size())];
        const size_t from = below(random, other.size());
        bytes.resize(at);
        bytes.insert(bytes.end(), other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
      }
    }
  }
  return bytes;
}

// In memory of exactly its size, so that a sanitizer sees the first byte read beyond it.
void run(const Bytes& bytes) {
  const std::vector<uint8_t> exact(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

}  // namespace

int main(int argc, char** argv) {
  const int n_runs = argc == 3 ? std::atoi(argv[2]) : kDefaultRuns;
  const std::vector<Bytes> corpus = argc >= 2 ? read_corpus(argv[1]) : std::vector<Bytes>{};
  if (corpus.empty() || n_runs < 0) {
    std::fprintf(stderr, "usage: replay_NAME CORPUS [RUNS], with at least one file in CORPUS\n");
    return 2;
  }
  for (const Bytes& bytes : corpus) run(bytes);
  Random random(1);
  for (int i = 0; i < n_runs; ++i) run(changed(corpus[below(random, corpus.size())], corpus, random));
  std::printf("%zu files and %d changed copies of them\n", corpus.size(), n_runs);
  return 0;
}
