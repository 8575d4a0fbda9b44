#include "cli/session.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/units.h"
#include "cli/usage.h"

namespace orcd::cli {
namespace {

constexpr uint64_t kMaxTextBytes = 256 * kMiB;  // as the C ABI takes

device::DeviceRequest device_request(const Options& options) {
  return {.name = options.device, .n_threads = options.threads};
}

}  // namespace

std::string device_names() {
  std::string names;
  for (uint32_t index = 0, n = device::device_count(); index < n; ++index)
    names += (names.empty() ? "" : ", ") + device::device_name(index);
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
  const bool is_stdin = *file == "-";
  const auto refuse = [&](int reason) {
    throw Error(ErrorCode::kInvalidRequest, "cannot read the file",
                {{"file", *file}, {"reason", std::string(std::strerror(reason))}});
  };
  const int fd = is_stdin ? STDIN_FILENO : ::open(file->c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) refuse(errno);
  struct Closer {
    int fd;
    ~Closer() {
      if (fd != STDIN_FILENO) ::close(fd);
    }
  } closer{fd};
  std::string content;
  std::array<char, size_t{1} << 16> part{};
  for (;;) {
    const ssize_t n = ::read(fd, part.data(), part.size());
    if (n == 0) return content;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) refuse(errno);
    if (content.size() + static_cast<size_t>(n) > kMaxTextBytes) {
      throw Error(ErrorCode::kInvalidRequest, "the text is longer than is read",
                  {{"file", *file}, {"limit_bytes", kMaxTextBytes}}, "give a shorter one");
    }
    content.append(part.data(), static_cast<size_t>(n));
  }
}

}  // namespace orcd::cli
