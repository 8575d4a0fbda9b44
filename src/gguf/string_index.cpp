#include "gguf/string_index.h"

#include <array>
#include <bit>
#include <cstring>
#include <random>

namespace orcd::gguf {
namespace {

const std::array<uint64_t, 3>& secret() {
  static const std::array<uint64_t, 3> words = [] {
    std::random_device source;
    std::array<uint64_t, 3> out;
    for (uint64_t& word : out) word = (uint64_t{source()} << 32 | source()) | 1;
    return out;
  }();
  return words;
}

uint64_t fold(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint32_t hash_of(std::string_view text) {
  const auto& keys = secret();
  uint64_t state = keys[0] ^ text.size();
  size_t i = 0;
  for (; text.size() - i >= 8; i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    state = fold(state ^ word, keys[1]) + keys[2];
  }
  uint64_t tail = 0;
  if (i < text.size()) std::memcpy(&tail, text.data() + i, text.size() - i);
  return static_cast<uint32_t>(fold(fold(state ^ tail, keys[1]) + keys[0], keys[2]));
}

}  // namespace

StringIndex::StringIndex(size_t n_expected) : slots_(std::bit_ceil(n_expected * 2 + 2)) {}

size_t StringIndex::probe(std::string_view text, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t at = hash & mask;
  while (slots_[at].data != nullptr) {
    const Slot& slot = slots_[at];
    if (slot.hash == hash && std::string_view(slot.data, slot.size) == text) break;
    at = (at + 1) & mask;
  }
  return at;
}

std::optional<uint32_t> StringIndex::insert(std::string_view text, uint32_t index) {
  if ((n_used_ + 1) * 2 > slots_.size()) grow();
  const uint32_t hash = hash_of(text);
  Slot& slot = slots_[probe(text, hash)];
  if (slot.data != nullptr) return slot.index;
  slot = {text.data() != nullptr ? text.data() : "", text.size(), hash, index};
  ++n_used_;
  return std::nullopt;
}

std::optional<uint32_t> StringIndex::find(std::string_view text) const {
  const Slot& slot = slots_[probe(text, hash_of(text))];
  return slot.data != nullptr ? std::optional(slot.index) : std::nullopt;
}

void StringIndex::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.data == nullptr) continue;
    size_t at = slot.hash & mask;
    while (slots_[at].data != nullptr) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

}  // namespace orcd::gguf
