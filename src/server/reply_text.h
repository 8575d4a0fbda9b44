// The header of a reply as text.
#pragma once

#include <string>
#include <string_view>

#include "server/http.h"

namespace orcd::server {

struct HeadOptions {
  std::string_view request_id;
  bool keep_alive = true, http_1_0 = false, chunked = false;
  bool stream = false;  // the length is not known
};

// Status line, headers and the blank line.
std::string reply_head(const Reply& reply, const HeadOptions& options);

// The client's id if it is 1 to 128 visible ASCII characters, else a new random one.
std::string make_request_id(std::string_view given);

}  // namespace orcd::server
