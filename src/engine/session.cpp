#include "engine/session.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>

#include "base/log.h"
#include "gguf/validate.h"

namespace orcd::engine {
namespace {

constexpr int kProgressStep = 5;  // percent

// general.file_type as ggml numbers it (LLAMA_FTYPE).
std::string file_type_name(uint64_t file_type) {
  static const std::map<uint64_t, const char*> kNames = {
      {0, "F32"},     {1, "F16"},     {2, "Q4_0"},    {3, "Q4_1"},    {7, "Q8_0"},
      {8, "Q5_0"},    {9, "Q5_1"},    {10, "Q2_K"},   {11, "Q3_K_S"}, {12, "Q3_K_M"},
      {13, "Q3_K_L"}, {14, "Q4_K_S"}, {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"},
      {18, "Q6_K"},   {25, "IQ4_NL"}, {30, "IQ4_XS"}, {32, "BF16"},   {38, "MXFP4"}};
  const auto found = kNames.find(file_type);
  return found == kNames.end() ? "" : found->second;
}

double ms_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

// Every few percent one event; 0 and 100 always.
device::Progress progress_events(const std::function<bool()>& stop) {
  return [stop, last = -kProgressStep](uint64_t done, uint64_t total) mutable {
    if (stop && stop()) throw Error(ErrorCode::kCancelled, "loading was stopped");
    const int percent = total ? static_cast<int>(done * 100 / total) : 100;
    if (percent < last + kProgressStep && !(percent == 100 && last < 100)) return;
    last = percent;
    log_event(LogLevel::kInfo, "model_load_progress",
              {{"percent", int64_t{percent}}, {"done_bytes", done}, {"total_bytes", total}});
  };
}

// With --tokenizer the model's own vocabulary is held against it; one that cannot be read is no obstacle
// then.
std::shared_ptr<const tokenizer::Tokenizer> open_tokenizer(const std::shared_ptr<const gguf::File>& file,
                                                           const std::string& path) {
  if (path.empty()) return tokenizer::Tokenizer::from_gguf(file);
  std::shared_ptr<const tokenizer::Tokenizer> own;
  try {
    own = tokenizer::Tokenizer::from_gguf(file);
  } catch (const Error& error) {
    log_event(LogLevel::kWarn, "tokenizer_unchecked", {{"reason", error.line()}});
  }
  return tokenizer::Tokenizer::open(path, own.get());
}

}  // namespace

std::string model_name(const std::string& path) {
  const std::filesystem::path name = std::filesystem::path(path).filename();
  return name.extension() == ".gguf" ? name.stem().string() : name.string();
}

std::string quant_kind(const gguf::File& file) {
  if (const auto type = file.get_uint("general.file_type")) {
    if (std::string name = file_type_name(*type); !name.empty()) return name;
  }
  std::map<TensorType, uint64_t> bytes;
  for (const gguf::TensorInfo& tensor : file.tensors()) bytes[tensor.type] += tensor.n_bytes;
  const auto most = std::max_element(bytes.begin(), bytes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? "" : tensor_type_name(most->first);
}

Model open_model(const std::string& path, const std::string& tokenizer_path) {
  Model model;
  model.file = gguf::File::open(path);
  gguf::validate(*model.file);
  model.program = std::make_shared<const model::Program>(model::lower(model::read_spec(model.file)));
  model.tokenizer = open_tokenizer(model.file, tokenizer_path);
  if (static_cast<uint64_t>(model.tokenizer->vocab_size()) > model.program->spec.n_vocab) {
    throw Error(ErrorCode::kModelLoadFailed, "the vocabulary has more tokens than the model",
                {{"tokens", int64_t{model.tokenizer->vocab_size()}},
                 {"model", uint64_t{model.program->spec.n_vocab}}},
                "give the tokenizer that belongs to this model");
  }
  model.chat = std::make_shared<const Chat>(*model.file, *model.tokenizer);
  return model;
}

Session load(const LoadOptions& options, std::optional<Model> opened) {
  const auto begin = std::chrono::steady_clock::now();
  log_event(LogLevel::kInfo, "model_load_start", {{"path", options.model_path}});
  Session session;
  session.model = opened ? std::move(*opened) : open_model(options.model_path, options.tokenizer_path);
  if (const auto& why = session.model.chat->why_off()) {
    log_event(LogLevel::kInfo, "chat_off", {{"reason", why->line()}});
  }
  session.device = device::open_device(options.device);
  const device::ResolvedLimits resolved = session.device->resolve(*session.model.program, options.limits);
  const device::Progress progress = progress_events(options.stop);
  progress(0, session.device->plan(*session.model.program, resolved).arena_bytes(memory::Category::kWeights));
  session.executor = session.device->load(session.model.program, resolved, progress);
  const model::ModelSpec& spec = session.model.program->spec;
  log_event(LogLevel::kInfo, "model_load_complete",
            {{"architecture", spec.architecture},
             {"quant_kind", quant_kind(*session.model.file)},
             {"load_ms", ms_since(begin)},
             {"vram_bytes", session.executor->ledger().total_bytes()},
             {"planned_bytes", session.executor->plan().total_bytes()},
             {"context", uint64_t{resolved.context}},
             {"slots", uint64_t{resolved.slots}},
             {"kv_pages", uint64_t{resolved.kv_pages}},
             {"isa", session.device->info().isa},
             {"threads", uint64_t{session.device->info().n_threads}}});
  return session;
}

std::unique_ptr<Engine> start_engine(Session* session, EngineOptions options) {
  return std::make_unique<Engine>(std::move(session->executor), session->model.program,
                                  session->model.tokenizer, options);
}

}  // namespace orcd::engine
