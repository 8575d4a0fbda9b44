#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "base/error.h"

namespace orcd::cli {

void flush_output() {
  errno = 0;
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return;
  throw Error(ErrorCode::kInternal, "cannot write to stdout",
              {{"system", std::string(errno ? std::strerror(errno) : "a write before this one failed")}},
              "its reader has ended, or its disk is full");
}

void print_now(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  flush_output();
}

}  // namespace orcd::cli
