// libFuzzer target: any bytes either give a File whose every part can be read, or one MODEL_LOAD_FAILED.
#include <cstdlib>
#include <vector>

#include "gguf/file.h"
#include "gguf/validate.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace orcd;
  try {
    const auto file = gguf::File::parse({data, size});
    std::vector<uint8_t> bytes;
    for (const gguf::TensorInfo& tensor : file->tensors()) {
      bytes.resize(tensor.n_bytes);
      file->read(tensor, 0, bytes);
      if (file->find_tensor(tensor.name) != &tensor) std::abort();
    }
    for (const gguf::MetadataEntry& entry : file->metadata()) {
      if (file->find(entry.key) != &entry) std::abort();
    }
    gguf::validate(*file);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kModelLoadFailed) std::abort();
  }
  return 0;
}
