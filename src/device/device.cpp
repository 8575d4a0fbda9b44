#include "device/device.h"

#include <charconv>
#include <string>

#include "base/error.h"
#include "device/cpu/cpu_device.h"
#include "device/cuda_device.h"
#include "device/fault/fault_device.h"

namespace orcd::device {

std::unique_ptr<Device> open_device(const DeviceRequest& request) {
  if (request.name == "cpu") return cpu::open_cpu_device(request.n_threads);
  if (request.name.starts_with("cuda:")) {
    const std::string digits = request.name.substr(5);
    uint32_t index = 0;
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (status == std::errc() && end == digits.data() + digits.size() && !digits.empty())
      return open_cuda_device(index);
  }
  if (request.name.starts_with(fault::kNamePrefix)) {
    const fault::Name name = fault::parse_name(request.name);
    return fault::make_device(open_device({name.device, request.n_threads}),
                              std::make_shared<fault::Faults>(name.plan));
  }
  throw Error(ErrorCode::kInvalidRequest, "unknown device", {{"device", request.name}}, "use cpu or cuda:N");
}

uint32_t device_count() { return 1 + count_cuda_devices().n; }

std::string device_name(uint32_t index) { return index == 0 ? "cpu" : "cuda:" + std::to_string(index - 1); }

DeviceInfo device_info(uint32_t index) {
  DeviceInfo info;
  info.name = device_name(index);
  try {
    return open_device({.name = info.name})->info();
  } catch (const Error& error) {
    info.refusal = error.line();
  }
  return info;
}

std::vector<DeviceInfo> list_devices() {
  std::vector<DeviceInfo> devices;
  for (uint32_t index = 0, n = device_count(); index < n; ++index) devices.push_back(device_info(index));
  return devices;
}

std::string why_no_cuda() { return count_cuda_devices().why_none; }

}  // namespace orcd::device
