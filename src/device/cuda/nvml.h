// What the driver's management library says of a device's memory: a second witness beside cudaMemGetInfo.
// The library is opened at run time; where it is missing, that is an answer and not an error.
#pragma once

#include <string>

#include "device/device.h"

namespace orcd::cuda {

// pci_bus_id: "0000:1b:00.0", as cudaDeviceGetPCIBusId gives it.
device::DriverMemory read_driver_memory(const std::string& pci_bus_id);

}  // namespace orcd::cuda
