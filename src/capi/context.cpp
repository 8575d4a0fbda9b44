// Contexts, devices and memory.
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "capi/cut_text.h"
#include "capi/entry.h"
#include "capi/objects.h"
#include "capi/structs.h"
#include "memory/ledger.h"

namespace orcd::capi {
namespace {

void need_device(uint32_t index) {
  const uint32_t count = device::device_count();
  if (index < count) return;
  throw CallError(ORCD_STATUS_INVALID_ARGUMENT, "there is no device with this index",
                  {{"index", uint64_t{index}}, {"count", uint64_t{count}}},
                  "ask orcd_device_count for the number of devices");
}

device::DeviceInfo device_at(uint32_t index) {
  need_device(index);
  return device::device_info(index);
}

// The models of a context on a device.
struct OnDevice {
  uint32_t n_models = 0, n_failed = 0;
  uint64_t bytes = 0;
  std::string reason;  // of the first one that failed
};

OnDevice models_on(const std::string& device, const orcd_context* context) {
  OnDevice found;
  registry().each(Kind::kModel, id_of(context), [&](Object& object) {
    auto& model = static_cast<Model&>(object);
    if (model.device().info().name != device) return;
    ++found.n_models;
    found.bytes += model.engine().ledger().total_bytes();
    const std::string reason = model.unhealthy_reason();
    if (reason.empty()) return;
    ++found.n_failed;
    if (found.reason.empty()) found.reason = reason;
  });
  return found;
}

// "VmHWM:   123 kB" of /proc/self/status, in bytes.
uint64_t status_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    uint64_t kilobytes = 0;
    if (word == key && file >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

void fill_process_memory(orcd_process_memory* result) {
  std::ifstream statm("/proc/self/statm");
  uint64_t virtual_pages = 0, resident_pages = 0;
  if (!(statm >> virtual_pages >> resident_pages))
    throw Error(ErrorCode::kInternal, "the system does not tell the memory of this process",
                {{"file", std::string("/proc/self/statm")}}, "mount /proc");
  const auto page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  result->virtual_bytes = virtual_pages * page_bytes;
  result->resident_bytes = resident_pages * page_bytes;
  // Two sources of one number: the peak is kept in a coarser count.
  result->peak_resident_bytes = std::max(status_bytes("VmHWM:"), result->resident_bytes);
  result->device_bytes = memory::Ledger::process_bytes();
  result->pinned_host_bytes = memory::Ledger::process_host_bytes();
}

}  // namespace
}  // namespace orcd::capi

using namespace orcd::capi;

orcd_status orcd_context_create(orcd_context** out_context) noexcept {
  return call([&] {
    need(out_context, "out_context");
    *out_context = nullptr;
    *out_context = handle_of<orcd_context>(registry().add(Kind::kContext, std::make_unique<Context>(), 0));
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_context_destroy(orcd_context* context) noexcept {
  return call([&] {
    registry().free(Kind::kContext, context);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_device_count(orcd_context* context, uint32_t* out_count) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Context>(context);
    need(out_count, "out_count");
    *out_count = orcd::device::device_count();
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_device_get_info(orcd_context* context, uint32_t index, orcd_device_info* out_info) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Context>(context);
    need_result(out_info, "out_info");
    const orcd::device::DeviceInfo info = device_at(index);
    orcd_device_info result{};
    result.usable = info.refusal.empty();
    result.total_bytes = info.total_bytes;
    result.free_bytes = info.free_bytes;
    result.driver_overhead_bytes = info.driver_overhead_bytes;
    result.n_threads = info.n_threads;
    result.cuda_runtime_version = info.cuda_runtime_version;
    copy_cut(info.name, result.name);
    copy_cut(info.isa, result.isa);
    copy_cut(info.description, result.description);
    copy_cut(info.refusal, result.refusal);
    write_result(result, out_info);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_device_get_memory(orcd_context* context, uint32_t index,
                                   orcd_device_memory* out_memory) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Context>(context);
    need_result(out_memory, "out_memory");
    need_device(index);
    const auto device = orcd::device::open_device({.name = orcd::device::device_name(index), .n_threads = 1});
    const OnDevice models = models_on(device->info().name, context);
    orcd_device_memory result{};
    result.n_models = models.n_models;
    result.total_bytes = device->info().total_bytes;
    result.free_bytes = device->free_bytes();
    result.reserved_bytes = device->info().reserved_bytes;
    result.models_bytes = models.bytes;
    write_result(result, out_memory);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_device_get_health(orcd_context* context, uint32_t index,
                                   orcd_device_health* out_health) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Context>(context);
    need_result(out_health, "out_health");
    const orcd::device::DeviceInfo info = device_at(index);
    const OnDevice models = models_on(info.name, context);
    const std::string& reason = info.refusal.empty() ? models.reason : info.refusal;
    orcd_device_health result{};
    result.healthy = reason.empty();
    result.n_models = models.n_models;
    result.n_failed = models.n_failed;
    copy_cut(reason, result.reason);
    write_result(result, out_health);
    return ORCD_STATUS_OK;
  });
}

orcd_status orcd_process_get_memory(orcd_context* context, orcd_process_memory* out_memory) noexcept {
  return call([&] {
    const auto pinned = registry().pin<Context>(context);
    need_result(out_memory, "out_memory");
    orcd_process_memory result{};
    fill_process_memory(&result);
    registry().each(Kind::kModel, 0, [&](Object&) { ++result.n_models; });
    write_result(result, out_memory);
    return ORCD_STATUS_OK;
  });
}
