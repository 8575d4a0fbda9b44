// Memory held back for the moment when there is no more: with it what is under way can end in order,
// destructors that need memory included (those of nlohmann's JSON do, and must not throw).
#pragma once

namespace orcd {

// At the start of a program: from then on an allocation that fails gets the reserve and succeeds; the next
// one that fails throws std::bad_alloc.
void hold_memory_reserve();

// False while the reserve is spent: no new work then. Tries to fill it again first. True where none was ever
// held.
bool memory_reserve_is_whole() noexcept;

}  // namespace orcd
