// Tells the orchestrator that the worker is ready (--callback-url).
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>

namespace orcd::server {

struct ReadyNotice {
  std::string worker_id, model;
  uint64_t vram_bytes = 0;
  std::string uri;
};

// The Host field of a request to this host and port: an IPv6 address stands in brackets (RFC 9110, 7.2).
std::string host_field(const std::string& host, const std::string& port);

// POSTs {worker_id, model, vram_bytes, uri} to an http:// address. A failure is a warning in the log with its
// reason: the worker serves all the same. True when the answer was 2xx. Takes up to 10 s, or until `stop`.
// Throws Error(kInvalidRequest) with the reason where `url` is no http://HOST[:PORT][/PATH].
void check_callback_url(const std::string& url);

bool post_ready(const std::string& url, const ReadyNotice& notice, const std::stop_token& stop = {});

}  // namespace orcd::server
