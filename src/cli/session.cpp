#include "cli/session.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

#include "base/units.h"
#include "cli/usage.h"

namespace orcd::cli {
namespace {

device::DeviceRequest device_request(const Options& options) {
  return {.name = options.device, .n_threads = options.threads};
}

}  // namespace

std::string device_names() {
  std::string names;
  for (const device::DeviceInfo& info : device::list_devices())
    if (info.refusal.empty()) names += (names.empty() ? "" : ", ") + info.name;
  return names;
}

std::unique_ptr<device::Device> open_device(const Options& options) {
  return device::open_device(device_request(options));
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

Session load(const Options& options, const device::Limits& limits, std::function<bool()> stop,
             std::optional<Model> opened) {
  return engine::load({.model_path = options.model,
                       .tokenizer_path = options.tokenizer_file,
                       .device = device_request(options),
                       .limits = limits,
                       .stop = std::move(stop)},
                      std::move(opened));
}

std::string read_text(const std::optional<std::string>& text, const std::optional<std::string>& file) {
  if (text) return *text;
  if (*file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  errno = 0;
  std::ifstream stream(*file, std::ios::binary);
  std::string content;
  std::array<char, size_t{1} << 16> part{};
  // An iterator would let the exception of a failing read through; read() makes a state of it.
  while (stream.read(part.data(), std::ssize(part)) || stream.gcount() > 0)
    content.append(part.data(), static_cast<size_t>(stream.gcount()));
  if (!stream.is_open() || stream.bad()) {
    throw Error(ErrorCode::kInvalidRequest, "cannot read the file",
                {{"file", *file}, {"reason", std::string(std::strerror(errno ? errno : EIO))}});
  }
  return content;
}

}  // namespace orcd::cli
