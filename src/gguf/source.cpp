#include "gguf/source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "gguf/refusal.h"

namespace orcd::gguf {
namespace {

[[noreturn]] void refuse_path(const std::string& path, const std::string& message, std::string hint) {
  refuse(path, "file", 0, message, std::move(hint));
}

class FileSource final : public Source {
 public:
  explicit FileSource(const std::string& path) : path_(path) {
    // Without O_NONBLOCK a named pipe would wait for its writer for ever.
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd_ < 0) {
      const int code = errno;
      refuse_path(path, "cannot open the file: " + std::generic_category().message(code),
                  code == ENOENT   ? "check the path"
                  : code == EACCES ? "give this user read permission"
                                   : "");
    }
    struct stat info {};
    if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
      ::close(fd_);
      refuse_path(path, S_ISDIR(info.st_mode) ? "the path is a directory" : "the path is not a regular file",
                  "give the path of one file");
    }
    n_bytes_ = static_cast<uint64_t>(info.st_size);
  }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  ~FileSource() override { ::close(fd_); }

  const std::string& name() const override { return path_; }
  uint64_t n_bytes() const override { return n_bytes_; }

  size_t read(uint64_t offset, std::span<uint8_t> out) const override {
    size_t done = 0;
    while (done < out.size()) {
      const size_t chunk = std::min<size_t>(out.size() - done, size_t{1} << 30);
      const ssize_t got = ::pread(fd_, out.data() + done, chunk, static_cast<off_t>(offset + done));
      if (got == 0) break;
      if (got < 0) {
        if (errno == EINTR) continue;
        refuse(path_, "file", offset + done, "read failed: " + std::generic_category().message(errno),
               "check the disk that holds the model");
      }
      done += static_cast<size_t>(got);
    }
    return done;
  }

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t n_bytes_ = 0;
};

class MemorySource final : public Source {
 public:
  MemorySource(std::span<const uint8_t> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  uint64_t n_bytes() const override { return bytes_.size(); }
  size_t read(uint64_t offset, std::span<uint8_t> out) const override {
    if (offset >= bytes_.size() || out.empty()) return 0;
    const size_t n = std::min<size_t>(out.size(), bytes_.size() - offset);
    std::memcpy(out.data(), bytes_.data() + offset, n);
    return n;
  }
  std::span<const uint8_t> in_memory() const override { return bytes_; }

 private:
  std::span<const uint8_t> bytes_;
  std::string name_;
};

}  // namespace

std::unique_ptr<Source> open_file_source(const std::string& path) {
  return std::make_unique<FileSource>(path);
}

std::unique_ptr<Source> memory_source(std::span<const uint8_t> bytes, std::string name) {
  return std::make_unique<MemorySource>(bytes, std::move(name));
}

}  // namespace orcd::gguf
