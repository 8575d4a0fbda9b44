// The subcommands: one file each. They print to stdout, throw Error, and return the exit code.
#pragma once

#include "cli/options.h"

namespace orcd::cli {

int serve(const Options& options);
int run(const Options& options);
int plan(const Options& options);
int inspect(const Options& options);
int check(const Options& options);
int tokenize(const Options& options);
int detokenize(const Options& options);
int perplexity(const Options& options);
int bench(const Options& options);
int devices(const Options& options);
int doctor(const Options& options);
int verify(const Options& options);
int version(const Options& options);

}  // namespace orcd::cli
