// worker-orcd: parses the command line, runs one subcommand, and turns failures into one line and an exit
// code.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <new>

#include "base/error.h"
#include "base/memory_reserve.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/stderr_sink.h"
#include "cli/terminal.h"

namespace {

int dispatch(const orcd::cli::Options& options) {
  using namespace orcd::cli;
  switch (options.command) {
    case Command::kServe:
      return serve(options);
    case Command::kRun:
      return run(options);
    case Command::kPlan:
      return plan(options);
    case Command::kInspect:
      return inspect(options);
    case Command::kCheck:
      return check(options);
    case Command::kTokenize:
      return tokenize(options);
    case Command::kDetokenize:
      return detokenize(options);
    case Command::kPerplexity:
      return perplexity(options);
    case Command::kBench:
      return bench(options);
    case Command::kDevices:
      return devices(options);
    case Command::kDoctor:
      return doctor(options);
    case Command::kVerify:
      return verify(options);
    case Command::kVersion:
      return version(options);
  }
  return 2;
}

// A standard stream that is closed would be the number of the next file or connection, which would then get
// the log. What stands in its place fails as a closed one does.
void hold_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) == -1 && errno == EBADF)
      (void)::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

// One line that moves no cursor, whatever a message quotes. Takes no memory.
int fail(int code, std::initializer_list<const char*> parts) {
  if (!orcd::cli::stderr_has_room(std::chrono::seconds(1))) return code;  // nobody reads: end all the same
  for (const char* part : parts) {
    for (const char* c = part; *c; ++c) std::fputc(orcd::cli::moves_cursor(*c) ? ' ' : *c, stderr);
  }
  std::fputc('\n', stderr);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  hold_standard_streams();
  orcd::hold_memory_reserve();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that left is an error of the write, not the end of the process
  try {
    const auto options = orcd::cli::parse_options(argc, argv);
    const int code = options ? dispatch(*options) : 0;
    orcd::cli::flush_output();
    return code;
  } catch (const orcd::cli::UsageError& error) {
    return fail(2, {"usage: ", error.message.c_str(), " (see worker-orcd --help)"});
  } catch (const orcd::Error& error) {
    return fail(1, {error.line().c_str()});
  } catch (const std::bad_alloc&) {
    return fail(1, {orcd::out_of_memory().line().c_str()});
  } catch (const std::exception& error) {
    return fail(1, {"INTERNAL: ", error.what(),
                    "; the system refused what the worker needs: see its limits (ulimit -a)"});
  }
}
