// Bytes that a GGUF file is read from: a file descriptor (pread, so a truncation is a short read and never a
// signal), or memory.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace orcd::gguf {

class Source {
 public:
  virtual ~Source() = default;
  virtual const std::string& name() const = 0;
  virtual uint64_t n_bytes() const = 0;
  // Copies up to out.size() bytes from offset and returns how many there were. Thread-safe.
  // Throws Error(kModelLoadFailed) when the device fails to read.
  virtual size_t read(uint64_t offset, std::span<uint8_t> out) const = 0;
  // All the bytes, when they are in memory already; empty otherwise.
  virtual std::span<const uint8_t> in_memory() const { return {}; }
};

// Refuses what is not a regular, readable file with an Error(kModelLoadFailed) that says why.
std::unique_ptr<Source> open_file_source(const std::string& path);
std::unique_ptr<Source> memory_source(std::span<const uint8_t> bytes, std::string name);

}  // namespace orcd::gguf
