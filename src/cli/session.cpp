#include "cli/session.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>

#include "base/log.h"
#include "base/units.h"
#include "cli/usage.h"
#include "gguf/validate.h"

namespace orcd::cli {
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
    if (stop && stop()) throw Error(ErrorCode::kCancelled, "loading was stopped by a signal");
    const int percent = total ? static_cast<int>(done * 100 / total) : 100;
    if (percent < last + kProgressStep && !(percent == 100 && last < 100)) return;
    last = percent;
    log_event(LogLevel::kInfo, "model_load_progress",
              {{"percent", int64_t{percent}}, {"done_bytes", done}, {"total_bytes", total}});
  };
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
  model.chat = std::make_shared<const engine::Chat>(*model.file, *model.tokenizer);
  return model;
}

std::string device_names() {
  std::string names;
  for (const device::DeviceInfo& info : device::list_devices())
    if (info.refusal.empty()) names += (names.empty() ? "" : ", ") + info.name;
  return names;
}

std::unique_ptr<device::Device> open_device(const Options& options) {
  return device::open_device({.name = options.device, .n_threads = options.threads});
}

device::Limits limits_of(const Options& options) {
  device::Limits limits;
  limits.context = options.context;
  limits.slots = options.slots;
  limits.batch_tokens = options.batch_tokens;
  limits.kv_cache_bytes = options.kv_cache_size_mb.value_or(0) * kMiB;
  limits.budget_bytes = options.vram_budget_mb.value_or(0) * kMiB;
  return limits;
}

Session load(const Options& options, const device::Limits& limits, const std::function<bool()>& stop,
             std::optional<Model> opened) {
  const auto begin = std::chrono::steady_clock::now();
  log_event(LogLevel::kInfo, "model_load_start", {{"path", options.model}});
  Session session;
  session.model = opened ? std::move(*opened) : open_model(options.model, options.tokenizer_file);
  if (const auto& why = session.model.chat->why_off()) {
    log_event(LogLevel::kInfo, "chat_off", {{"reason", why->line()}});
  }
  session.device = open_device(options);
  const device::ResolvedLimits resolved = session.device->resolve(*session.model.program, limits);
  const device::Progress progress = progress_events(stop);
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

std::unique_ptr<engine::Engine> start_engine(Session* session) {
  return std::make_unique<engine::Engine>(std::move(session->executor), session->model.program,
                                          session->model.tokenizer);
}

std::string read_text(const std::optional<std::string>& text, const std::optional<std::string>& file) {
  if (text) return *text;
  if (*file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream stream(*file, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(stream), {}};
  if (!stream || std::filesystem::is_directory(*file)) {
    throw Error(ErrorCode::kInvalidRequest, "cannot read the file",
                {{"file", *file}, {"reason", std::string(std::strerror(errno ? errno : EISDIR))}});
  }
  return content;
}

}  // namespace orcd::cli
