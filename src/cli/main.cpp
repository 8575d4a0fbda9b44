// worker-orcd: parses the command line, runs one subcommand, and turns failures into one line and an exit
// code.
#include <csignal>
#include <cstdio>
#include <exception>

#include "base/error.h"
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

// One line, whatever a message quotes.
int fail(const char* text, int code) {
  for (const char* c = text; *c; ++c) std::fputc(*c == '\n' || *c == '\r' ? ' ' : *c, stderr);
  std::fputc('\n', stderr);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that left is an error of the write, not the end of the process
  try {
    const auto options = orcd::cli::parse_options(argc, argv);
    const int code = options ? dispatch(*options) : 0;
    if (std::fflush(stdout) != 0) return fail("INTERNAL: cannot write to stdout", 1);
    return code;
  } catch (const orcd::cli::UsageError& error) {
    return fail(("usage: " + error.message + " (see worker-orcd --help)").c_str(), 2);
  } catch (const orcd::Error& error) {
    return fail(error.line().c_str(), 1);
  } catch (const std::exception& error) {
    return fail((std::string("INTERNAL: ") + error.what()).c_str(), 1);
  }
}
