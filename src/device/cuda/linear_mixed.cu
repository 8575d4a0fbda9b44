// One token through weights of two formats in one launch: the value projection of llama.cpp's Q4_K_M and
// Q5_K_M mixes is often of a finer format than those of queries and keys.
#include <utility>

#include "device/cuda/linear_token.cuh"

namespace orcd::cuda {
namespace {

constexpr std::pair<TensorType, TensorType> kMixes[] = {{TensorType::kQ4_K, TensorType::kQ6_K},
                                                        {TensorType::kQ5_K, TensorType::kQ6_K},
                                                        {TensorType::kQ5_0, TensorType::kQ8_0},
                                                        {TensorType::kQ5_1, TensorType::kQ8_0}};

// Calls the function of mix i with its formats as template arguments.
template <typename Function>
void for_mix(size_t i, Function function) {
  const auto call = [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
    ((i == kIndex ? function.template operator()<kMixes[kIndex].first, kMixes[kIndex].second>() : void()),
     ...);
  };
  call(std::make_index_sequence<std::size(kMixes)>());
}

size_t find_mix(TensorType type, TensorType other) {
  return static_cast<size_t>(std::find(std::begin(kMixes), std::end(kMixes), std::pair(type, other)) -
                             std::begin(kMixes));
}

}  // namespace

bool can_mix(TensorType type, TensorType other) { return find_mix(type, other) < std::size(kMixes); }

void prepare_mixed(Calls* calls) {
  for (size_t i = 0; i < std::size(kMixes); ++i) {
    for_mix(i, [&]<TensorType kType, TensorType kOther>() {
      calls->allow_shared(reinterpret_cast<const void*>(token_kernel<kType, kOther>), kMostShared);
    });
  }
}

void launch_mixed_token(Calls* calls, uint32_t n_sm, TensorType type, TensorType other,
                        const LinearArgs& args) {
  for_mix(find_mix(type, other),
          [&]<TensorType kType, TensorType kOther>() { launch_token<kType, kOther>(calls, n_sm, args); });
}

}  // namespace orcd::cuda
