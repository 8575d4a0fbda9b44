#include "cli/stderr_sink.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <string>
#include <utility>

namespace orcd::cli {
namespace {

constexpr std::chrono::milliseconds kPatience{1'000};

// What cannot be written is nobody's to be told: this is where failures are told.
void write_piece(std::string_view piece) {
  while (!piece.empty()) {
    const ssize_t n = ::write(STDERR_FILENO, piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    piece.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

bool stderr_has_room(std::chrono::milliseconds limit) {
  pollfd room{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  return ::poll(&room, 1, static_cast<int>(limit.count())) != 0;
}

bool StderrSink::has_room() {
  is_stalled_ = !stderr_has_room(is_stalled_ ? std::chrono::milliseconds(0) : kPatience);
  return !is_stalled_;
}

// In pieces of PIPE_BUF, which is what a pipe with room takes without a wait.
void StderrSink::put(std::string_view line) {
  for (size_t at = 0; at < line.size(); at += PIPE_BUF) {
    if (!has_room()) {
      ++n_lost_;
      is_torn_ |= at > 0;
      return;
    }
    write_piece(line.substr(at, PIPE_BUF));
  }
}

void StderrSink::sink_it_(const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t line;
  formatter_->format(message, line);
  if (n_lost_ > 0) {
    if (!has_room()) {
      ++n_lost_;
      return;
    }
    const std::string told = lost_line_(n_lost_);
    if (std::exchange(is_torn_, false)) write_piece("\n");
    n_lost_ = 0;
    put(told);
  }
  put({line.data(), line.size()});
}

}  // namespace orcd::cli
