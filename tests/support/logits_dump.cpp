// Logits of token sequences on the CPU device, for tests that hold a model against an outside oracle.
//   logits_dump MODEL.gguf
// stdin, for each sequence: u32 n, n x i32 ids. stdout, for each: u32 n_tokens * n_vocab, as many f32, by
// token. Chunks of 24 tokens, so that sequences are longer than a step.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "base/error.h"
#include "device/device.h"
#include "kv/layout.h"
#include "model/program.h"

namespace {

using namespace orcd;

constexpr uint32_t kChunk = 24;

bool read_ids(std::vector<int32_t>& ids) {
  uint32_t n = 0;
  if (std::fread(&n, sizeof n, 1, stdin) != 1) return false;
  ids.resize(n);
  return std::fread(ids.data(), sizeof(int32_t), n, stdin) == n;
}

std::vector<float> logits(device::Executor& executor, std::span<const int32_t> ids) {
  std::vector<uint32_t> pages(kv::pages_for(static_cast<uint32_t>(ids.size())));
  for (uint32_t page = 0; page < pages.size(); ++page) pages[page] = page;
  std::vector<float> out;
  for (size_t at = 0; at < ids.size(); at += kChunk) {
    device::SequenceStep step;
    step.first_position = static_cast<uint32_t>(at);
    step.tokens = ids.subspan(at, std::min<size_t>(kChunk, ids.size() - at));
    step.pages = pages;
    step.logits = device::LogitsMode::kAll;
    step.want_rows = true;
    executor.submit({&step, 1});
    const std::span<const float> rows = executor.collect()[0].rows;
    out.insert(out.end(), rows.begin(), rows.end());
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::fprintf(stderr, "usage: logits_dump MODEL.gguf < ids > logits\n");
    return 2;
  }
  const auto program =
      std::make_shared<const model::Program>(model::lower(model::read_spec(gguf::File::open(argv[1]))));
  const auto device = device::open_device({.name = "cpu"});
  const device::Limits limits{.slots = 1, .batch_tokens = kChunk, .logits_rows = kChunk};
  const auto executor = device->load(program, device->resolve(*program, limits), {});
  std::vector<int32_t> ids;
  while (read_ids(ids)) {
    const std::vector<float> rows = logits(*executor, ids);
    const auto n = static_cast<uint32_t>(rows.size());
    std::fwrite(&n, sizeof n, 1, stdout);
    std::fwrite(rows.data(), sizeof(float), n, stdout);
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
} catch (const orcd::Error& error) {
  std::fprintf(stderr, "%s\n", error.line().c_str());
  return 1;
}
