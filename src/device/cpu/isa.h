// Instruction sets of the CPU device, chosen at run time. Every one gives the same bits.
#pragma once

#include <string_view>
#include <vector>

namespace orcd::cpu {

enum class Isa { kScalar, kAvx2, kAvx512 };

std::string_view isa_name(Isa isa);  // "scalar", "avx2", "avx512"
bool isa_available(Isa isa);         // this processor and this build can run it
std::vector<Isa> available_isas();   // in ascending order
// The best one, or the one that ORCD_ISA=scalar|avx2|avx512 names. Throws Error(kInvalidRequest) for an
// unknown name or one that this machine cannot run.
Isa choose_isa();

}  // namespace orcd::cpu
