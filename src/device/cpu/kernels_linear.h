// The linear kernel's choice by format. Included by the vector kernels at their end, once
// linear_blocks<kType>() is there.
#pragma once

#include "device/cpu/kernels.h"

namespace orcd::cpu {
namespace {

void linear(const LinearArgs& args) {
  switch (args.type) {
    case TensorType::kQ4_0:
      return linear_blocks<TensorType::kQ4_0>(args);
    case TensorType::kQ4_1:
      return linear_blocks<TensorType::kQ4_1>(args);
    case TensorType::kQ5_0:
      return linear_blocks<TensorType::kQ5_0>(args);
    case TensorType::kQ5_1:
      return linear_blocks<TensorType::kQ5_1>(args);
    case TensorType::kQ8_0:
      return linear_blocks<TensorType::kQ8_0>(args);
    case TensorType::kIQ4_NL:
      return linear_blocks<TensorType::kIQ4_NL>(args);
    case TensorType::kMXFP4:
      return linear_blocks<TensorType::kMXFP4>(args);
    case TensorType::kQ2_K:
      return linear_blocks<TensorType::kQ2_K>(args);
    case TensorType::kQ3_K:
      return linear_blocks<TensorType::kQ3_K>(args);
    case TensorType::kIQ4_XS:
      return linear_blocks<TensorType::kIQ4_XS>(args);
    case TensorType::kQ4_K:
      return linear_blocks<TensorType::kQ4_K>(args);
    case TensorType::kQ5_K:
      return linear_blocks<TensorType::kQ5_K>(args);
    case TensorType::kQ6_K:
      return linear_blocks<TensorType::kQ6_K>(args);
    default:
      return linear_float_format(args);
  }
}

}  // namespace
}  // namespace orcd::cpu
