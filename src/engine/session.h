// The way from a file on disk to a running engine, in steps that every face shares:
// open -> validate -> spec -> program -> device -> limits -> load -> engine.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "device/device.h"
#include "engine/chat.h"
#include "engine/engine.h"
#include "gguf/file.h"
#include "model/program.h"
#include "tokenizer/tokenizer.h"

namespace orcd::engine {

// A model as read from its file; no device is involved.
struct Model {
  std::shared_ptr<const gguf::File> file;
  std::shared_ptr<const model::Program> program;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  std::shared_ptr<const Chat> chat;
};

// File name without folder and extension: how logs and answers call the model.
std::string model_name(const std::string& path);
// "Q4_K_M" as the file says, else the format of most of its weights.
std::string quant_kind(const gguf::File& file);

// Opens and validates. tokenizer_path "" takes the model's own vocabulary. Throws MODEL_LOAD_FAILED.
Model open_model(const std::string& path, const std::string& tokenizer_path = {});

struct LoadOptions {
  std::string model_path, tokenizer_path;
  device::DeviceRequest device;
  device::Limits limits;
  std::function<bool()> stop;  // asked while loading; true ends it with CANCELLED
};

// A model loaded on its device.
struct Session {
  Model model;
  std::unique_ptr<device::Device> device;
  std::unique_ptr<device::Executor> executor;  // until start_engine() takes it over
};

// Loads with log events and a progress event every few percent. `opened`: the model, if the caller has opened
// it already. Throws INSUFFICIENT_VRAM and the others before the first byte moves.
Session load(const LoadOptions& options, std::optional<Model> opened = {});

std::unique_ptr<Engine> start_engine(Session* session, EngineOptions options = {});

}  // namespace orcd::engine
