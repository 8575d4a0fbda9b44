// A client of a server on this machine: what it sends and reads is bytes.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace orcd::test {

class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer = 0) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~RawClient() { hang_up(); }
  void hang_up() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  void half_close() { shutdown(fd_, SHUT_WR); }
  void send(const std::string& text) {
    EXPECT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  // Reads until `text` was seen or the server closed; what was read.
  std::string read_until(const std::string& text) {
    char buffer[4096];
    while (seen_.find(text) == seen_.npos) {
      pollfd waiting{fd_, POLLIN, 0};
      if (poll(&waiting, 1, 10000) <= 0) {
        ADD_FAILURE() << "nothing came for 10 s after: " << seen_;
        break;
      }
      const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
      if (n <= 0) break;
      seen_.append(buffer, static_cast<size_t>(n));
    }
    return std::exchange(seen_, {});
  }
  std::string read_to_end() { return read_until("\1never\1"); }

 private:
  int fd_;
  std::string seen_;
};

}  // namespace orcd::test
