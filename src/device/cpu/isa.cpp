#include "device/cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <string>

#include "base/error.h"

namespace orcd::cpu {
namespace {

#if defined(__x86_64__)
// Clang 14 has no name for it in __builtin_cpu_supports: CPUID leaf 1, ECX bit 29.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    default:
      return "scalar";
  }
}

bool isa_available(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case Isa::kAvx512:
      return isa_available(Isa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    default:
      return true;
  }
#else
  return isa == Isa::kScalar;
#endif
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (isa_available(isa)) isas.push_back(isa);
  }
  return isas;
}

Isa choose_isa() {
  const char* wanted = std::getenv("ORCD_ISA");
  if (wanted == nullptr || *wanted == '\0') return available_isas().back();
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (isa_name(isa) != wanted) continue;
    if (isa_available(isa)) return isa;
    throw Error(ErrorCode::kInvalidRequest,
                "this processor cannot run the instruction set that ORCD_ISA asks for",
                {{"ORCD_ISA", std::string(wanted)}, {"best", std::string(isa_name(available_isas().back()))}},
                "unset ORCD_ISA");
  }
  throw Error(ErrorCode::kInvalidRequest, "ORCD_ISA names no instruction set",
              {{"ORCD_ISA", std::string(wanted)}}, "use scalar, avx2 or avx512, or unset it");
}

}  // namespace orcd::cpu
