#include "device/cuda/nvml.h"

#include <dlfcn.h>
#include <unistd.h>

#include <vector>

namespace orcd::cuda {
namespace {

// The part of the library's interface that is used here (NVML API reference, version 12 and later).
using NvmlDevice = struct nvmlDevice_st*;
struct NvmlMemory {
  unsigned long long total, free, used;
};
struct NvmlProcess {
  unsigned pid;
  unsigned long long used_bytes;  // ~0: not known
  unsigned gpu_instance, compute_instance;
};
constexpr int kSuccess = 0, kInsufficientSize = 7;

class Nvml {
 public:
  Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (!library_) {
      reason_ = "libnvidia-ml.so.1 cannot be opened";
      return;
    }
    load(&init_, "nvmlInit_v2");
    load(&shutdown_, "nvmlShutdown");
    load(&by_bus_id_, "nvmlDeviceGetHandleByPciBusId_v2");
    load(&memory_, "nvmlDeviceGetMemoryInfo");
    load(&processes_, "nvmlDeviceGetComputeRunningProcesses_v3");
    load(&driver_version_, "nvmlSystemGetDriverVersion");
    if (!reason_.empty()) return;
    const int status = init_();
    if (status != kSuccess) reason_ = "nvmlInit failed with status " + std::to_string(status);
    ready_ = status == kSuccess;
  }
  ~Nvml() {
    if (ready_) shutdown_();
    if (library_) dlclose(library_);
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  device::DriverMemory read(const std::string& pci_bus_id) {
    device::DriverMemory out;
    out.source = "NVML";
    out.reason = reason_;
    if (!ready_) return out;
    NvmlDevice device = nullptr;
    NvmlMemory memory = {};
    int status = by_bus_id_(pci_bus_id.c_str(), &device);
    if (status == kSuccess) status = memory_(device, &memory);
    if (status != kSuccess) {
      out.reason = "no answer for device " + pci_bus_id + ", status " + std::to_string(status);
      return out;
    }
    char version[96] = {};
    if (driver_version_(version, sizeof version) == kSuccess) out.driver_version = version;
    out.total_bytes = memory.total;
    out.free_bytes = memory.free;
    out.used_bytes = memory.used;
    out.process_bytes = process_bytes(device);
    return out;
  }

 private:
  // In a container with process numbers of its own the library's numbers are those outside: then nothing.
  std::optional<uint64_t> process_bytes(NvmlDevice device) {
    unsigned n = 0;
    int status = processes_(device, &n, nullptr);
    std::vector<NvmlProcess> list(n + 16);
    n = static_cast<unsigned>(list.size());
    if (status == kSuccess || status == kInsufficientSize) status = processes_(device, &n, list.data());
    if (status != kSuccess) return std::nullopt;
    for (unsigned i = 0; i < n; ++i)
      if (list[i].pid == static_cast<unsigned>(getpid()) && list[i].used_bytes != ~0ull)
        return list[i].used_bytes;
    return std::nullopt;
  }

  template <typename Function>
  void load(Function** function, const char* name) {
    *function = reinterpret_cast<Function*>(dlsym(library_, name));
    if (!*function && reason_.empty()) reason_ = std::string("libnvidia-ml.so.1 has no ") + name;
  }

  void* library_;
  std::string reason_;
  bool ready_ = false;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*by_bus_id_)(const char*, NvmlDevice*) = nullptr;
  int (*memory_)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*processes_)(NvmlDevice, unsigned*, NvmlProcess*) = nullptr;
  int (*driver_version_)(char*, unsigned) = nullptr;
};

}  // namespace

device::DriverMemory read_driver_memory(const std::string& pci_bus_id) { return Nvml().read(pci_bus_id); }

}  // namespace orcd::cuda
