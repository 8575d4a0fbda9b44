#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/version.h"
#include "device/device.h"
#include "engine/request.h"

namespace orcd::cli {
namespace {

const char* compiled_devices() { return ORCD_COMPILED_DEVICES; }

}  // namespace

int devices(const Options& options) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const device::DeviceInfo& info : device::list_devices()) {
    list.push_back({{"device", info.name},
                    {"description", info.description},
                    {"isa", info.isa},
                    {"total_bytes", info.total_bytes},
                    {"free_bytes", info.free_bytes},
                    {"threads", info.n_threads},
                    {"cuda_runtime_version", info.cuda_runtime_version},
                    {"driver_overhead_bytes", info.driver_overhead_bytes},
                    {"local_bytes_per_thread", info.local_bytes_per_thread},
                    {"refusal", info.refusal.empty() ? nlohmann::ordered_json(nullptr)
                                                     : nlohmann::ordered_json(info.refusal)}});
    if (!options.json && !info.refusal.empty()) {
      std::printf("%-8s cannot be used: %s\n", info.name.c_str(), info.refusal.c_str());
    } else if (!options.json) {
      std::printf("%-8s %s; %s free of %s\n", info.name.c_str(), info.description.c_str(),
                  format_bytes(info.free_bytes).c_str(), format_bytes(info.total_bytes).c_str());
    }
  }
  const std::string no_cuda = device::why_no_cuda();
  if (options.json) {
    const nlohmann::ordered_json json = {
        {"devices", list},
        {"no_cuda", no_cuda.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(no_cuda)}};
    std::printf("%s\n", json.dump(2).c_str());
  } else if (!no_cuda.empty()) {
    std::printf("%-8s none: %s\n", "cuda", no_cuda.c_str());
  }
  return 0;
}

int version(const Options& options) {
  const uint32_t numerics = engine::Receipt{}.numerics_version;
  if (options.json) {
    const nlohmann::ordered_json json = {{"version", kVersion},
                                         {"numerics_version", numerics},
                                         {"devices", compiled_devices()},
                                         {"compiler", ORCD_COMPILER},
                                         {"build_type", ORCD_BUILD_TYPE}};
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("worker-orcd %s, numerics %u, devices %s, %s %s\n", kVersion, numerics, compiled_devices(),
                ORCD_COMPILER, ORCD_BUILD_TYPE);
  }
  return 0;
}

}  // namespace orcd::cli
