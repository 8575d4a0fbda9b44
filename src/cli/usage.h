// What a usage error lists.
#pragma once

#include <string>

namespace orcd::cli {

// "cpu, cuda:0": the devices of this machine.
std::string device_names();

}  // namespace orcd::cli
