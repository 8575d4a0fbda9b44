// The real worker, served by the real command line, whose device context is destroyed by a kernel that traps
// when the process gets SIGUSR1: what a fault of the hardware or of a kernel does to it. Takes the options of
// `serve`.
#include <pthread.h>
#include <signal.h>

#include <cstdio>
#include <string>
#include <thread>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "gpu/trap.h"

int main(int argc, char** argv) {
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &usr1, nullptr);
  signal(SIGPIPE, SIG_IGN);
  try {
    const auto options = orcd::cli::parse_options(argc, argv);
    if (!options || !options->device.starts_with("cuda:")) return 2;
    const int device = std::stoi(options->device.substr(5));
    std::thread([usr1, device] {
      int number = 0;
      sigwait(&usr1, &number);
      std::fprintf(stderr, "trap_worker: %s\n", orcd::test::destroy_context(device));
    }).detach();
    return orcd::cli::serve(*options);
  } catch (const orcd::cli::UsageError& error) {
    std::fprintf(stderr, "usage: %s\n", error.message.c_str());
    return 2;
  } catch (const orcd::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
