// worker-orcd: parses the command line, runs one subcommand, and turns failures into one line and an exit
// code.
#include <csignal>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <new>

#include "base/error.h"
#include "base/memory_reserve.h"
#include "cli/commands.h"
#include "cli/options.h"

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
    case Command::kVersion:
      return version(options);
  }
  return 2;
}

// One line, whatever a message quotes. Takes no memory.
int fail(int code, std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    for (const char* c = part; *c; ++c) std::fputc(*c == '\n' || *c == '\r' ? ' ' : *c, stderr);
  }
  std::fputc('\n', stderr);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  orcd::hold_memory_reserve();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that left is an error of the write, not the end of the process
  try {
    const auto options = orcd::cli::parse_options(argc, argv);
    const int code = options ? dispatch(*options) : 0;
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
      return fail(1, {"INTERNAL: cannot write to stdout"});
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
