#include <cstdio>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "server/http_server.h"

namespace orcd::cli {
namespace {

struct Finding {
  std::string what;
  bool fails = false, warns = false;
  std::string detail;
};

// Runs one check: its answer is the detail, an Error is the reason why it would fail.
Finding examine(const std::string& what, const std::function<std::string()>& look) {
  try {
    return {what, false, false, look()};
  } catch (const Error& error) {
    return {what, true, false, error.line()};
  } catch (const std::exception& error) {
    return {what, true, false, error.what()};
  }
}

Finding huge_pages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;
  if (!std::getline(file, line))
    return {"huge pages", false, true, "not offered by this kernel: decoding may be a little slower"};
  if (line.find("[never]") == line.npos) return {"huge pages", false, false, line};
  return {
      "huge pages", false, true,
      line + ": decoding may be a little slower; echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"};
}

std::string device_detail(const device::Device& device) {
  return device.info().description + ", " + format_bytes(device.free_bytes()) + " free";
}

// NVML beside the runtime: two witnesses of the same memory must agree, but for what other processes do
// between.
Finding driver_memory(const device::Device& device) {
  constexpr uint64_t kTolerance = 256 * kMiB;
  const std::optional<device::DriverMemory> driver = device.driver_memory();
  Finding finding{driver->source, false, false, driver->reason};
  if (!driver->reason.empty()) {
    finding.detail += ": no second witness of the device's memory";
    return finding;
  }
  const uint64_t free = device.free_bytes();
  const uint64_t apart = free > driver->free_bytes ? free - driver->free_bytes : driver->free_bytes - free;
  finding.warns = apart > kTolerance;
  finding.detail = "driver " + driver->driver_version + ", " + format_bytes(driver->free_bytes) +
                   " free of " + format_bytes(driver->total_bytes) + ", " +
                   (driver->process_bytes ? format_bytes(*driver->process_bytes) + " of this process"
                                          : std::string("this process not told apart"));
  if (finding.warns) finding.detail += "; the runtime says " + format_bytes(free) + " free";
  return finding;
}

Finding local_memory(const device::DeviceInfo& info) {
  return {"local memory", false, info.local_bytes_per_thread != 0,
          std::to_string(info.local_bytes_per_thread) + " bytes a thread in " +
              std::to_string(info.n_kernels) + " kernels"};
}

std::string fit_detail(const Options& options, const Model& model, const device::Device& device) {
  const device::ResolvedLimits limits = device.resolve(*model.program, limits_of(options));
  const memory::Plan plan = device.plan(*model.program, limits);
  std::string detail =
      format_bytes(plan.total_bytes()) + " with a context of " + std::to_string(limits.context);
  if (plan.host_peak_bytes() != 0)
    detail += ", and " + format_bytes(plan.host_peak_bytes()) + " of pinned host memory while loading";
  return detail;
}

std::vector<Finding> examine_all(const Options& options) {
  std::vector<Finding> findings;
  Model model;
  std::unique_ptr<device::Device> device;
  if (!options.model.empty()) {
    findings.push_back(examine("file", [&] {
      model = open_model(options.model);
      return model.program->spec.architecture + ", " + quant_kind(*model.file) + ", " +
             format_bytes(model.file->n_bytes());
    }));
  }
  if (!options.device.empty()) {
    findings.push_back(examine("device " + options.device, [&] {
      device = open_device(options);
      return device_detail(*device);
    }));
  } else {
    for (const device::DeviceInfo& info : device::list_devices())
      findings.push_back({"device " + info.name, false, !info.refusal.empty(),
                          info.refusal.empty() ? info.description : info.refusal});
    if (const std::string why = device::why_no_cuda(); !why.empty())
      findings.push_back({"CUDA devices", false, false, "none: " + why});
  }
  if (device) {
    const std::string& isa = device->info().isa;
    findings.push_back({"instruction set", false, isa == "scalar",
                        isa == "scalar" ? "scalar: some 20 times slower than AVX2" : isa});
    if (device->driver_memory()) {
      findings.push_back(
          {"driver overhead", false, false, format_bytes(device->info().driver_overhead_bytes)});
      findings.push_back(local_memory(device->info()));
      findings.push_back(driver_memory(*device));
    }
  }
  if (model.program && device)
    findings.push_back(examine("memory", [&] { return fit_detail(options, model, *device); }));
  findings.push_back(examine("port", [&] {
    const server::HttpServer probe({.host = options.host, .port = options.port},
                                   std::make_shared<server::Router>(server::AccessRules{}));
    return options.host + ":" + std::to_string(probe.port()) + " is free";
  }));
  findings.push_back(huge_pages());
  return findings;
}

}  // namespace

int doctor(const Options& options) {
  bool fails = false;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Finding& finding : examine_all(options)) {
    fails |= finding.fails;
    const char* status = finding.fails ? "fail" : finding.warns ? "warn" : "ok";
    list.push_back({{"check", finding.what}, {"status", status}, {"detail", finding.detail}});
    if (!options.json) std::printf("%-5s %-16s %s\n", status, finding.what.c_str(), finding.detail.c_str());
  }
  const nlohmann::ordered_json json = {{"ok", !fails}, {"checks", list}};
  if (options.json)
    std::printf("%s\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
  return fails ? 1 : 0;
}

}  // namespace orcd::cli
