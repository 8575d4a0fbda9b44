// A session of the engine as the command line's options ask for it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/options.h"
#include "device/device.h"
#include "engine/session.h"

namespace orcd::cli {

using engine::Model;
using engine::model_name;
using engine::open_model;
using engine::quant_kind;
using engine::Session;
using engine::start_engine;

std::unique_ptr<device::Device> open_device(const Options& options);
device::Limits limits_of(const Options& options);

// engine::load with the options' paths and device. `stop` is asked while loading; true ends it with
// CANCELLED.
Session load(const Options& options, const device::Limits& limits, std::function<bool()> stop = {},
             std::optional<Model> opened = {});

// The text of --prompt/--text, or of --file ("-" is stdin). Throws INVALID_REQUEST if it cannot be read.
std::string read_text(const std::optional<std::string>& text, const std::optional<std::string>& file);

}  // namespace orcd::cli
